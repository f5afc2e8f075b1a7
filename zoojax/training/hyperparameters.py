"""Grids of hyper-parameters: the members of a dense zoo."""

import itertools
import math
from dataclasses import dataclass

import polars as pl

from zoojax.architectures.layers import ACTIVATIONS, INITS
from zoojax.errors import ZoojaxError
from zoojax.optimizers import OPTIMIZERS

_SEED_LIMIT = 2**32


@dataclass(frozen=True)
class Grid:
    """The hyper-parameters of a dense zoo: every combination, each with some seeds.

    Attributes:
        activations: names of `models.ACTIVATIONS`.
        inits: names of `models.INITS`.
        optimizers: names of `train.OPTIMIZERS`.
        learning_rates: of the optimiser.
        weight_decays: L2 in the gradient.
        dropouts: rates in [0, 1).
        seeds: members of a combination.
        fresh_seeds: every member has a seed of its own ("random" zoos); otherwise every
            combination has the same seeds ("fixed" zoos).
    """

    activations: tuple[str, ...] = ("tanh",)
    inits: tuple[str, ...] = ("uniform",)
    optimizers: tuple[str, ...] = ("adam",)
    learning_rates: tuple[float, ...] = (3e-4,)
    weight_decays: tuple[float, ...] = (0.0,)
    dropouts: tuple[float, ...] = (0.0,)
    seeds: int = 1
    fresh_seeds: bool = False

    def __post_init__(self):
        for what, given, known in (
            ("activation", self.activations, ACTIVATIONS),
            ("initialisation", self.inits, INITS),
            ("optimiser", self.optimizers, OPTIMIZERS),
        ):
            if not given:
                raise ZoojaxError(f"no {what} given; give one or more")
            for name in given:
                if name not in known:
                    raise ZoojaxError(f"no {what} named '{name}'; there are: {', '.join(known)}")
        if self.seeds < 1:
            raise ZoojaxError(f"{self.seeds} members asked for; give at least 1")
        for what, numbers in (
            ("learning rate", self.learning_rates),
            ("weight decay", self.weight_decays),
            ("dropout rate", self.dropouts),
        ):
            if not numbers:
                raise ZoojaxError(f"no {what} given; give one or more")
        for rate in self.learning_rates:
            check_learning_rate(rate)
        for decay in self.weight_decays:
            if not (math.isfinite(decay) and decay >= 0):
                raise ZoojaxError(f"weight decay {decay:g} is not a number from 0 up")
        for rate in self.dropouts:
            if not 0 <= rate < 1:
                raise ZoojaxError(f"dropout rate {rate:g} is not in [0, 1)")

    @property
    def combinations(self) -> int:
        """How many combinations of hyper-parameters there are."""
        return len(list(self._product()))

    def _product(self):
        return itertools.product(
            self.activations,
            self.dropouts,
            self.inits,
            self.optimizers,
            self.learning_rates,
            self.weight_decays,
        )

    def members(self, first_seed: int = 1) -> pl.DataFrame:
        """The members table: a row a member, combination by combination."""
        last = first_seed + self.seeds * (self.combinations if self.fresh_seeds else 1) - 1
        if not 0 <= first_seed <= last < _SEED_LIMIT:
            raise ZoojaxError(f"seeds {first_seed} to {last} are not all from 0 to 2**32 - 1")
        rows = []
        for cell, values in enumerate(self._product()):
            offset = cell * self.seeds if self.fresh_seeds else 0
            rows += [(first_seed + offset + i, *values) for i in range(self.seeds)]
        names = ("seed", "activation", "dropout", "init", "optimizer", "learning_rate")
        table = pl.DataFrame(rows, schema=[*names, "weight_decay"], orient="row")
        floats = pl.col("dropout", "learning_rate", "weight_decay").cast(pl.Float64)
        return table.with_columns(floats, pl.col("seed").cast(pl.Int64)).select(
            pl.int_range(pl.len(), dtype=pl.Int64).alias("id"), pl.all()
        )


def check_learning_rate(rate: float) -> None:
    """Raises ZoojaxError unless the rate is a positive number."""
    if not (math.isfinite(rate) and rate > 0):
        raise ZoojaxError(f"learning rate {rate:g} is not a positive number")
