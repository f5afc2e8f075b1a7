"""Configures JAX before its first use: devices, compiled programs, processes."""

import contextlib
import gc
import os
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

from zoojax.runtime import host
from zoojax.runtime.environment import check_environment, start_devices

# Compiled programs are kept up to this size; the least recently used are removed.
_PROGRAMS_BYTES = 2**30


class ProcessGroup(NamedTuple):
    """The processes that train one zoo together; None where the cluster provides a value.

    Attributes:
        coordinator: host and port of process 0.
        num_processes: number of processes.
        process_id: which of them this is, from 0.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def configure_jax(group: ProcessGroup | None = None) -> None:
    """Makes every core a device of its own, and keeps compiled programs between commands.

    XLA then runs one block of members a core without synchronising inside operations.
    To be called before JAX is first used; accelerators are not touched by it. What the user
    has set (JAX_NUM_CPU_DEVICES, JAX_COMPILATION_CACHE_DIR) is left as it is.

    Args:
        group: how to join the processes that were started with this one; None for
            commands of one process.

    Raises:
        ZoojaxError: JAX cannot run here, or the other processes cannot be joined.
    """
    # What imports make stays: to look for garbage in it would take a tenth of a command's start.
    gc.disable()
    try:
        check_environment()
    finally:
        gc.freeze()
        gc.set_threshold(50_000)
        gc.enable()
    import jax

    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", host.cpu_count())
    _keep_programs()
    if group is not None:
        _join(group)
    start_devices()


def join_processes(group: ProcessGroup) -> None:
    """Joins the processes that were started with this one, for commands that train nothing.

    Raises:
        ZoojaxError: JAX cannot run here, or the other processes cannot be joined.
    """
    check_environment()
    _join(group)
    start_devices()


def _join(group: ProcessGroup) -> None:
    from zoojax.runtime import distributed

    distributed.initialize(group.coordinator, group.num_processes, group.process_id)
    if not distributed.is_distributed():
        return
    # One process tells what came of it; all may complain, and Gloo does so on file 1.
    told = os.dup(1) if distributed.process_index() == 0 else os.open(os.devnull, os.O_WRONLY)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(told, "w", errors="backslashreplace")


def _sweep(folder: Path) -> None:
    """Removes programs that an interruption left half written.

    JAX writes a program, then when it was used last, and where that is missing keeps nothing new.
    """
    for program in folder.glob("*-cache"):
        if not program.with_name(program.name.removesuffix("cache") + "atime").exists():
            with contextlib.suppress(OSError):
                program.unlink()


def _keep_programs() -> None:
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = host.private_cache_dir("programs")
    if folder is None:
        return
    _sweep(folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", _PROGRAMS_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # A program that cannot be read or kept is compiled; that is all there is to know.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation")
