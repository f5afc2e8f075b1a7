"""`zoojax represent ACTION`: hyper-representations of zoos, one file an action."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from experiments.represent.evaluate import EvaluateRepresentation
from experiments.represent.sample import Sample
from experiments.represent.sparsify import ZeroShot
from experiments.represent.train import TrainRepresentation


@dataclass(frozen=True)
class Represent:
    """Learn a zoo's weights with an autoencoder, and use what it learned."""

    action: (
        Annotated[TrainRepresentation, tyro.conf.subcommand("train")]
        | Annotated[EvaluateRepresentation, tyro.conf.subcommand("evaluate")]
        | Annotated[ZeroShot, tyro.conf.subcommand("sparsify")]
        | Annotated[Sample, tyro.conf.subcommand("sample")]
    )

    def run(self) -> None:
        """Runs the action."""
        self.action.run()
