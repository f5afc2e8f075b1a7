"""`zoojax geometry align-twin TWIN ALIGNED --out TWIN`: aligns a twin as its parent was."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from zoojax.cli.options import Flag, option
from zoojax.runtime.startup import configure_jax


@dataclass(frozen=True)
class AlignTwin:
    """Permute the hidden units of a twin as those of its parent were permuted.

    Masks and log alphas are permuted, too.
    Example: zoojax geometry align-twin zoos/usps-mp zoos/usps-aligned --out zoos/usps-mp-aligned
    """

    twin: Annotated[Path, tyro.conf.Positional, option("TWIN")]
    """Folder of the twin."""

    alignment: Annotated[Path, tyro.conf.Positional, option("ALIGNED")]
    """Folder of the aligned parent, written by `zoojax geometry align`."""

    out: Annotated[Path, option("TWIN")]
    """Folder of the aligned twin: new, or of an interrupted run of the same command."""

    json: Flag = False
    """Print JSON on standard output."""

    def run(self) -> None:
        """Aligns the twin and prints its metrics."""
        configure_jax()
        from zoojax.cli.terminal import show
        from zoojax.geometry import align_twin, open_alignment

        twin = align_twin(self.twin, open_alignment(self.alignment), self.out)
        last = twin.metrics.filter(epoch=twin.epochs[-1])
        show(twin, last, as_json=self.json, title=f"{twin.config.name} in {twin.path}")
