"""`zoojax geometry basins ZOO TWIN`: barriers between parents and twins, and overlap of masks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from zoojax.cli.options import DataDir, Flag, option
from zoojax.runtime.startup import configure_jax


@dataclass(frozen=True)
class Basins:
    """Measure whether twins leave the basins of their parents, and how much masks overlap.

    Barriers on straight lines between parent and twin, between pairs of dense members, and between
    the twins of these pairs, by pruning ratio; and the overlap of the masks of pairs,
    compared with chance. Pairs are compared before and after they are aligned.
    Example: zoojax geometry basins zoos/usps zoos/usps-mp --out basins
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the dense zoo."""

    twin: Annotated[Path, tyro.conf.Positional, option("TWIN")]
    """Folder of its twin."""

    out: Annotated[Path | None, option("FOLDER")] = None
    """Folder for tables of all lines and pairs and of their means (Parquet and CSV), and a
    figure of the barriers."""

    epoch: Annotated[int | None, option("EPOCH")] = None
    """Epoch of the twin (default: the last)."""

    points: Annotated[int, option("N")] = 11
    """Number of points on each line, with its ends."""

    split: Literal["train", "val", "test"] = "test"
    """Images to evaluate on."""

    data_dir: DataDir = None
    """Folder of image sets (default: $ZOOJAX_DATA, or else a cache folder)."""

    json: Flag = False
    """Print the means as JSON on standard output."""

    quiet: Flag = False
    """Show no progress."""

    def run(self) -> None:
        """Measures the barriers and the overlap, and prints their means."""
        configure_jax()
        from zoojax.cli.geometry.tables import print_means
        from zoojax.cli.terminal import show_json
        from zoojax.workflows.geometry import basins

        tables = basins(
            self.zoo,
            self.twin,
            out=self.out,
            epoch=self.epoch,
            points=self.points,
            split=self.split,
            data_dir=self.data_dir,
            quiet=self.quiet,
        )
        if self.json:
            means = {name: tables[name].to_dicts() for name in ("barriers", "masks")}
            show_json({"twin": str(self.twin), **means})
            return
        print_means(f"barriers of {self.twin}", tables["barriers"])
        print_means("overlap of masks of pairs", tables["masks"])
