"""States of a zoo as a dataset: the split into members, weights, log alphas and properties."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import polars as pl

from zoojax.errors import ZoojaxError
from zoojax.runtime import population
from zoojax.sparsifiers.variational_dropout import LOG_ALPHA_THRESHOLD, log_alphas
from zoojax.storage.states import effective_params, state_like
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_config import ZooConfig

# The smallest number of members of which 15 % round to at least one.
MIN_MEMBERS = 7
# Properties predicted from embeddings; columns of a zoo's metrics.
PROPERTIES = ("test_acc", "sparsity", "epoch", "ggap")
# The part of a state from which log alphas are computed.
_LOG_SIGMA2 = "log_sigma2"


class Split(NamedTuple):
    """Member ids of the training, validation and test split (70, 15 and 15 %)."""

    train: list[int]
    val: list[int]
    test: list[int]


@dataclass(frozen=True)
class Samples:
    """States (member, epoch) of a zoo, stacked along the leading axis.

    Attributes:
        weights: Parameters, [n, ...]: before thresholding if the zoo has log alphas, otherwise
            those that the members are evaluated with.
        alphas: Log alphas of the variational parameters, [n, ...]; None if the zoo has none.
        table: One row per sample: member, epoch, and the metrics of that epoch.
    """

    weights: dict[str, Any]
    alphas: dict[str, Any] | None
    table: pl.DataFrame

    def __len__(self) -> int:
        return len(self.table)


def has_log_alphas(config: ZooConfig) -> bool:
    """Whether the states of a zoo have log alphas, with the default threshold."""
    threshold = getattr(config.sparsifier, "threshold", LOG_ALPHA_THRESHOLD)
    return _LOG_SIGMA2 in state_like(config, 1) and threshold == LOG_ALPHA_THRESHOLD


def finite_members(zoo: Zoo) -> list[int]:
    """Returns the ids of the members that are finite at every epoch."""
    diverged = set(zoo.metrics.filter(~pl.col("finite"))["member"].to_list())
    return [i for i in zoo.members_table["id"].to_list() if i not in diverged]


def split_members(members: Sequence[int], seed: int) -> Split:
    """Splits members 70/15/15.

    Args:
        members: Member ids, in any order.
        seed: Seed of the split.

    Raises:
        ZoojaxError: If there are fewer than MIN_MEMBERS members.
    """
    n = len(members)
    if n < MIN_MEMBERS:
        raise ZoojaxError(
            f"{n} members without NaN are too few to split 70/15/15; the zoo needs {MIN_MEMBERS} "
            "or more"
        )
    held_out = max(1, round(0.15 * n))
    order = np.random.default_rng(seed).permutation(np.sort(np.asarray(members)))
    parts = np.split(order, [n - 2 * held_out, n - held_out])
    return Split(*(sorted(part.tolist()) for part in parts))


def read_samples(
    zoo: Zoo,
    members: Sequence[int],
    epochs: Sequence[int] | None = None,
    *,
    alphas_of: int | None = None,
) -> Samples:
    """Reads the states of some members, ordered by epoch and then by member.

    Args:
        zoo: A dense zoo or any twin.
        members: Member ids.
        epochs: Epochs to read; None for all.
        alphas_of: Epoch whose log alphas are used for every sample; None for each sample's own.

    Raises:
        ZoojaxError: If an epoch is missing or damaged.
    """
    epochs = zoo.epochs if epochs is None else list(epochs)
    rows = zoo.row_indices(members)
    fixed = None if alphas_of is None else _alphas(zoo.state(alphas_of), rows)
    weights, alphas, tables = [], [], []
    wanted = pl.DataFrame({"member": members}, schema={"member": zoo.metrics.schema["member"]})
    for epoch in epochs:
        state = zoo.state(epoch)
        weights.append(_weights(zoo.config, state, rows))
        alphas.append(fixed if fixed is not None else _alphas(state, rows))
        metrics = zoo.metrics.filter(epoch=epoch)
        tables.append(wanted.join(metrics, on="member", how="left", maintain_order="left"))
    table = pl.concat(tables)
    stacked = population.concatenate(weights)
    if any(a is None for a in alphas):
        return Samples(stacked, None, table)
    return Samples(stacked, population.concatenate(alphas), table)


def read_weights(zoo: Zoo, members: Sequence[int], epoch: int) -> dict[str, Any]:
    """Reads the stacked `Samples.weights` of some members at one epoch.

    Raises:
        ZoojaxError: If the epoch is missing or damaged, or there is no such member.
    """
    return _weights(zoo.config, zoo.state(epoch), zoo.row_indices(members))


def _weights(config: ZooConfig, state: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    if has_log_alphas(config):
        return population.take(state["params"], rows)
    return effective_params(config, population.take(state, rows))


def _alphas(state: dict[str, Any], rows: np.ndarray) -> dict[str, Any] | None:
    if _LOG_SIGMA2 not in state:
        return None
    selected = population.take((state["params"], state[_LOG_SIGMA2]), rows)
    return jax.device_get(jax.jit(log_alphas)(*selected))


class Normalization(NamedTuple):
    """Mean and standard deviation of each layer's parameters."""

    mean: dict[str, float]
    std: dict[str, float]

    def apply(self, params: dict[str, Any]) -> dict[str, Any]:
        """Standardizes each layer's parameters."""
        return {
            layer: {n: (x - self.mean[layer]) / self.std[layer] for n, x in leaves.items()}
            for layer, leaves in params.items()
        }

    def invert(self, params: dict[str, Any]) -> dict[str, Any]:
        """Inverts `apply`."""
        return {
            layer: {n: x * self.std[layer] + self.mean[layer] for n, x in leaves.items()}
            for layer, leaves in params.items()
        }


def fit_normalization(weights: dict[str, Any]) -> Normalization:
    """Computes the mean and standard deviation of each layer of stacked parameters.

    Constant layers get a standard deviation of 1.
    """
    mean, std = {}, {}
    for layer, leaves in weights.items():
        flat = np.concatenate([np.asarray(x, np.float64).ravel() for x in leaves.values()])
        mean[layer] = float(flat.mean())
        std[layer] = float(flat.std()) or 1.0
    return Normalization(mean, std)
