"""Compiles the kernel for a chain of operations, once per host, and registers it with XLA."""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax

from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import MIB, read_bytes
from zoojax.ops.kernel import lowering
from zoojax.ops.kernel.spec import KernelSpec
from zoojax.runtime import host
from zoojax.text import printable

_SOURCES = Path(__file__).parent
# The code is vectorized explicitly. Contraction to fused multiply-adds is allowed; reordering and
# assuming the absence of NaNs are not.
_FLAGS = (
    *("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared"),
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
)
_MAX_BYTES = 64 * MIB
_SWITCH = "ZOOJAX_KERNEL"
_TARGETS = ("train", "adam", "outputs", "evaluate")


class _Unavailable(Exception):
    """The kernel cannot be used; the message is one line."""


def unavailable_reason(spec: KernelSpec) -> str | None:
    """Returns why the kernel cannot be used for a chain of operations; None if it can be.

    The first call for a chain compiles and loads the kernel.

    Args:
        spec: The chain.
    """
    try:
        register_targets(spec)
    except _Unavailable as error:
        return str(error)
    return None


@functools.cache
def _compiler() -> str:
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        if name and (path := shutil.which(name)):
            return path
    raise _Unavailable("no C++ compiler was found (g++ or clang++, or set CXX)")


def register_targets(spec: KernelSpec) -> str:
    """Registers the kernel for a chain of operations with XLA, compiling it if needed.

    Args:
        spec: The chain.

    Returns:
        The prefix of its target names.

    Raises:
        _Unavailable: If the kernel cannot be used for it on this host.
    """
    if os.environ.get(_SWITCH) == "off":
        raise _Unavailable(f"it is switched off ({_SWITCH}=off)")
    try:
        macros = tuple(lowering.macros(spec))
    except lowering.Unsupported as error:
        raise _Unavailable(str(error)) from error
    outcome = _register_once(macros)
    if isinstance(outcome, _Unavailable):
        raise _Unavailable(str(outcome))
    return outcome


@functools.cache
def _register_once(macros: tuple[str, ...]) -> str | _Unavailable:
    """Loads and registers a kernel; failures are cached, too.

    Returns:
        The prefix of its target names, or why it is unavailable.
    """
    try:
        name = _library_name(macros)
        library = _load_or_compile(name, macros)
    except _Unavailable as reason:
        return reason
    except OSError as error:
        return _Unavailable(f"{_compiler()} cannot be started ({error.strerror or error})")
    for target in _TARGETS:
        capsule = jax.ffi.pycapsule(library[_symbol(target)])
        jax.ffi.register_ffi_target(f"{name}_{target}", capsule, platform="cpu")
    return name


def _symbol(target: str) -> str:
    return f"zoojax_{target}"


def _library_name(macros: Sequence[str]) -> str:
    """Returns a name with a hash of everything the library depends on, including the CPU."""
    version = subprocess.run([_compiler(), "--version"], capture_output=True, check=False).stdout
    sources = [file.read_bytes() for file in sorted(_SOURCES.glob("*.[hc]*"))]
    parts = [*_FLAGS, *macros, jax.__version__, host.cpu_fingerprint()]
    digest = hashlib.sha256(b"\0".join([version, *sources, *(p.encode() for p in parts)]))
    return f"zoojax_{digest.hexdigest()[:32]}"


def _load_or_compile(name: str, macros: Sequence[str]) -> ctypes.CDLL:
    """Loads a library from the user's cache, or compiles it and adds it to the cache.

    If the cache folder is not private, the library is compiled in a temporary folder.

    Args:
        name: Name of the library.
        macros: Compiler options of the chain.

    Raises:
        _Unavailable: If it cannot be compiled or loaded.
    """
    folder = host.private_cache_dir("kernels")
    if folder is not None:
        cached = _load_cached(folder / f"{name}.so")
        if cached is not None:
            return cached
        try:
            return _compile(folder, name, macros)
        except OSError as error:
            message = f"compiled code is not cached: {folder}: {error.strerror or error}"
            host.warn_cache_unused("kernels", message)
    try:
        return _compile(None, name, macros)
    except OSError as error:
        raise _Unavailable(f"it cannot be loaded ({error.strerror or error})") from error


def _load_cached(path: Path) -> ctypes.CDLL | None:
    """Loads a cached library if it is private and unchanged; None if it must be recompiled.

    The hash is checked before loading, as loading a truncated library crashes the process.
    """
    try:
        if not host.is_private(path):
            message = f"{path} could have been changed by others; it is recompiled"
            host.warn_cache_unused("kernels", message)
            return None
        digest = read_bytes(_digest_file(path), 100).decode("ascii", "replace").strip()
        if hashlib.sha256(read_bytes(path, _MAX_BYTES)).hexdigest() == digest:
            return _load(path)
    except (OSError, ZoojaxError):
        return None
    return None


def _digest_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _load(path: Path) -> ctypes.CDLL:
    """Loads a library.

    Raises:
        OSError: If it cannot be loaded, or lacks a function.
    """
    library = ctypes.CDLL(str(path))
    for target in _TARGETS:
        if not hasattr(library, _symbol(target)):
            raise OSError(f"{path} has no {_symbol(target)}")
    return library


def _compile(folder: Path | None, name: str, macros: Sequence[str]) -> ctypes.CDLL:
    """Compiles and loads a library, and stores it in the cache.

    Args:
        folder: The cache folder; None to store nothing.
        name: Name of the library.
        macros: Compiler options of the chain.

    Raises:
        _Unavailable: If it cannot be compiled.
        OSError: If it cannot be written or loaded.
    """
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as scratch:
        output = Path(scratch) / f"{name}.so"
        include = ["-isystem", jax.ffi.include_dir()]
        command = [_compiler(), *_FLAGS, *include, *macros, str(_SOURCES / "kernel.cc")]
        result = subprocess.run(
            [*command, "-o", str(output)], capture_output=True, text=True, errors="replace"
        )
        if result.returncode != 0:
            first = next((x for x in result.stderr.splitlines() if "error" in x), "no message")
            raise _Unavailable(f"{_compiler()} could not compile it ({printable(first.strip())})")
        # Independent of the umask: only private files are loaded from the cache.
        output.chmod(0o700)
        # Load it before moving it: the loader identifies libraries by path and could return one
        # that was loaded from the final path before.
        library = _load(output)
        if folder is not None:
            digest = _digest_file(output)
            digest.write_text(hashlib.sha256(output.read_bytes()).hexdigest())
            digest.chmod(0o600)
            output.replace(folder / output.name)
            digest.replace(folder / digest.name)
        return library
