"""Options that several commands share."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from zoojax.runtime.startup import ProcessGroup

if TYPE_CHECKING:
    from zoojax.training.callbacks import EpochCallback


def option(metavar: str | None, name: str | None = None, text: str | None = None) -> Any:
    """Sets how --help shows an argument: the placeholder of its value, its text and its default.

    A default of None is not shown; the argument's text explains it. Neither is one of a flag.

    Args:
        metavar: placeholder of the value; None shows the choices, or nothing for a flag.
        name: name of the argument; None takes the field's.
        text: text of the argument; None takes the field's docstring.
    """
    return tyro.conf.arg(name=name, metavar=metavar, help=text, help_behavior_hint=_default)


def _default(value: str) -> str:
    return "" if value in ("None", "", "True", "False") else f"(default: {value})"


Flag = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]
DataDir = Annotated[Path | None, option("FOLDER")]


@dataclass(frozen=True)
class Processes:
    """Use several processes for one zoo. On SLURM, Open MPI, Kubernetes and TPUs they find each
    other without these options."""

    coordinator: Annotated[str | None, option("HOST:PORT")] = None
    """Host of process 0 and a free port on it, such as node1:9876; the same for all processes."""

    num_processes: Annotated[int | None, option("N")] = None
    """Number of processes."""

    process_id: Annotated[int | None, option("I")] = None
    """Index of this process, from 0."""

    @property
    def group(self) -> ProcessGroup:
        """The process group that `configure_jax` joins."""
        return ProcessGroup(self.coordinator, self.num_processes, self.process_id)


ProcessOptions = tyro.conf.OmitArgPrefixes[Processes]


@dataclass(frozen=True)
class RunOptions:
    """Options of all commands that train."""

    chunk: Annotated[int | None, option("N")] = None
    """Members that a core or GPU trains at once (default: chosen for this machine).
    Results with one chunk size are bit-identical on any number of devices and processes."""

    data_dir: DataDir = None
    """Folder of image sets (default: $ZOOJAX_DATA, or else a cache folder)."""

    json: Flag = False
    """Print the final table as JSON on standard output."""

    quiet: Flag = False
    """Show no progress."""

    processes: ProcessOptions = field(default_factory=Processes)


LogOption = Annotated[tuple[Literal["tensorboard"], ...], option(None)]


def callbacks(log: tuple[str, ...]) -> "list[EpochCallback]":
    """Returns the callbacks of a training: a log file, and those that --log names.

    Args:
        log: Values of --log.
    """
    from zoojax.logs.run_log import RunLog
    from zoojax.logs.tensorboard import TensorBoard

    boards = [TensorBoard()] if "tensorboard" in log else []
    return [RunLog(["zoojax", *sys.argv[1:]]), *boards]


RunningOptions = tyro.conf.OmitArgPrefixes[RunOptions]
