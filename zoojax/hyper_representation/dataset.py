"""States of a zoo as a dataset: weights, log alphas and properties."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from zoojax.runtime import population
from zoojax.sparsifiers.variational_dropout import (
    INIT_LOG_SIGMA2,
    LOG_ALPHA_THRESHOLD,
    log_alphas,
)
from zoojax.storage.states import effective_params, state_like
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_config import ZooConfig

# Properties predicted from embeddings; columns of a zoo's metrics.
PROPERTIES = ("test_acc", "sparsity", "epoch", "ggap")
# The part of a state from which log alphas are computed.
_LOG_SIGMA2 = "log_sigma2"

# Names of parameters by layer.
LeafNames = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Samples:
    """States (member, epoch) of a zoo, stacked along the leading axis.

    Attributes:
        weights: Parameters, [n, ...]: before thresholding if the zoo has log alphas, otherwise
            those that the members are evaluated with.
        alphas: Log alphas of the variational parameters, [n, ...]; None if there are none.
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


def variational_names(zoo: Zoo) -> LeafNames:
    """Returns the names of the parameters that have a log alpha, by layer; empty if none has."""
    state = state_like(zoo.config, 1)
    return {layer: tuple(leaves) for layer, leaves in state.get(_LOG_SIGMA2, {}).items()}


def read_samples(
    zoo: Zoo,
    members: Sequence[int],
    epochs: Sequence[int] | None = None,
    *,
    alphas_of: int | None = None,
    variational: LeafNames | None = None,
) -> Samples:
    """Reads the states of some members, ordered by epoch and then by member.

    Args:
        zoo: A dense zoo or any twin.
        members: Member ids.
        epochs: Epochs to read; None for all.
        alphas_of: Epoch whose log alphas are used for every sample; None for each sample's own.
        variational: Parameters that get the log alphas with which variational dropout starts
            (log sigma squared = -10) if the zoo has none; None for no log alphas.

    Raises:
        ZoojaxError: If an epoch is missing or damaged.
    """
    epochs = zoo.epochs if epochs is None else list(epochs)
    rows = zoo.row_indices(members)
    fixed = None if alphas_of is None else _alphas(zoo.state(alphas_of), rows)
    initial = jax.jit(lambda params: _initial_alphas(params, variational or {}))
    weights, alphas, tables = [], [], []
    wanted = pl.DataFrame({"member": members}, schema={"member": zoo.metrics.schema["member"]})
    for epoch in epochs:
        state = zoo.state(epoch)
        weights.append(_weights(zoo.config, state, rows))
        own = _alphas(state, rows) if fixed is None else fixed
        if own is None and variational:
            own = jax.device_get(initial(weights[-1]))
        alphas.append(own)
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


def _initial_alphas(params: dict[str, Any], variational: LeafNames) -> dict[str, Any]:
    """Computes the log alphas of weights with the initial log sigma squared.

    Pruned weights have the largest log alpha, so they count as pruned.
    """
    sigma = {
        layer: {name: jnp.full_like(params[layer][name], INIT_LOG_SIGMA2) for name in names}
        for layer, names in variational.items()
    }
    return log_alphas(params, sigma)


def join_samples(parts: Sequence[Samples]) -> Samples:
    """Joins the samples of several zoos in order; all or none have log alphas."""
    weights = population.concatenate([part.weights for part in parts])
    alphas = [part.alphas for part in parts if part.alphas is not None]
    table = pl.concat([part.table for part in parts], how="diagonal_relaxed")
    return Samples(weights, population.concatenate(alphas) if alphas else None, table)


class Normalization(NamedTuple):
    """Mean and standard deviation of each layer's parameters."""

    mean: dict[str, float]
    std: dict[str, float]

    @property
    def is_finite(self) -> bool:
        """Whether all means and standard deviations are finite."""
        return all(map(math.isfinite, (*self.mean.values(), *self.std.values())))

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
