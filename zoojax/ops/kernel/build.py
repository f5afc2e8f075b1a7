"""Compiles the kernel for an architecture, once per host, and registers it with XLA."""

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
from zoojax.ops.kernel.spec import NetworkSizes
from zoojax.runtime import host
from zoojax.text import printable

_SOURCES = Path(__file__).parent
# The code is vectorized explicitly. Contraction to fused multiply-adds is allowed; reordering and
# assuming the absence of NaNs are not.
_FLAGS = (
    *("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared"),
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
)
# The largest supported sizes; the workspace of one thread stays below 1 GB.
_MAX_SIDE, _MAX_CHANNELS, _MAX_FEATURES, _MAX_UNITS = 64, 64, 64, 1024
_MAX_BYTES = 64 * MIB
_SWITCH = "ZOOJAX_KERNEL"
_TARGETS = ("train", "evaluate")


class _Unavailable(Exception):
    """The kernel cannot be used; the message is one line."""


def unavailable_reason(arch: NetworkSizes) -> str | None:
    """Returns why the kernel cannot be used for an architecture; None if it can be.

    The first call for an architecture compiles and loads the kernel.

    Args:
        arch: The architecture.
    """
    try:
        register_targets(arch)
    except _Unavailable as error:
        return str(error)
    return None


@functools.cache
def _compiler() -> str:
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        if name and (path := shutil.which(name)):
            return path
    raise _Unavailable("no C++ compiler was found (g++ or clang++, or set CXX)")


def register_targets(arch: NetworkSizes) -> str:
    """Registers the kernel for an architecture with XLA, compiling it if needed.

    Args:
        arch: The architecture.

    Returns:
        The prefix of its target names.

    Raises:
        _Unavailable: If the kernel cannot be used for it on this host.
    """
    if os.environ.get(_SWITCH) == "off":
        raise _Unavailable(f"it is switched off ({_SWITCH}=off)")
    outcome = _register_once(tuple(_macros(arch)))
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


def _macros(arch: NetworkSizes) -> list[str]:
    """Returns an architecture as compiler options that consist of fixed names and integers.

    Raises:
        _Unavailable: If the kernel does not support the architecture.
    """
    if len(arch.convs) != 3 or any(conv.pool not in (1, 2) for conv in arch.convs):
        raise _Unavailable("it supports only three convolutions with pooling by two or none")
    convs, side = [], arch.size
    for i, conv in enumerate(arch.convs, start=1):
        sizes = [
            _size("features", conv.features, _MAX_FEATURES),
            _size("kernel side", conv.kernel, _MAX_SIDE),
            _size("pooling side", conv.pool, 2),
            "1" if conv.dropout else "0",
        ]
        convs.append(f"-DZOOJAX_CONV{i}={','.join(sizes)}")
    sizes = {
        "SIZE": _size("image side", arch.size, _MAX_SIDE),
        "CHANNELS": _size("channels", arch.channels, _MAX_CHANNELS),
        "HIDDEN": _size("hidden width", arch.hidden, _MAX_UNITS),
        "CLASSES": _size("classes", arch.classes, _MAX_UNITS),
    }
    for conv in arch.convs:
        side = (side - conv.kernel + 1) // conv.pool
        if side < 1:
            raise _Unavailable(f"the convolutions leave nothing of {arch.size} pixels")
    return [*(f"-DZOOJAX_{name}={size}" for name, size in sizes.items()), *convs]


def _size(what: str, value: object, limit: int) -> str:
    # Exactly int: other types could format as more than digits.
    if type(value) is not int or not 1 <= value <= limit:
        raise _Unavailable(f"it supports 1 to {limit} {what}, not {printable(repr(value), 100)}")
    return str(value)


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
        macros: Compiler options of the architecture.

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
        macros: Compiler options of the architecture.

    Raises:
        _Unavailable: If it cannot be compiled.
        OSError: If it cannot be written or loaded.
    """
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as scratch:
        output = Path(scratch) / f"{name}.so"
        include = ["-isystem", jax.ffi.include_dir()]
        command = [_compiler(), *_FLAGS, *include, *macros, str(_SOURCES / "cnn.cc")]
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
