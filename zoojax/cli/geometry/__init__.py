"""`zoojax geometry ACTION`: alignment, connectivity and merging; one module per action."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from zoojax.cli.geometry.align import Align
from zoojax.cli.geometry.align_twin import AlignTwin


@dataclass(frozen=True)
class Geometry:
    """Align the members of a zoo, and measure what lies between them."""

    action: (
        Annotated[Align, tyro.conf.subcommand("align")]
        | Annotated[AlignTwin, tyro.conf.subcommand("align-twin")]
    )

    def run(self) -> None:
        """Runs the action."""
        self.action.run()
