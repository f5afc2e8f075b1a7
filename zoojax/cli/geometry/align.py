"""`zoojax geometry align ZOO --out ALIGNED`: permutes hidden units to match a reference."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from zoojax.cli.options import DataDir, Flag, option
from zoojax.errors import ZoojaxError
from zoojax.runtime.startup import configure_jax


@dataclass(frozen=True)
class Align:
    """Permute the hidden units of all members so that they match a reference.

    The functions of the members stay the same. The result is a zoo.
    Example: zoojax geometry align zoos/usps --out zoos/usps-aligned
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the zoo, dense or a twin."""

    out: Annotated[Path, option("ALIGNED")]
    """Folder of the aligned zoo: new, or of an interrupted run of the same command."""

    to: Annotated[int | Literal["center", "canonical"], option("MEMBER")] = 0
    """Id of the reference member; "center" for the mean of the aligned members, or "canonical"
    for a form that needs no reference."""

    method: Literal["weights", "activations"] = "weights"
    """Match the weights of units, or their activations on training images."""

    symmetries: Annotated[
        tuple[Literal["permutation", "sign", "scale"], ...], option("NAME ...")
    ] = ("permutation", "sign")
    """Changes to search: permutation, sign, scale. Signs and scales are used where the activation
    allows them."""

    epoch: Annotated[int | None, option("EPOCH")] = None
    """Epoch to match (default: the last). All epochs are permuted alike."""

    restarts: Annotated[int, option("N")] = 0
    """Number of further starting points of weight matching with random orders."""

    seed: Annotated[int, option("SEED")] = 0
    """Seed of weight matching."""

    images: Annotated[int, option("N")] = 512
    """Number of training images for activations."""

    data_dir: DataDir = None
    """Folder of image sets (default: $ZOOJAX_DATA, or else a cache folder)."""

    json: Flag = False
    """Print JSON on standard output."""

    def run(self) -> None:
        """Aligns the members and prints their distances to the reference."""
        configure_jax()
        from zoojax.cli.terminal import say, show_json
        from zoojax.geometry import align

        aligned = align(
            self.zoo,
            self.out,
            to=self.to,
            method=self.method,
            symmetries=self.symmetries,
            epoch=self.epoch,
            restarts=self.restarts,
            seed=self.seed,
            images=self.images,
            data_dir=self.data_dir,
        )
        table = aligned.distances
        if self.json:
            show_json({"zoo": str(aligned.zoo.path), "rows": table.to_dicts()})
            return
        before, after = (table[name].drop_nulls().mean() for name in ("before", "after"))
        if before is None or after is None:
            raise ZoojaxError(f"no member of {self.zoo} has finite weights")
        say(
            f"aligned {len(table)} members in {aligned.zoo.path}",
            f"mean distance to the reference: {before:.4g} before, {after:.4g} after",
        )
