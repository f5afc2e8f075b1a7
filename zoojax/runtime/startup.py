"""Configures JAX before its first use: devices, compilation cache, processes."""

import contextlib
import gc
import os
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

from zoojax.errors import ZoojaxError
from zoojax.runtime import host
from zoojax.runtime.environment import check_environment, start_devices

# Size limit of the compilation cache; the least recently used programs are removed.
_PROGRAMS_BYTES = 2**30


class ProcessGroup(NamedTuple):
    """The processes that train one zoo together; None where the cluster provides a value.

    Attributes:
        coordinator: Host and port of process 0.
        num_processes: Number of processes.
        process_id: Index of this process, from 0.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def configure_jax(group: ProcessGroup | None = None) -> None:
    """Makes each core a device and enables the persistent compilation cache.

    With one device per core, XLA runs one block of members on each core and does not
    synchronize inside operations. Call this function before JAX is first used. It does not
    affect accelerators, and keeps the user's settings (JAX_NUM_CPU_DEVICES,
    JAX_COMPILATION_CACHE_DIR).

    Args:
        group: How to join the processes that were started with this one; None for commands
            that run in one process.

    Raises:
        ZoojaxError: If JAX cannot run here or is already in use with other devices, or the
            other processes cannot be joined.
    """
    # Freeze imported objects so that the GC does not scan them at startup, which would take a
    # tenth of a short command's time.
    gc.disable()
    try:
        check_environment()
    finally:
        gc.freeze()
        gc.set_threshold(50_000)
        gc.enable()
    import jax

    count = host.cpu_count()
    # Unchanged if this function is called again, which JAX would refuse.
    if (
        "JAX_NUM_CPU_DEVICES" not in os.environ
        and jax.config.values["jax_num_cpu_devices"] != count
    ):
        try:
            jax.config.update("jax_num_cpu_devices", count)
        except RuntimeError as error:
            raise ZoojaxError(
                "JAX is already in use in this process; call zoojax.initialize before any other "
                "function that uses JAX (in a notebook, restart the kernel)"
            ) from error
    _enable_compilation_cache()
    if group is not None:
        _join(group)
    start_devices()


def initialize(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Sets up JAX as the command line does: optional in Python, before JAX is first used.

    Makes each core a device, keeps compiled programs on disk for the next run, and joins the
    processes that train one zoo together. On SLURM, Open MPI, Kubernetes and TPUs they find each
    other without arguments. The standard output of all processes but the first is discarded.

    Args:
        coordinator: Host of process 0 and a free port on it, such as "node1:9876".
        num_processes: Number of processes.
        process_id: Index of this process, from 0.

    Raises:
        ZoojaxError: If JAX cannot run here or is already in use with other devices, or the
            other processes cannot be joined.

    Example:
        >>> zoojax.initialize()  # doctest: +SKIP
    """
    configure_jax(ProcessGroup(coordinator, num_processes, process_id))


def join_processes(group: ProcessGroup) -> None:
    """Joins the processes that were started with this one, for commands that do not train.

    Args:
        group: How to join them.

    Raises:
        ZoojaxError: If JAX cannot run here, or the other processes cannot be joined.
    """
    check_environment()
    _join(group)
    start_devices()


def _join(group: ProcessGroup) -> None:
    from zoojax.runtime import distributed

    distributed.initialize(group.coordinator, group.num_processes, group.process_id)
    if not distributed.is_distributed():
        return
    # Only process 0 prints results. All processes print warnings and errors. Gloo writes to
    # file descriptor 1, which is redirected to standard error.
    is_main = distributed.process_index() == 0
    output = os.dup(1) if is_main else os.open(os.devnull, os.O_WRONLY)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(output, "w", errors="backslashreplace")


def _enable_compilation_cache() -> None:
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = host.private_cache_dir("programs")
    if folder is None:
        return
    _remove_partial_programs(folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", _PROGRAMS_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # A program that cannot be read from or written to the cache is just compiled again.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation")


def _remove_partial_programs(folder: Path) -> None:
    """Removes cache entries that an interruption has left incomplete.

    JAX writes a program and then its access time. If an access time is missing, JAX stops
    adding programs to the cache.
    """
    for program in folder.glob("*-cache"):
        if not program.with_name(program.name.removesuffix("cache") + "atime").exists():
            with contextlib.suppress(OSError):
                program.unlink()
