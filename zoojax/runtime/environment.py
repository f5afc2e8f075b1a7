"""Detects settings on which JAX and XLA would abort or hang, before they start."""

import _thread
import contextlib
import mmap
import os
import sys
from collections.abc import Iterator

from zoojax.errors import ZoojaxError
from zoojax.runtime import host
from zoojax.text import first_line, printable

# Options that results depend on; they override the user's JAX configuration.
_FIXED = {
    "jax_enable_x64": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    "jax_random_seed_offset": 0,
    "jax_threefry_partitionable": True,
}
_DEVICES = "JAX_NUM_CPU_DEVICES"
_MAX_DEVICES = 4096
# Peak number of threads of a command, as measured, including JAX, Orbax, TensorStore and Polars:
# a constant, plus threads per core and per device.
_THREADS, _THREADS_PER_CORE, _THREADS_PER_DEVICE = 40, 6, 2
# Address space in bytes that the threads and the loaded libraries need besides thread stacks.
_ADDRESS_SPACE = 1400 * 2**20
# Accessing any option makes XLA parse its flags.
_PARSE_FLAGS = (
    "from jaxlib import xla_client; "
    "xla_client.CompileOptions().executable_build_options.debug_options"
)


def check_environment() -> None:
    """Checks the environment without JAX, then imports JAX and fixes its configuration.

    Raises:
        ZoojaxError: If an environment variable of JAX or XLA is invalid, or the process limits
            do not allow enough threads.
    """
    devices = os.environ.get(_DEVICES)
    if devices is not None and not _is_device_count(devices):
        raise ZoojaxError(
            f"{_DEVICES} is '{printable(devices)}'; give a whole number from 1 to {_MAX_DEVICES}, "
            "or unset it to use every core"
        )
    _check_threads(
        host.cpu_count(),
        host.cpu_count() if devices is None else abs(int(devices)),
    )
    _check_flags()
    try:
        import jax
    except ValueError as error:  # raised for invalid environment variables
        raise ZoojaxError(f"JAX cannot start: {first_line(error)}") from error
    if jax.config.values["jax_disable_jit"]:
        raise ZoojaxError(
            "JAX_DISABLE_JIT is set, but populations are trained by compiled programs only; "
            "unset it"
        )
    for name, value in _FIXED.items():
        if getattr(jax.config, name, value) != value:
            jax.config.update(name, value)


def start_devices() -> None:
    """Starts JAX's devices. Call this function after joining other processes.

    Raises:
        ZoojaxError: If no device is available, or none of the requested platform.
    """
    import jax

    try:
        jax.devices()
    except Exception as error:  # device plugins raise many types
        platforms = os.environ.get("JAX_PLATFORMS")
        reason = first_line(error) if str(error) else "JAX finds none"
        if platforms:
            raise ZoojaxError(
                f"JAX_PLATFORMS is '{printable(platforms)}', and no such device can be used "
                f"({reason}); unset it to use what is there"
            ) from error
        raise ZoojaxError(f"JAX finds no device: {reason}") from error


def _is_device_count(text: str) -> bool:
    # JAX reads -1 as "not set".
    return text == "-1" or (
        text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= _MAX_DEVICES
    )


def _check_threads(cores: int, devices: int) -> None:
    """Checks that as many threads as XLA may need can be started.

    XLA aborts the process or hangs if it cannot start a thread.

    Raises:
        ZoojaxError: If they cannot be started.
    """
    needed = _THREADS + _THREADS_PER_CORE * cores + _THREADS_PER_DEVICE * devices
    gate = _thread.allocate_lock()

    def wait() -> None:
        with gate:
            pass

    started = 0
    try:
        with gate, _reserve_address_space(_ADDRESS_SPACE):
            for _ in range(needed):
                _thread.start_new_thread(wait, ())
                started += 1
    except (RuntimeError, OSError, MemoryError) as error:
        raise ZoojaxError(
            f"up to {needed} threads may be needed, but only {started} can be started within the "
            "limits on address space and processes; raise them (ulimit -v, ulimit -u)"
        ) from error


@contextlib.contextmanager
def _reserve_address_space(size: int) -> Iterator[None]:
    """Reserves address space without using memory.

    Args:
        size: Number of bytes.

    Raises:
        OSError: If there is not enough.
    """
    if not hasattr(mmap, "MAP_PRIVATE"):  # on Windows
        yield
        return
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mmap.mmap(-1, size, flags=flags, prot=mmap.PROT_READ):
        yield


def _check_flags() -> None:
    """Checks XLA_FLAGS in a child process, as XLA aborts the process on unknown flags.

    Raises:
        ZoojaxError: If XLA rejects the flags.
    """
    if not os.environ.get("XLA_FLAGS"):
        return
    import subprocess

    result = subprocess.run(
        [sys.executable, "-c", _PARSE_FLAGS], capture_output=True, text=True, errors="replace"
    )
    if result.returncode == 0:
        return
    for line in result.stderr.splitlines():
        if "parse_flags" in line or "XLA_FLAGS" in line:
            reason = printable(line.partition("] ")[2] or line)
            flags = printable(os.environ["XLA_FLAGS"])
            raise ZoojaxError(f"XLA does not accept XLA_FLAGS '{flags}': {reason}")
