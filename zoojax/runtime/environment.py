"""Checks what JAX and XLA would end the process on, or wait for forever, before they start."""

import _thread
import contextlib
import mmap
import os
import sys
from collections.abc import Iterator

from zoojax.errors import ZoojaxError
from zoojax.runtime import host
from zoojax.text import printable

# What results depend on is the same whatever the user's JAX is set to.
_FIXED = {
    "jax_enable_x64": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    "jax_random_seed_offset": 0,
    "jax_threefry_partitionable": True,
}
_DEVICES = "JAX_NUM_CPU_DEVICES"
_MOST_DEVICES = 4096
# Threads that a command has at its busiest, measured: of JAX, Orbax, TensorStore and Polars.
_THREADS, _THREADS_A_CORE, _THREADS_A_DEVICE = 40, 6, 2
# Address space that they and what they load take besides the stacks.
_ADDRESSES = 1400 * 2**20
# Any use of XLA's flags parses them.
_PARSE_FLAGS = (
    "from jaxlib import xla_client; "
    "xla_client.CompileOptions().executable_build_options.debug_options"
)


def check_environment() -> None:
    """Checks what can be without JAX, imports it and sets what results depend on.

    Raises:
        ZoojaxError: a variable of JAX or XLA has no meaning, or there is no room for threads.
    """
    devices = os.environ.get(_DEVICES)
    if devices is not None and not _is_count(devices):
        raise ZoojaxError(
            f"{_DEVICES} is '{printable(devices)}'; give a whole number from 1 to {_MOST_DEVICES}, "
            "or unset it to use every core"
        )
    _check_threads(
        host.cpu_count(),
        host.cpu_count() if devices is None else abs(int(devices)),
    )
    _check_flags()
    try:
        import jax
    except ValueError as error:  # How it refuses variables.
        raise ZoojaxError(f"JAX cannot start: {_first_line(error)}") from error
    if jax.config.values["jax_disable_jit"]:
        raise ZoojaxError(
            "JAX_DISABLE_JIT is set: populations are trained by compiled programs only; unset it"
        )
    for name, value in _FIXED.items():
        if getattr(jax.config, name, value) != value:
            jax.config.update(name, value)


def start_devices() -> None:
    """Starts JAX's devices. To be called after other processes have been joined.

    Raises:
        ZoojaxError: there is none that the user asks for.
    """
    import jax

    try:
        jax.devices()
    except Exception as error:  # Plugins of devices raise many kinds.
        asked = os.environ.get("JAX_PLATFORMS")
        reason = _first_line(error) if str(error) else "JAX finds none"
        if asked:
            raise ZoojaxError(
                f"JAX_PLATFORMS is '{printable(asked)}', and no such device can be used "
                f"({reason}); unset it to use what is there"
            ) from error
        raise ZoojaxError(f"JAX finds no device: {reason}") from error


def _is_count(text: str) -> bool:
    # JAX reads -1 as "not set".
    return text == "-1" or (
        text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= _MOST_DEVICES
    )


def _check_threads(cores: int, devices: int) -> None:
    """Raises ZoojaxError unless there is room for as many threads as XLA may start.

    XLA ends the process when it cannot start one, or waits for it for ever.
    """
    wanted = _THREADS + _THREADS_A_CORE * cores + _THREADS_A_DEVICE * devices
    gate = _thread.allocate_lock()

    def wait() -> None:
        with gate:
            pass

    started = 0
    try:
        with gate, _reserved(_ADDRESSES):
            for _ in range(wanted):
                _thread.start_new_thread(wait, ())
                started += 1
    except (RuntimeError, OSError, MemoryError) as error:
        raise ZoojaxError(
            f"there is no room for the {wanted} threads that may be needed (address space or "
            f"processes end after {started}); raise the limits (ulimit -v, ulimit -u)"
        ) from error


@contextlib.contextmanager
def _reserved(size: int) -> Iterator[None]:
    """Holds address space of a size in bytes, without using memory; OSError if there is none."""
    if not hasattr(mmap, "MAP_PRIVATE"):  # on Windows
        yield
        return
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mmap.mmap(-1, size, flags=flags, prot=mmap.PROT_READ):
        yield


def _check_flags() -> None:
    """Raises ZoojaxError if XLA would end the process for XLA_FLAGS: another one tries."""
    if not os.environ.get("XLA_FLAGS"):
        return
    import subprocess

    tried = subprocess.run(
        [sys.executable, "-c", _PARSE_FLAGS], capture_output=True, text=True, errors="replace"
    )
    if tried.returncode == 0:
        return
    for line in tried.stderr.splitlines():
        if "parse_flags" in line or "XLA_FLAGS" in line:
            reason = printable(line.partition("] ")[2] or line)
            given = printable(os.environ["XLA_FLAGS"])
            raise ZoojaxError(f"XLA does not take XLA_FLAGS '{given}': {reason}")


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return printable(lines[0])
