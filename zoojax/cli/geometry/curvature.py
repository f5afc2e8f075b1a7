"""`zoojax geometry curvature ZOO`: trace and largest eigenvalues of the Hessian of each member."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from zoojax.cli.options import DataDir, Flag, option
from zoojax.runtime.startup import configure_jax


@dataclass(frozen=True)
class Curvature:
    """Measure the curvature of the loss at the members of a zoo, dense or a twin.

    Computes the trace and the largest eigenvalues of the Hessian of the cross entropy on training
    images, over all parameters that are not pruned.
    Example: zoojax geometry curvature zoos/usps --out curvature
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the zoo."""

    out: Annotated[Path | None, option("FOLDER")] = None
    """Folder for tables of all members, curvature and eigenvalues (Parquet and CSV)."""

    epoch: Annotated[int | None, option("EPOCH")] = None
    """Epoch (default: the last)."""

    members: Annotated[tuple[int, ...] | None, option("ID ...")] = None
    """Ids of the members (default: all)."""

    images: Annotated[int, option("N")] = 128
    """Number of training images, the first ones."""

    samples: Annotated[int, option("N")] = 20
    """Random vectors of Hutchinson's estimate of the trace."""

    exact: Flag = False
    """Compute the exact trace, with one product per parameter instead."""

    eigenvalues: Annotated[int, option("N")] = 5
    """Number of eigenvalues."""

    steps: Annotated[int, option("N")] = 20
    """Lanczos steps; more make eigenvalues more accurate."""

    data_dir: DataDir = None
    """Folder of image sets (default: $ZOOJAX_DATA, or else a cache folder)."""

    json: Flag = False
    """Print the tables as JSON on standard output."""

    quiet: Flag = False
    """Show no progress."""

    def run(self) -> None:
        """Computes the curvature and prints its means over members."""
        configure_jax()
        from zoojax.analysis.geometry_tables import summarize
        from zoojax.cli.geometry.tables import print_means
        from zoojax.cli.terminal import show_json
        from zoojax.workflows.geometry import curvature

        tables = curvature(
            self.zoo,
            out=self.out,
            epoch=self.epoch,
            members=self.members,
            images=self.images,
            samples=self.samples,
            exact=self.exact,
            eigenvalues=self.eigenvalues,
            steps=self.steps,
            data_dir=self.data_dir,
            quiet=self.quiet,
        )
        if self.json:
            show_json({"zoo": str(self.zoo), **{n: t.to_dicts() for n, t in tables.items()}})
            return
        means = summarize(tables["curvature"], ["ratio", "epoch"], ["loss", "trace"])
        print_means(f"curvature of {self.zoo}", means)
        ranks = summarize(tables["eigenvalues"], ["ratio", "rank"], ["eigenvalue"])
        print_means("largest eigenvalues", ranks)
