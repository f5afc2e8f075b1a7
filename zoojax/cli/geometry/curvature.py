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

    images: Annotated[int, option("N")] = 256
    """Number of training images, the first ones."""

    samples: Annotated[int, option("N")] = 30
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
        from zoojax.analysis.geometry_tables import curvature, summarize
        from zoojax.cli.geometry.tables import print_means, write
        from zoojax.cli.terminal import show_json
        from zoojax.progress import count_progress
        from zoojax.storage.zoo import open_zoo

        zoo = open_zoo(self.zoo)
        with count_progress("curvature", self.quiet) as show:
            traces, eigenvalues = curvature(
                zoo,
                epoch=self.epoch,
                members=self.members,
                images=self.images,
                samples=None if self.exact else self.samples,
                steps=self.steps,
                count=self.eigenvalues,
                data_dir=self.data_dir,
                show=show,
            )
        tables = {"curvature": traces, "eigenvalues": eigenvalues}
        write(self.out, tables)
        if self.json:
            show_json({"zoo": str(self.zoo), **{n: t.to_dicts() for n, t in tables.items()}})
            return
        print_means(
            f"curvature of {self.zoo}", summarize(traces, ["ratio", "epoch"], ["loss", "trace"])
        )
        print_means(
            "largest eigenvalues", summarize(eigenvalues, ["ratio", "rank"], ["eigenvalue"])
        )
