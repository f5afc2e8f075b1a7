"""`zoojax geometry similarity ZOO`: weight space by epoch, and similarity of layers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from zoojax.cli.options import DataDir, Flag, option
from zoojax.runtime.startup import configure_jax


@dataclass(frozen=True)
class Similarity:
    """Measure how similar the members of a zoo are, in their weights and in the outputs of layers.

    By epoch: effective dimension of the zoo, distances and cosines of parameters. At one epoch:
    linear CKA between the layers of different members.
    Example: zoojax geometry similarity zoos/usps --out similarity
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the zoo, dense, aligned or a twin."""

    out: Annotated[Path | None, option("FOLDER")] = None
    """Folder for the tables similarity and layers (Parquet and CSV)."""

    epoch: Annotated[int | None, option("EPOCH")] = None
    """Epoch of CKA (default: the last)."""

    members: Annotated[tuple[int, ...] | None, option("ID ...")] = None
    """Ids of the members for CKA (default: the first 64)."""

    images: Annotated[int, option("N")] = 256
    """Number of training images for CKA, the first ones."""

    data_dir: DataDir = None
    """Folder of image sets (default: $ZOOJAX_DATA, or else a cache folder)."""

    json: Flag = False
    """Print the tables as JSON on standard output."""

    quiet: Flag = False
    """Show no progress."""

    def run(self) -> None:
        """Computes the similarities and prints them."""
        configure_jax()
        from zoojax.cli.geometry.tables import print_means
        from zoojax.cli.terminal import show_json
        from zoojax.workflows.geometry import similarity

        tables = similarity(
            self.zoo,
            out=self.out,
            epoch=self.epoch,
            members=self.members,
            images=self.images,
            data_dir=self.data_dir,
            quiet=self.quiet,
        )
        if self.json:
            show_json({"zoo": str(self.zoo), **{n: t.to_dicts() for n, t in tables.items()}})
            return
        print_means(f"weight space of {self.zoo}", tables["similarity"])
        print_means("CKA of layers, pairs of different members", tables["layers"])
