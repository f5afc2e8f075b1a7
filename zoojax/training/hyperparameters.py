"""Hyperparameter grids of dense zoos."""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from zoojax.architectures.layers import ACTIVATIONS, INITS
from zoojax.errors import ZoojaxError
from zoojax.optimizers import OPTIMIZERS
from zoojax.text import printable

_SEED_LIMIT = 2**32


@dataclass(frozen=True)
class Grid:
    """Hyperparameter grid of a dense zoo: every combination, each with several seeds.

    Attributes:
        activations: Names of `zoojax.architectures.layers.ACTIVATIONS`.
        inits: Names of `zoojax.architectures.layers.INITS`.
        optimizers: Names of `zoojax.optimizers.OPTIMIZERS`.
        learning_rates: Learning rates, positive.
        weight_decays: L2 penalties that are added to the gradient, non-negative.
        dropouts: Dropout rates in [0, 1).
        seeds: Number of members per combination.
        fresh_seeds: Whether every member has a different seed ("random" zoos). Otherwise
            all combinations share the same seeds ("fixed" zoos).

    Raises:
        ZoojaxError: If a list is empty, a name is unknown, or a value is out of range.

    Example:
        >>> grid = zoojax.Grid(activations=("tanh", "relu"), seeds=10)
        >>> grid.combinations, len(grid.members())
        (2, 20)
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
        for label, names, known in (
            ("activation", self.activations, ACTIVATIONS),
            ("initialization", self.inits, INITS),
            ("optimizer", self.optimizers, OPTIMIZERS),
        ):
            if not names:
                raise ZoojaxError(f"no {label} given; give one or more")
            for name in names:
                check_name(label, name, known)
        if self.seeds < 1:
            raise ZoojaxError(f"{self.seeds} members requested; give at least 1")
        for label, values in (
            ("learning rate", self.learning_rates),
            ("weight decay", self.weight_decays),
            ("dropout rate", self.dropouts),
        ):
            if not values:
                raise ZoojaxError(f"no {label} given; give one or more")
        for rate in self.learning_rates:
            check_learning_rate(rate)
        for decay in self.weight_decays:
            check_weight_decay(decay)
        for rate in self.dropouts:
            check_dropout(rate)

    @property
    def combinations(self) -> int:
        """Number of combinations of hyperparameters."""
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
        """Creates the members table.

        Args:
            first_seed: Seed of the first member.

        Returns:
            One row per member, ordered by combination: id, seed and hyperparameters.

        Raises:
            ZoojaxError: If a seed is outside [0, 2**32).

        Example:
            >>> grid = zoojax.Grid(learning_rates=(1e-3, 1e-2), seeds=2)
            >>> grid.members(first_seed=7).select("id", "seed", "learning_rate").rows()
            [(0, 7, 0.001), (1, 8, 0.001), (2, 7, 0.01), (3, 8, 0.01)]
        """
        last = first_seed + self.seeds * (self.combinations if self.fresh_seeds else 1) - 1
        if not 0 <= first_seed <= last < _SEED_LIMIT:
            raise ZoojaxError(f"seeds {first_seed} to {last} are not all from 0 to 2**32 - 1")
        rows = []
        for combination, values in enumerate(self._product()):
            offset = combination * self.seeds if self.fresh_seeds else 0
            rows += [(first_seed + offset + i, *values) for i in range(self.seeds)]
        names = ("seed", "activation", "dropout", "init", "optimizer", "learning_rate")
        table = pl.DataFrame(rows, schema=[*names, "weight_decay"], orient="row")
        floats = pl.col("dropout", "learning_rate", "weight_decay").cast(pl.Float64)
        return table.with_columns(floats, pl.col("seed").cast(pl.Int64)).select(
            pl.int_range(pl.len(), dtype=pl.Int64).alias("id"), pl.all()
        )


def check_name(label: str, name: object, known: Iterable[str]) -> None:
    """Checks that a name is known.

    Args:
        label: What the name is of, such as "activation".
        name: The name.
        known: All names.

    Raises:
        ZoojaxError: If the name is unknown.
    """
    known = tuple(known)
    if name not in known:
        raise ZoojaxError(
            f"no {label} named '{printable(name, 60)}'; there are: {', '.join(known)}"
        )


def check_learning_rate(rate: float) -> None:
    """Checks a learning rate.

    Args:
        rate: The learning rate.

    Raises:
        ZoojaxError: If the rate is not finite and positive.
    """
    if not (math.isfinite(rate) and rate > 0):
        raise ZoojaxError(f"learning rate {rate:g} is not a positive number")


def check_weight_decay(decay: float) -> None:
    """Checks a weight decay.

    Args:
        decay: The weight decay.

    Raises:
        ZoojaxError: If it is not finite, or negative.
    """
    if not (math.isfinite(decay) and decay >= 0):
        raise ZoojaxError(f"weight decay {decay:g} must be finite and non-negative")


def check_dropout(rate: float) -> None:
    """Checks a dropout rate.

    Args:
        rate: The dropout rate.

    Raises:
        ZoojaxError: If it is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise ZoojaxError(f"dropout rate {rate:g} is not in [0, 1)")
