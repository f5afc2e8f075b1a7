"""`zoojax sparsify METHOD ZOO --out TWIN`: trains a sparse twin of a dense zoo."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from zoojax.cli.options import RunningOptions, RunOptions, option
from zoojax.runtime.startup import configure_jax

if TYPE_CHECKING:
    from zoojax.storage.zoo import Zoo

_ALL_RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class _Sparsifier:
    """Options that all methods share."""

    label: ClassVar[str]

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the dense zoo."""

    out: Annotated[Path, option("TWIN")]
    """Folder of the twin: new, or of an interrupted run of the same command."""

    epoch: Annotated[int | None, option("EPOCH")] = None
    """Epoch of the dense zoo to start from (default: the last)."""

    members: Annotated[int | None, option("N")] = None
    """Sparsify only the first N members of the dense zoo (default: all)."""

    learning_rate: Annotated[float | None, option("RATE")] = None
    """Learning rate (default: the preset's; without a preset, each member's own)."""

    data: Annotated[Path | None, option("NPZ")] = None
    """Current path of the .npz file with the dense zoo's images, if it was moved."""

    running: RunningOptions = field(default_factory=RunOptions)

    def run(self) -> None:
        """Trains the twin and prints its metrics."""
        configure_jax(self.running.processes.group)
        from zoojax.cli.progress import training_progress
        from zoojax.cli.terminal import show
        from zoojax.storage.zoo import open_zoo

        parent, running = open_zoo(self.zoo), self.running
        with training_progress(self.label, running.quiet) as report:
            twin = self._train(
                parent,
                learning_rate=self.learning_rate,
                epoch=self.epoch,
                members=self.members,
                chunk=running.chunk,
                data_dir=self.data or running.data_dir,
                report=report,
            )
        last = twin.metrics.filter(epoch=twin.epochs[-1])
        show(twin, last, as_json=running.json, title=f"{twin.config.name} in {twin.path}")

    def _train(self, parent: "Zoo", **shared: Any) -> "Zoo":
        raise NotImplementedError


@dataclass(frozen=True)
class Magnitude(_Sparsifier):
    """Prune by magnitude and fine-tune: all members at all ratios as one population.

    Example: zoojax sparsify magnitude zoos/usps --ratios 0.5 0.9 --out zoos/usps-mp
    """

    label = "prune and fine-tune"

    ratios: Annotated[tuple[float, ...], option("RATIO ...")] = _ALL_RATIOS
    """Fractions of weights to prune, each in [0, 1); 0 only fine-tunes."""

    scope: Literal["global", "layer"] = "global"
    """Prune the given fraction of all weights of a network, or of each layer."""

    epochs: Annotated[int, option("N")] = 15
    """Number of fine-tuning epochs."""

    def _train(self, parent: "Zoo", **shared: Any) -> "Zoo":
        from zoojax.api.twins import prune_zoo

        return prune_zoo(
            self.out, parent, self.ratios, scope=self.scope, epochs=self.epochs, **shared
        )


@dataclass(frozen=True)
class VariationalDropout(_Sparsifier):
    """Train with variational dropout: learns a noise level per weight and prunes noisy weights.

    Example: zoojax sparsify variational-dropout zoos/usps --out zoos/usps-vd
    """

    label = "variational dropout"

    variant: Literal["released", "corrected"] = "released"
    """With variational convolution biases, as in the paper's results, or without any
    variational biases, as the method was published."""

    epochs: Annotated[int, option("N")] = 25
    """Number of epochs."""

    def _train(self, parent: "Zoo", **shared: Any) -> "Zoo":
        from zoojax.api.twins import train_variational_dropout

        return train_variational_dropout(
            self.out, parent, variant=self.variant, epochs=self.epochs, **shared
        )


@dataclass(frozen=True)
class Sparsify:
    """Train a sparse twin of a dense zoo."""

    method: (
        Annotated[Magnitude, tyro.conf.subcommand("magnitude")]
        | Annotated[VariationalDropout, tyro.conf.subcommand("variational-dropout")]
    )

    def run(self) -> None:
        """Runs the method."""
        self.method.run()
