"""`zoojax sparsify METHOD ZOO --out TWIN`: makes a sparse twin of a dense zoo."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from zoojax.cli.options import RunningOptions, RunOptions, option
from zoojax.runtime.startup import configure_jax

if TYPE_CHECKING:
    from zoojax.storage.zoo import Zoo


@dataclass(frozen=True)
class Magnitude:
    """Prune by magnitude and fine-tune, all members at all ratios as one population.

    Example: zoojax sparsify magnitude zoos/usps --ratios 0.5 0.9 --out zoos/usps-mp
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the dense zoo."""

    out: Annotated[Path, option("TWIN")]
    """Folder of the twin: new, or one that the same command began."""

    ratios: Annotated[tuple[float, ...], option("RATIO ...")] = (
        0.1,
        0.2,
        0.3,
        0.4,
        0.5,
        0.6,
        0.7,
        0.8,
        0.9,
    )
    """Shares of weights to prune, each in [0, 1); 0 is fine-tuning alone."""

    scope: Literal["global", "layer"] = "global"
    """Whether a ratio is of the whole network's weights or of each layer's."""

    epochs: Annotated[int, option("N")] = 15
    """Epochs of fine-tuning."""

    epoch: Annotated[int | None, option("EPOCH")] = None
    """The dense zoo's epoch to start from (default: its last)."""

    members: Annotated[int | None, option("N")] = None
    """Twins of the dense zoo's first so many members alone (default: all)."""

    learning_rate: Annotated[float | None, option("RATE")] = None
    """Of fine-tuning (default: the preset's; each member's own without one)."""

    data: Annotated[Path | None, option("NPZ")] = None
    """The .npz file of the dense zoo's images, where it is no longer in its place."""

    running: RunningOptions = field(default_factory=RunOptions)

    def run(self) -> None:
        """Makes the twin and prints how its members do."""
        configure_jax(self.running.processes.group)
        from zoojax.api.twins import prune_zoo
        from zoojax.cli.progress import training_progress
        from zoojax.storage.zoo import open_zoo

        parent = open_zoo(self.zoo)
        with training_progress("prune and fine-tune", self.running.quiet) as report:
            twin = prune_zoo(
                self.out,
                parent,
                self.ratios,
                scope=self.scope,
                learning_rate=self.learning_rate,
                epochs=self.epochs,
                epoch=self.epoch,
                members=self.members,
                chunk=self.running.chunk,
                data_dir=self.data or self.running.data_dir,
                report=report,
            )
        _show(twin, self.running)


@dataclass(frozen=True)
class VariationalDropout:
    """Train with variational dropout: a noise level for every weight, and a threshold.

    Example: zoojax sparsify variational-dropout zoos/usps --out zoos/usps-vd
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the dense zoo."""

    out: Annotated[Path, option("TWIN")]
    """Folder of the twin: new, or one that the same command began."""

    variant: Literal["released", "corrected"] = "released"
    """As the paper's numbers were made (convolution biases variational), or as the
    method was published (none)."""

    epochs: Annotated[int, option("N")] = 25
    """Epochs of training."""

    epoch: Annotated[int | None, option("EPOCH")] = None
    """The dense zoo's epoch to start from (default: its last)."""

    members: Annotated[int | None, option("N")] = None
    """Twins of the dense zoo's first so many members alone (default: all)."""

    learning_rate: Annotated[float | None, option("RATE")] = None
    """Of training (default: the preset's; each member's own without one)."""

    data: Annotated[Path | None, option("NPZ")] = None
    """The .npz file of the dense zoo's images, where it is no longer in its place."""

    running: RunningOptions = field(default_factory=RunOptions)

    def run(self) -> None:
        """Makes the twin and prints how its members do."""
        configure_jax(self.running.processes.group)
        from zoojax.api.twins import train_variational_dropout
        from zoojax.cli.progress import training_progress
        from zoojax.storage.zoo import open_zoo

        parent = open_zoo(self.zoo)
        with training_progress("variational dropout", self.running.quiet) as report:
            twin = train_variational_dropout(
                self.out,
                parent,
                variant=self.variant,
                learning_rate=self.learning_rate,
                epochs=self.epochs,
                epoch=self.epoch,
                members=self.members,
                chunk=self.running.chunk,
                data_dir=self.data or self.running.data_dir,
                report=report,
            )
        _show(twin, self.running)


@dataclass(frozen=True)
class Sparsify:
    """Make a sparse twin of a dense zoo."""

    method: (
        Annotated[Magnitude, tyro.conf.subcommand("magnitude")]
        | Annotated[VariationalDropout, tyro.conf.subcommand("variational-dropout")]
    )

    def run(self) -> None:
        """Runs the method."""
        self.method.run()


def _show(twin: "Zoo", running: RunOptions) -> None:
    from zoojax.cli.terminal import show

    last = twin.metrics.filter(epoch=twin.epochs[-1])
    show(twin, last, as_json=running.json, title=f"{twin.config.name} in {twin.path}")
