"""Compiles the kernel for an architecture, once a machine, and registers it with XLA."""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import jax

from zoojax import machine
from zoojax.architectures import Architecture

_SOURCES = Path(__file__).parent
# The vector code is explicit. Contraction makes fused multiply-adds; nothing may be
# reordered, and NaNs are kept.
_FLAGS = (
    *("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared"),
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
)
_SWITCH = "ZOOJAX_KERNEL"
_TARGETS = ("train", "evaluate")


class _Unavailable(Exception):
    """Why there is no kernel: one line."""


def why_not(arch: Architecture) -> str | None:
    """Why the kernel cannot be used for an architecture; None if it can.

    Builds and loads it, the first time.
    """
    try:
        prefix(arch)
    except _Unavailable as error:
        return str(error)
    return None


@functools.cache
def _compiler() -> str:
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        if name and (found := shutil.which(name)):
            return found
    raise _Unavailable("no C++ compiler was found (g++ or clang++, or set CXX)")


@functools.cache
def prefix(arch: Architecture) -> str:
    """What the kernel's names begin with in XLA, for an architecture.

    Raises:
        _Unavailable: there is no kernel for it here.
    """
    if os.environ.get(_SWITCH) == "off":
        raise _Unavailable(f"it is switched off ({_SWITCH}=off)")
    if len(arch.convs) != 3 or any(conv.pool > 2 for conv in arch.convs):
        raise _Unavailable("it is written for three convolutions, pooled by two or not at all")
    name = _name(arch)
    library = ctypes.CDLL(str(_built(arch, name)))
    for target in _TARGETS:
        capsule = jax.ffi.pycapsule(getattr(library, f"zoojax_{target}"))
        jax.ffi.register_ffi_target(f"{name}_{target}", capsule, platform="cpu")
    return name


def _macros(arch: Architecture) -> list[str]:
    convs = [
        f"-DZOOJAX_CONV{i}={c.features},{c.kernel},{c.pool},{int(c.dropout)}"
        for i, c in enumerate(arch.convs, start=1)
    ]
    return [
        f"-DZOOJAX_SIZE={arch.size}",
        f"-DZOOJAX_CHANNELS={arch.channels}",
        f"-DZOOJAX_HIDDEN={arch.hidden}",
        f"-DZOOJAX_CLASSES={arch.classes}",
        *convs,
    ]


def _name(arch: Architecture) -> str:
    """Differs with all that the library depends on, the kind of processor included."""
    version = subprocess.run([_compiler(), "--version"], capture_output=True, check=False).stdout
    sources = [file.read_bytes() for file in sorted(_SOURCES.glob("*.[hc]*"))]
    parts = [*_FLAGS, *_macros(arch), jax.__version__, machine.processor()]
    digest = hashlib.sha256(b"\0".join([version, *sources, *(p.encode() for p in parts)]))
    return f"zoojax_{arch.name}_{digest.hexdigest()[:16]}"


def _built(arch: Architecture, name: str) -> Path:
    folder = machine.cache("kernels")
    path = folder / f"{name}.so"
    if path.exists():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / path.name
            include = ["-isystem", jax.ffi.include_dir()]
            command = [_compiler(), *_FLAGS, *include, *_macros(arch)]
            command += [str(_SOURCES / "cnn.cc"), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                first = next((x for x in done.stderr.splitlines() if "error" in x), "no message")
                raise _Unavailable(f"{_compiler()} could not compile it ({first.strip()})")
            made.replace(path)
    except OSError as error:
        raise _Unavailable(f"it cannot be kept in {folder} ({error.strerror or error})") from error
    return path
