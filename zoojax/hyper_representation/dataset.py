"""A zoo's states as data: which members are learned from, their weights, alphas, properties."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import polars as pl

from zoojax.errors import ZoojaxError
from zoojax.runtime import population
from zoojax.sparsifiers.variational_dropout import log_alphas
from zoojax.storage.zoo import Zoo

# A share of 15 % needs so many members to be one of them.
MIN_MEMBERS = 7
# Properties that embeddings are asked for; columns of a zoo's metrics.
PROPERTIES = ("test_acc", "sparsity", "epoch", "ggap")


class Split(NamedTuple):
    """Members by their ids: 70, 15 and 15 %."""

    train: list[int]
    val: list[int]
    test: list[int]


@dataclass(frozen=True)
class Samples:
    """States (member, epoch) of a zoo, stacked along the leading axis.

    Attributes:
        weights: parameters before any threshold, [n, ...].
        alphas: log alphas of what is variational; None in a zoo without any.
        table: a row a sample: member, epoch, and the measurements of that epoch.
    """

    weights: dict[str, Any]
    alphas: dict[str, Any] | None
    table: pl.DataFrame

    def __len__(self) -> int:
        return len(self.table)


def sound_members(zoo: Zoo) -> list[int]:
    """Ids of the members whose every saved number is finite."""
    spoilt = set(zoo.metrics.filter(~pl.col("finite"))["member"].to_list())
    return [i for i in zoo.members_table["id"].to_list() if i not in spoilt]


def split(members: Sequence[int], seed: int) -> Split:
    """Shares members out by a seed.

    Raises:
        ZoojaxError: there are too few.
    """
    n = len(members)
    if n < MIN_MEMBERS:
        raise ZoojaxError(
            f"{n} members without NaN are too few to split 70/15/15; a zoo of {MIN_MEMBERS} "
            "or more is needed"
        )
    held = max(1, round(0.15 * n))
    order = np.random.default_rng(seed).permutation(np.sort(np.asarray(members)))
    parts = np.split(order, [n - 2 * held, n - held])
    return Split(*(sorted(part.tolist()) for part in parts))


def read(
    zoo: Zoo,
    members: Sequence[int],
    epochs: Sequence[int] | None = None,
    *,
    alphas_of: int | None = None,
) -> Samples:
    """Reads states of some members.

    Args:
        zoo: a zoo of any kind.
        members: their ids.
        epochs: which; all if None.
        alphas_of: the epoch whose log alphas are read for every sample; its own if None.

    Raises:
        ZoojaxError: an epoch is not there or is damaged.
    """
    epochs = zoo.epochs if epochs is None else list(epochs)
    rows = zoo.row_indices(members)
    fixed = None if alphas_of is None else _alphas(zoo.state(alphas_of), rows)
    weights, alphas, tables = [], [], []
    wanted = pl.DataFrame({"member": members}, schema={"member": zoo.metrics.schema["member"]})
    for epoch in epochs:
        state = zoo.state(epoch)
        weights.append(population.take(state["params"], rows))
        own = fixed if fixed is not None else _alphas(state, rows)
        alphas.append(own)
        measured = zoo.metrics.filter(epoch=epoch)
        tables.append(wanted.join(measured, on="member", how="left", maintain_order="left"))
    table = pl.concat(tables)
    whole = population.concatenate(weights)
    if any(a is None for a in alphas):
        return Samples(whole, None, table)
    return Samples(whole, population.concatenate(alphas), table)


def _alphas(state: dict[str, Any], rows: np.ndarray) -> dict[str, Any] | None:
    if "log_sigma2" not in state:
        return None
    mine = population.take((state["params"], state["log_sigma2"]), rows)
    return jax.device_get(jax.jit(log_alphas)(*mine))


class Normalization(NamedTuple):
    """Mean and standard deviation of each layer's parameters, over the training samples."""

    mean: dict[str, float]
    deviation: dict[str, float]

    def apply(self, params: dict[str, Any]) -> dict[str, Any]:
        """Parameters in units of their layer's deviation from its mean."""
        return {
            layer: {n: (x - self.mean[layer]) / self.deviation[layer] for n, x in leaves.items()}
            for layer, leaves in params.items()
        }

    def invert(self, params: dict[str, Any]) -> dict[str, Any]:
        """The inverse of `apply`."""
        return {
            layer: {n: x * self.deviation[layer] + self.mean[layer] for n, x in leaves.items()}
            for layer, leaves in params.items()
        }


def normalisation(weights: dict[str, Any]) -> Normalization:
    """Of stacked parameters; a layer that never varies has the deviation 1."""
    mean, deviation = {}, {}
    for layer, leaves in weights.items():
        flat = np.concatenate([np.asarray(x, np.float64).ravel() for x in leaves.values()])
        mean[layer] = float(flat.mean())
        deviation[layer] = float(flat.std()) or 1.0
    return Normalization(mean, deviation)
