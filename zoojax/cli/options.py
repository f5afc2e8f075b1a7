"""What several commands share: devices, and the options of everything that trains."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from zoojax.runtime.startup import ProcessGroup


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

    @property
    def group(self) -> ProcessGroup:
        """What `configure_jax` joins."""
        return ProcessGroup(self.coordinator, self.num_processes, self.process_id)


ProcessOptions = tyro.conf.OmitArgPrefixes[Processes]


@dataclass(frozen=True)
class RunOptions:
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


RunningOptions = tyro.conf.OmitArgPrefixes[RunOptions]
