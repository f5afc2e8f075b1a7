"""`zoojax represent ACTION`: trains and applies hyper-representations, one module per action."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from zoojax.cli.represent.evaluate import EvaluateRepresentation
from zoojax.cli.represent.sample import Sample
from zoojax.cli.represent.sparsify import ZeroShot
from zoojax.cli.represent.train import TrainRepresentation


@dataclass(frozen=True)
class Represent:
    """Train an autoencoder on the weights of a zoo and apply it."""

    action: (
        Annotated[TrainRepresentation, tyro.conf.subcommand("train")]
        | Annotated[EvaluateRepresentation, tyro.conf.subcommand("evaluate")]
        | Annotated[ZeroShot, tyro.conf.subcommand("sparsify")]
        | Annotated[Sample, tyro.conf.subcommand("sample")]
    )

    def run(self) -> None:
        """Runs the action."""
        self.action.run()
