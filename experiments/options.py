"""What several commands share: devices, and the options of everything that trains."""

import contextlib
import gc
import os
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments import environment

# Compiled programs are kept up to here, the least recently used ones dropped.
_PROGRAMS_BYTES = 2**30


def option(metavar: str, name: str | None = None) -> Any:
    """How --help shows an argument: what stands for its value, and its default if it has one.

    What None stands for is in the argument's text.

    Args:
        metavar: what stands for its value.
        name: the argument's name; the field's if None.
    """
    return tyro.conf.arg(name=name, metavar=metavar, help_behavior_hint=_default)


def _default(value: str) -> str:
    return "" if value in ("None", "") else f"(default: {value})"


Flag = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]
DataDir = Annotated[Path | None, option("FOLDER")]


@dataclass(frozen=True)
class Processes:
    """Several processes on one zoo. On SLURM, Open MPI, Kubernetes and TPU they find each
    other by themselves."""

    coordinator: Annotated[str | None, option("HOST:PORT")] = None
    """Host and a free port of process 0, as in node1:9876; the same for all processes."""

    num_processes: Annotated[int | None, option("N")] = None
    """How many processes there are."""

    process_id: Annotated[int | None, option("I")] = None
    """Which of them this is, from 0."""


ProcessOptions = tyro.conf.OmitArgPrefixes[Processes]


def prepare_jax(together: Processes | None = None) -> None:
    """Makes every core a device of its own, and keeps compiled programs between commands.

    XLA then runs one block of members a core without synchronising inside operations.
    To be called before JAX is first used; accelerators are not touched by it. What the user
    has set (JAX_NUM_CPU_DEVICES, JAX_COMPILATION_CACHE_DIR) is left as it is.

    Args:
        together: how to join the processes that were started with this one; None for
            commands of one process.

    Raises:
        ZoojaxError: JAX cannot run here, or the other processes cannot be joined.
    """
    # What imports make stays: to look for garbage in it would take a tenth of a command's start.
    gc.disable()
    try:
        environment.check()
    finally:
        gc.freeze()
        gc.set_threshold(50_000)
        gc.enable()
    import jax

    from zoojax import machine

    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", machine.cores())
    _keep_programs()
    if together is not None:
        _join(together)
    environment.start_devices()


def join(together: Processes) -> None:
    """Joins the processes that were started with this one, for commands that train nothing.

    Raises:
        ZoojaxError: JAX cannot run here, or the other processes cannot be joined.
    """
    environment.check()
    _join(together)
    environment.start_devices()


def _join(together: Processes) -> None:
    from zoojax import processes

    processes.connect(together.coordinator, together.num_processes, together.process_id)
    if not processes.several():
        return
    # One process tells what came of it; all may complain, and Gloo does so on file 1.
    told = os.dup(1) if processes.index() == 0 else os.open(os.devnull, os.O_WRONLY)
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

    from zoojax import machine

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = machine.private_cache("programs")
    if folder is None:
        return
    _sweep(folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", _PROGRAMS_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # A program that cannot be read or kept is compiled; that is all there is to know.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation")


@dataclass(frozen=True)
class Running:
    """How to run."""

    chunk: Annotated[int | None, option("N")] = None
    """Members that a core or GPU trains at once (default: chosen for the machine).
    Results are bit-identical at one chunk size, on however many devices and processes."""

    data_dir: DataDir = None
    """Where image sets are looked for (default: $ZOOJAX_DATA, else a cache folder)."""

    json: Flag = False
    """Print the final table as JSON on standard output."""

    quiet: Flag = False
    """Show no progress."""

    processes: ProcessOptions = field(default_factory=Processes)


RunningOptions = tyro.conf.OmitArgPrefixes[Running]
