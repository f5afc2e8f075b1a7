"""`zoojax geometry curves ZOO [OTHER]`: trains Bezier curves of low loss between members."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from zoojax.cli.geometry.options import Between, BetweenOptions, report_barriers
from zoojax.cli.options import option
from zoojax.runtime.startup import configure_jax


@dataclass(frozen=True)
class TrainCurves:
    """Train quadratic Bezier curves of low loss between members, and print their barriers.

    Example: zoojax geometry curves zoos/usps --pairs 0 1 0 2 --out curves
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the zoo of the first members."""

    other: Annotated[Path | None, tyro.conf.Positional, option("[OTHER]")] = None
    """Folder of the zoo of the second members, such as a twin."""

    epochs: Annotated[int, option("N")] = 10
    """Epochs of training."""

    learning_rate: Annotated[float, option("RATE")] = 1e-3
    """Learning rate of Adam."""

    chunk: Annotated[int | None, option("N")] = None
    """Curves that a core or GPU trains at once (default: chosen for this machine)."""

    between: BetweenOptions = field(default_factory=Between)

    def run(self) -> None:
        """Trains the curves, writes the tables and prints the barriers."""
        configure_jax()
        from zoojax.geometry import curves

        given = self.between
        trained = curves(
            *(self.zoo, self.other),
            pairs=given.pairs,
            epoch=given.epoch,
            other_epoch=given.other_epoch,
            align=given.align,
            symmetries=given.symmetries,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            points=given.points,
            split=given.split,
            chunk=self.chunk,
            data_dir=given.data_dir,
            quiet=given.quiet,
        )
        report_barriers(trained.points, "curves", given)
