"""`zoojax geometry lines ZOO [OTHER]`: barriers on straight lines between members."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from zoojax.cli.geometry.options import Between, BetweenOptions, report_barriers
from zoojax.cli.options import option
from zoojax.runtime.startup import configure_jax


@dataclass(frozen=True)
class Lines:
    """Measure loss and accuracy on straight lines between members, and print the barriers.

    Lines connect the members of a zoo, those of a zoo and its twin (OTHER), or each member at two
    epochs. Batch statistics are recomputed at every point.
    Example: zoojax geometry lines zoos/usps zoos/usps-mp --out barriers
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the zoo of the first members."""

    other: Annotated[Path | None, tyro.conf.Positional, option("[OTHER]")] = None
    """Folder of the zoo of the second members, such as a twin."""

    between: BetweenOptions = field(default_factory=Between)

    def run(self) -> None:
        """Measures the lines, writes the tables and prints the barriers."""
        configure_jax()
        from zoojax.geometry import lines

        given = self.between
        points = lines(
            *(self.zoo, self.other),
            pairs=given.pairs,
            epoch=given.epoch,
            other_epoch=given.other_epoch,
            align=given.align,
            symmetries=given.symmetries,
            points=given.points,
            split=given.split,
            data_dir=given.data_dir,
            quiet=given.quiet,
        )
        report_barriers(points, "lines", given)
