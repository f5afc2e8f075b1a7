"""Training without sparsification."""

from dataclasses import dataclass
from typing import ClassVar

from zoojax.sparsifiers.base import Sparsifier


@dataclass(frozen=True)
class Dense(Sparsifier):
    """Trains all parameters, without sparsification."""

    name: ClassVar = "dense"
    label: ClassVar = "dense"
    short: ClassVar = "dense"
    color: ClassVar = "#000000"
