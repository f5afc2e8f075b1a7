"""Top-KAST: sparse forward passes, and sparse gradients of a larger set of weights.

Jayakumar et al., "Top-KAST: Top-K Always Sparse Training", 2020. The forward pass uses the set A
of the weights with the largest magnitudes; the backward pass updates a larger set B. All other
weights keep their values. The exploration regularizer is

    R(w) = |w| for w in A,  |w| / D for w in B but not in A,  0 otherwise,

where D is the density of A. It shrinks new weights more than those in use.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import polars as pl
from jax import Array, lax

from zoojax.architectures.parameters import apply_mask, kernels, map_kernels
from zoojax.sparsifiers.checks import check_count, check_number
from zoojax.sparsifiers.score_pruning import ScorePruning, pruning_mask
from zoojax.sparsifiers.steps import Loss, Update
from zoojax.sparsifiers.straight_through import straight_through


def regularizer(
    weights: dict[str, Array], forward: dict[str, Array], backward: dict[str, Array], density: Array
) -> Array:
    """Computes the exploration regularizer.

    Args:
        weights: {layer: weights} of one member.
        forward: {layer: bool array}, True in set A.
        backward: {layer: bool array}, True in set B.
        density: Density D of set A, scalar.

    Returns:
        The sum of R over all weights, scalar.
    """
    total = jnp.float32(0)
    for layer, w in weights.items():
        factor = jnp.where(forward[layer], 1.0, jnp.where(backward[layer], 1 / density, 0.0))
        total += jnp.sum(factor * jnp.abs(w))
    return total


@dataclass(frozen=True)
class TopKAST(ScorePruning):
    """Trains with sparse forward passes, and with gradients of the largest pruned weights, too.

    Jayakumar et al., "Top-KAST: Top-K Always Sparse Training", 2020. The weights of the twin are
    dense; it is evaluated with those of the forward pass.

    Attributes:
        ratios: Fractions of weights that the forward pass sets to zero, each in [0, 1).
        scope: What a ratio applies to: the whole network ("global"), each layer ("layer"), or each
            output unit ("unit"); or how the weights that remain are allocated to layers:
            Erdos-Renyi ("er") or Erdos-Renyi-kernel ("erk").
        explored: Fraction of the pruned weights that have gradients, the largest ones.
        penalty: Factor of the regularizer.
        frequency: Steps after which both sets are chosen again.

    Raises:
        ZoojaxError: If there is no such scope, or an option is out of range.

    Example:
        >>> zoojax.TopKAST(explored=0.2).explored
        0.2
    """

    name: ClassVar = "top_kast"
    label: ClassVar = "Top-KAST"
    short: ClassVar = "TOPKAST"
    color: ClassVar = "#0000BB"
    source: ClassVar = "Jayakumar et al. 2020, Top-KAST: Top-K Always Sparse Training"
    update_every: ClassVar = "step"

    explored: float = 0.5
    penalty: float = 1e-5
    frequency: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("explored", self.explored, 0, 1)
        check_number("penalty", self.penalty, 0)
        check_count("frequency", self.frequency)

    def member_values(self, members: pl.DataFrame, params: dict[str, Any]) -> dict[str, Any]:
        """Computes the exact numbers of weights outside of A and of B, of each member."""
        values, ratios = super().member_values(members, params), members["ratio"].to_list()
        outside = [ratio * (1 - self.explored) for ratio in ratios]
        return {**values, "num_frozen": self._counts(outside, params)}

    def init(self, params: dict[str, Any], values: dict[str, Any]) -> tuple[dict, dict]:
        """Starts from the parent's parameters, and chooses both sets."""
        counts = {name: values[name] for name in ("num_pruned", "num_frozen")}
        return {"params": params}, {**counts, **_sets(params, counts)}

    def objective(
        self, loss: Loss, trainable: dict[str, Any], fixed: dict[str, Any], epoch: Array
    ) -> tuple[Array, Any]:
        """Loss of the sparse forward pass, plus the weighted regularizer."""
        params, forward, backward = trainable["params"], fixed["forward"], fixed["backward"]
        value, auxiliary = loss(straight_through(params, forward, backward))
        used = sum(jnp.sum(each, dtype=jnp.float32) for each in forward.values())
        density = jnp.maximum(used, 1) / sum(each.size for each in forward.values())
        penalty = regularizer(kernels(params), forward, backward, density)
        return value + self.penalty * penalty, auxiliary

    def update(
        self, trainable: dict[str, Any], fixed: dict[str, Any], update: Update
    ) -> tuple[dict, dict]:
        """Restores the weights outside of B, which moments and decay change, and moves the sets."""
        assert update.previous is not None
        backward, previous = fixed["backward"], kernels(update.previous["params"])
        params = map_kernels(
            trainable["params"], lambda layer, w: jnp.where(backward[layer], w, previous[layer])
        )
        sets = {name: fixed[name] for name in ("forward", "backward")}
        is_due = update.done % self.frequency == 0
        moved = lax.cond(is_due, lambda: _sets(params, fixed), lambda: sets)
        return {"params": params}, {**fixed, **moved}

    def project(self, trainable: dict[str, Any], fixed: dict[str, Any]) -> dict[str, Any]:
        """Keeps all weights."""
        return trainable

    def effective(self, trainable: dict[str, Any], fixed: dict[str, Any]) -> dict[str, Any]:
        """Sets the weights outside of A to zero."""
        return apply_mask(trainable["params"], fixed["forward"])


def _sets(params: dict[str, Any], counts: dict[str, Any]) -> dict[str, dict[str, Array]]:
    return {
        "forward": pruning_mask(params, counts["num_pruned"]),
        "backward": pruning_mask(params, counts["num_frozen"]),
    }
