"""`zoojax geometry transfer ZOO TWIN --out FOLDER`: prunes members with masks of other members."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from zoojax.cli.options import RunningOptions, RunOptions, option
from zoojax.runtime.startup import configure_jax


@dataclass(frozen=True)
class Transfer:
    """Prune each member with the mask of another one, and fine-tune it.

    Masks are those of a twin that was pruned by ratio. They are permuted by the alignment of
    the two members, used unchanged, or shuffled within each layer. Each way creates a twin,
    FOLDER/aligned, /unaligned and /random; FOLDER also has a table and a figure that compare them
    with the twin.
    Example: zoojax geometry transfer zoos/usps zoos/usps-mp --out transfer
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the dense zoo."""

    twin: Annotated[Path, tyro.conf.Positional, option("TWIN")]
    """Folder of its twin whose masks are used."""

    out: Annotated[Path, option("FOLDER")]
    """Folder of the results: new, or from an interrupted run of the same command."""

    ways: Annotated[tuple[Literal["aligned", "unaligned", "random"], ...], option("WAY ...")] = (
        "aligned",
        "unaligned",
        "random",
    )
    """How masks are transferred: aligned, unaligned, random."""

    members: Annotated[tuple[int, ...] | None, option("ID ...")] = None
    """Ids of the members that are paired (default: all)."""

    epochs: Annotated[int | None, option("N")] = None
    """Epochs of fine-tuning (default: the twin's). The comparison is one-shot and after the last
    epoch that all twins have."""

    running: RunningOptions = field(default_factory=RunOptions)

    def run(self) -> None:
        """Creates the twins, and prints the comparison."""
        configure_jax(self.running.processes.group)
        from zoojax.cli.geometry.tables import print_means
        from zoojax.cli.terminal import say, show_json
        from zoojax.workflows.geometry import mask_transfer

        tables = mask_transfer(
            self.zoo,
            self.twin,
            self.out,
            ways=self.ways,
            members=self.members,
            epochs=self.epochs,
            chunk=self.running.chunk,
            data_dir=self.running.data_dir,
            quiet=self.running.quiet,
        )
        if not tables:
            return
        if self.running.json:
            show_json({"out": str(self.out), "rows": tables["transfer"].to_dicts()})
            return
        print_means(f"mask transfer in {self.zoo}", tables["transfer"])
        say(f"figure: {self.out / 'transfer.png'}")
