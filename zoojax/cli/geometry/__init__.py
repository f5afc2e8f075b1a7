"""`zoojax geometry ACTION`: alignment, connectivity and merging; one module per action."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from zoojax.cli.geometry.align import Align
from zoojax.cli.geometry.align_twin import AlignTwin
from zoojax.cli.geometry.average import Average
from zoojax.cli.geometry.basins import Basins
from zoojax.cli.geometry.curvature import Curvature
from zoojax.cli.geometry.curves import TrainCurves
from zoojax.cli.geometry.lines import Lines
from zoojax.cli.geometry.similarity import Similarity
from zoojax.cli.geometry.soup import MakeSoup
from zoojax.cli.geometry.transfer import Transfer


@dataclass(frozen=True)
class Geometry:
    """Align, connect and average the members of a zoo; measure curvature and similarity."""

    action: (
        Annotated[Align, tyro.conf.subcommand("align")]
        | Annotated[AlignTwin, tyro.conf.subcommand("align-twin")]
        | Annotated[Lines, tyro.conf.subcommand("lines")]
        | Annotated[TrainCurves, tyro.conf.subcommand("curves")]
        | Annotated[MakeSoup, tyro.conf.subcommand("soup")]
        | Annotated[Average, tyro.conf.subcommand("average")]
        | Annotated[Curvature, tyro.conf.subcommand("curvature")]
        | Annotated[Similarity, tyro.conf.subcommand("similarity")]
        | Annotated[Basins, tyro.conf.subcommand("basins")]
        | Annotated[Transfer, tyro.conf.subcommand("transfer")]
    )

    def run(self) -> None:
        """Runs the action."""
        self.action.run()
