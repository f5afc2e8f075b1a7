"""L0 regularization with hard-concrete gates: every weight has a gate that learns to close.

Louizos et al., "Learning Sparse Neural Networks through L0 Regularization", 2018. In training, the
gates of the weights w' = w * z are random (eq. 10 and 11), with u uniform in (0, 1):

    s = sigmoid((log u - log(1 - u) + log_alpha) / beta)
    z = min(1, max(0, s * (zeta - gamma) + gamma))

The objective is the loss + penalty * sum of P(z != 0) over all weights (eq. 12):

    P(z != 0) = sigmoid(log_alpha - beta * log(-gamma / zeta))

For evaluation, z = min(1, max(0, sigmoid(log_alpha) * (zeta - gamma) + gamma)) (eq. 13).
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax import ops
from zoojax.architectures.parameters import WEIGHT, kernels, map_kernels, nested_layers
from zoojax.errors import ZoojaxError
from zoojax.ops import Noise
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.checks import check_number
from zoojax.sparsifiers.steps import Loss


def stretched(s: Array, gamma: float, zeta: float) -> Array:
    """Stretches values to (gamma, zeta) and clips them to [0, 1] (eq. 11).

    Args:
        s: Values in (0, 1).
        gamma: Lower end of the interval, negative.
        zeta: Upper end, above 1.

    Returns:
        Gates, of the same shape.
    """
    return jnp.clip(s * (zeta - gamma) + gamma, 0.0, 1.0)


def sampled_gates(u: Array, log_alpha: Array, beta: float, gamma: float, zeta: float) -> Array:
    """Computes the gates of a training step (eq. 10 and 11).

    Args:
        u: Uniform random numbers in (0, 1).
        log_alpha: Locations of the gates, of the same shape.
        beta: Temperature.
        gamma: Lower end of the stretched interval.
        zeta: Upper end.

    Returns:
        Gates in [0, 1], of the same shape.
    """
    logistic = jnp.log(u) - jnp.log1p(-u)
    return stretched(jax.nn.sigmoid((logistic + log_alpha) / beta), gamma, zeta)


def open_probability(log_alpha: Array, beta: float, gamma: float, zeta: float) -> Array:
    """Computes the probability that gates are not zero in training (eq. 12).

    Args:
        log_alpha: Locations of the gates.
        beta: Temperature.
        gamma: Lower end of the stretched interval.
        zeta: Upper end.

    Returns:
        Probabilities, of the same shape.
    """
    return jax.nn.sigmoid(log_alpha - beta * math.log(-gamma / zeta))


@dataclass(frozen=True)
class L0(Sparsifier):
    """Trains with a random gate for every weight, and a penalty for each open gate.

    Louizos et al., "Learning Sparse Neural Networks through L0 Regularization", 2018, with one
    gate per weight. Weights whose gate is exactly zero in evaluation are pruned; sparsity rises
    with the penalty and the epochs. Weight decay acts on the gates as well.

    Attributes:
        penalties: Factors of the expected number of open gates, 0 or more; one member per parent
            member and penalty.
        beta: Temperature of the gates.
        gamma: Lower end of the interval to which gates are stretched, negative.
        zeta: Upper end, above 1.
        droprate: Probability of a closed gate before stretching, at the start.
        gate_rate: Factor by which gates learn faster than weights: the trained parameter of a gate
            is log_alpha / gate_rate. The paper's 1 needs tens of thousands of steps.

    Raises:
        ZoojaxError: If an option is out of range.

    Example:
        >>> method = zoojax.L0(penalties=(1e-3, 1e-2))
        >>> twin = zoojax.sparsify(zoo, method, epochs=1, quiet=True)
        >>> twin.members["penalty"].unique().sort().to_list()
        [0.001, 0.01]
    """

    name: ClassVar = "l0"
    label: ClassVar = "L0 regularization"
    short: ClassVar = "L0"
    color: ClassVar = "#DD11FF"
    source: ClassVar = (
        "Louizos et al. 2018, Learning Sparse Neural Networks through L0 Regularization"
    )
    default_epochs: ClassVar = 25
    per_member: ClassVar = {"penalties": "penalty"}
    column_ranges: ClassVar = {"penalty": (0, math.inf)}
    draws_noise: ClassVar = True

    penalties: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    beta: float = 2 / 3
    gamma: float = -0.1
    zeta: float = 1.1
    droprate: float = 0.05
    gate_rate: float = 10.0

    def __post_init__(self) -> None:
        for option in ("beta", "gamma", "zeta", "droprate", "gate_rate"):
            check_number(option, getattr(self, option))
        for option in ("beta", "gate_rate"):
            if getattr(self, option) <= 0:
                raise ZoojaxError(f"{option} is {getattr(self, option):g}; give a positive number")
        if not self.gamma < 0 < 1 < self.zeta:
            raise ZoojaxError(
                f"gates are stretched to ({self.gamma:g}, {self.zeta:g}); give a negative gamma "
                "and a zeta above 1"
            )
        if not 0 < self.droprate < 1:
            raise ZoojaxError(f"droprate is {self.droprate:g}; give a number between 0 and 1")

    def init(self, params: dict[str, Any], values: dict[str, Any]) -> tuple[dict, dict]:
        """Starts from the parent's parameters, and the same location for all gates."""
        start = np.float32(math.log((1 - self.droprate) / self.droprate) / self.gate_rate)
        gates = {layer: {WEIGHT: jnp.full(w.shape, start)} for layer, w in kernels(params).items()}
        trainable = {"params": params, "gates": nested_layers(gates)}
        return trainable, {"penalty": values["penalty"]}

    def objective(
        self,
        loss: Loss,
        trainable: dict[str, Any],
        fixed: dict[str, Any],
        epoch: Array,
        key: Array | None = None,
    ) -> tuple[Array, Any]:
        """Loss with random gates, plus the penalty times the expected number of open gates."""
        assert key is not None
        log_alpha = self._log_alpha(trainable)
        shape = self.beta, self.gamma, self.zeta
        words = jax.random.key_data(key)
        gates = {
            layer: sampled_gates(_uniform(words, i, a.shape), a, *shape)
            for i, (layer, a) in enumerate(log_alpha.items())
        }
        value, auxiliary = loss(_gated(trainable["params"], gates))
        counts = [jnp.sum(open_probability(a, *shape)) for a in log_alpha.values()]
        return value + fixed["penalty"] * sum(counts, jnp.float32(0)), auxiliary

    def effective(self, trainable: dict[str, Any], fixed: dict[str, Any]) -> dict[str, Any]:
        """Multiplies weights by their gates."""
        gates = {
            layer: stretched(jax.nn.sigmoid(a), self.gamma, self.zeta)
            for layer, a in self._log_alpha(trainable).items()
        }
        return _gated(trainable["params"], gates)

    def _log_alpha(self, trainable: dict[str, Any]) -> dict[str, Array]:
        return {layer: self.gate_rate * g for layer, g in kernels(trainable["gates"]).items()}


def _gated(params: dict[str, Any], gates: dict[str, Array]) -> dict[str, Any]:
    # A closed gate gives zero without a sign, as do masks.
    return map_kernels(params, lambda layer, w: jnp.where(gates[layer] == 0, 0.0, w * gates[layer]))


def _uniform(words: Array, layer: int, shape: tuple[int, ...]) -> Array:
    """Draws numbers in (0, 1): multiples of 2^-24, and 2^-25 in place of 0."""
    drawn = ops.uniform(Noise(words, jnp.uint32(layer)), shape)
    return jnp.maximum(drawn, np.float32(2**-25))
