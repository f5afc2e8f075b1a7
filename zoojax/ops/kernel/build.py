"""Compiles the kernel for an architecture, once a machine, and registers it with XLA."""

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
# The vector code is explicit. Contraction makes fused multiply-adds; nothing may be
# reordered, and NaNs are kept.
_FLAGS = (
    *("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared"),
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
)
# The largest sizes that it is compiled for: what one thread works in stays below 1 GB.
_MOST_SIDE, _MOST_CHANNELS, _MOST_FEATURES, _MOST_UNITS = 64, 64, 64, 1024
_MOST_BYTES = 64 * MIB
_SWITCH = "ZOOJAX_KERNEL"
_TARGETS = ("train", "evaluate")


class _Unavailable(Exception):
    """Why there is no kernel: one line."""


def unavailable_reason(arch: NetworkSizes) -> str | None:
    """Why the kernel cannot be used for an architecture; None if it can.

    Builds and loads it, the first time.
    """
    try:
        register_targets(arch)
    except _Unavailable as error:
        return str(error)
    return None


@functools.cache
def _compiler() -> str:
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        if name and (found := shutil.which(name)):
            return found
    raise _Unavailable("no C++ compiler was found (g++ or clang++, or set CXX)")


def register_targets(arch: NetworkSizes) -> str:
    """What the kernel's names begin with in XLA, for an architecture.

    Raises:
        _Unavailable: there is no kernel for it here.
    """
    if os.environ.get(_SWITCH) == "off":
        raise _Unavailable(f"it is switched off ({_SWITCH}=off)")
    macros = _macros(arch)
    outcome = _registered(tuple(macros))
    if isinstance(outcome, _Unavailable):
        raise _Unavailable(str(outcome))
    return outcome


@functools.cache
def _registered(macros: tuple[str, ...]) -> str | _Unavailable:
    """The prefix, of a kernel that is loaded; or why it is not: compiled once, or refused once."""
    try:
        name = _name(macros)
        library = _library(name, macros)
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
    """The architecture for the compiler's command line: numbers and nothing else.

    Raises:
        _Unavailable: it is not one that the kernel is written for.
    """
    if len(arch.convs) != 3 or any(conv.pool not in (1, 2) for conv in arch.convs):
        raise _Unavailable("it is written for three convolutions, pooled by two or not at all")
    convs, side = [], arch.size
    for i, conv in enumerate(arch.convs, start=1):
        sizes = [
            _size("features", conv.features, _MOST_FEATURES),
            _size("kernel side", conv.kernel, _MOST_SIDE),
            _size("pooling side", conv.pool, 2),
            "1" if conv.dropout else "0",
        ]
        convs.append(f"-DZOOJAX_CONV{i}={','.join(sizes)}")
    sizes = {
        "SIZE": _size("image side", arch.size, _MOST_SIDE),
        "CHANNELS": _size("channels", arch.channels, _MOST_CHANNELS),
        "HIDDEN": _size("hidden width", arch.hidden, _MOST_UNITS),
        "CLASSES": _size("classes", arch.classes, _MOST_UNITS),
    }
    for conv in arch.convs:
        side = (side - conv.kernel + 1) // conv.pool
        if side < 1:
            raise _Unavailable(f"the convolutions leave nothing of {arch.size} pixels")
    return [*(f"-DZOOJAX_{name}={size}" for name, size in sizes.items()), *convs]


def _size(what: str, value: object, most: int) -> str:
    # Exactly an int: anything else could write more than digits.
    if type(value) is not int or not 1 <= value <= most:
        raise _Unavailable(
            f"it is written for 1 to {most} {what}, not {printable(repr(value), 100)}"
        )
    return str(value)


def _name(macros: Sequence[str]) -> str:
    """Differs with all that the library depends on, the kind of processor included."""
    version = subprocess.run([_compiler(), "--version"], capture_output=True, check=False).stdout
    sources = [file.read_bytes() for file in sorted(_SOURCES.glob("*.[hc]*"))]
    parts = [*_FLAGS, *macros, jax.__version__, host.cpu_fingerprint()]
    digest = hashlib.sha256(b"\0".join([version, *sources, *(p.encode() for p in parts)]))
    return f"zoojax_{digest.hexdigest()[:32]}"


def _library(name: str, macros: Sequence[str]) -> ctypes.CDLL:
    """The library of that name from the user's cache, or compiled and kept there.

    It is compiled into a temporary folder where the cache is not this user's alone.

    Raises:
        _Unavailable: it cannot be compiled or loaded.
    """
    folder = host.private_cache_dir("kernels")
    if folder is not None:
        kept = _kept(folder / f"{name}.so")
        if kept is not None:
            return kept
        try:
            return _compiled(folder, name, macros)
        except OSError as error:
            message = f"compiled code is not kept: {folder}: {error.strerror or error}"
            host.warn_of_cache("kernels", message)
    try:
        return _compiled(None, name, macros)
    except OSError as error:
        raise _Unavailable(f"it cannot be loaded ({error.strerror or error})") from error


def _kept(path: Path) -> ctypes.CDLL | None:
    """A library that was kept, if it is as it was compiled; None to compile it again.

    Nothing of a file is loaded before it is known to be whole: a truncated library ends the
    process.
    """
    try:
        if not host.is_private(path):
            message = f"{path} could have been changed by others; it is compiled again"
            host.warn_of_cache("kernels", message)
            return None
        digest = read_bytes(_digest_file(path), 100).decode("ascii", "replace").strip()
        if hashlib.sha256(read_bytes(path, _MOST_BYTES)).hexdigest() == digest:
            return _loaded(path)
    except (OSError, ZoojaxError):
        return None
    return None


def _digest_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _loaded(path: Path) -> ctypes.CDLL:
    """Loads a library; OSError if that fails or it lacks a function."""
    library = ctypes.CDLL(str(path))
    for target in _TARGETS:
        if not hasattr(library, _symbol(target)):
            raise OSError(f"{path} has no {_symbol(target)}")
    return library


def _compiled(folder: Path | None, name: str, macros: Sequence[str]) -> ctypes.CDLL:
    """Compiles a library, loads it, and keeps it in a folder if there is one.

    Raises:
        _Unavailable: it cannot be compiled.
        OSError: it cannot be written, or not loaded.
    """
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as scratch:
        made = Path(scratch) / f"{name}.so"
        include = ["-isystem", jax.ffi.include_dir()]
        command = [_compiler(), *_FLAGS, *include, *macros, str(_SOURCES / "cnn.cc")]
        done = subprocess.run(
            [*command, "-o", str(made)], capture_output=True, text=True, errors="replace"
        )
        if done.returncode != 0:
            first = next((x for x in done.stderr.splitlines() if "error" in x), "no message")
            raise _Unavailable(f"{_compiler()} could not compile it ({printable(first.strip())})")
        # Whatever the umask: only private files are loaded from the cache.
        made.chmod(0o700)
        # Before it is moved: the loader would take it for one that it has loaded by that path.
        library = _loaded(made)
        if folder is not None:
            digest = _digest_file(made)
            digest.write_text(hashlib.sha256(made.read_bytes()).hexdigest())
            digest.chmod(0o600)
            made.replace(folder / made.name)
            digest.replace(folder / digest.name)
        return library
