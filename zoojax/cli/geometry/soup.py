"""`zoojax geometry soup ZOO --out SOUP`: averages the weights of members."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from zoojax.cli.options import DataDir, Flag, option
from zoojax.runtime.startup import configure_jax


@dataclass(frozen=True)
class MakeSoup:
    """Average the weights of members; the result is a dense zoo with one member at epoch 0.

    Members should be aligned first. The validation accuracy of a greedy soup is never below that of
    its best member.
    Example: zoojax geometry soup zoos/usps-aligned --kind greedy --out zoos/usps-soup
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the zoo."""

    out: Annotated[Path, option("SOUP")]
    """Folder of the new zoo."""

    kind: Literal["uniform", "greedy"] = "uniform"
    """Average all members, or those that do not decrease the validation accuracy."""

    members: Annotated[tuple[int, ...] | None, option("ID ...")] = None
    """Ids of the members (default: all with finite weights)."""

    epoch: Annotated[int | None, option("EPOCH")] = None
    """Epoch to average (default: the last)."""

    data_dir: DataDir = None
    """Folder of image sets (default: $ZOOJAX_DATA, or else a cache folder)."""

    json: Flag = False
    """Print JSON on standard output."""

    def run(self) -> None:
        """Averages the members and prints the metrics of the soup."""
        configure_jax()
        from zoojax.cli.terminal import say, show
        from zoojax.geometry import soup

        made = soup(
            *(self.zoo, self.out),
            kind=self.kind,
            members=self.members,
            epoch=self.epoch,
            data_dir=self.data_dir,
        )
        title = f"{made.zoo.config.name} in {made.zoo.path}"
        show(made.zoo, made.zoo.metrics, as_json=self.json, title=title)
        if not self.json:
            say(f"members: {', '.join(map(str, made.members))}")
