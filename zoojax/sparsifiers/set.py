"""Sparse evolutionary training (SET): random weights replace the smallest ones after each epoch.

Mocanu et al., "Scalable training of artificial neural networks with adaptive sparse connectivity
inspired by network science", 2018, algorithm 1.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from zoojax.architectures.parameters import kernels
from zoojax.sparsifiers.checks import check_number
from zoojax.sparsifiers.dynamic import DynamicMask, drop, grow
from zoojax.sparsifiers.static_sparse import random_scores
from zoojax.sparsifiers.steps import Update


def evolve(weights: Array, mask: Array, share: float, scores: Array) -> Array:
    """Replaces the weights of a layer that are closest to zero.

    The fraction `share` of the positive weights (zeros included) and the same fraction of the
    negative weights leave the mask, those closest to zero. As many of all weights outside of the
    mask enter it; one that has just left it may enter it again.

    Args:
        weights: Weights of the layer.
        mask: Bool array of their shape, True for weights in use.
        share: Fraction of the weights in use to replace.
        scores: Scores of all weights; those with the highest scores enter the mask.

    Returns:
        The new mask, with the same number of weights in use.

    Example:
        >>> weights, mask = jnp.array([0.5, 2.0, -0.1, -3.0, 0.0, 0.0]), jnp.arange(6) < 4
        >>> scores = jnp.array([0.0, 0.0, 0.0, 0.0, 0.7, 0.9])
        >>> evolve(weights, mask, 0.5, scores).tolist()
        [False, True, False, True, True, True]
    """
    negative = weights < 0
    kept = drop(weights, mask & ~negative, share) | drop(weights, mask & negative, share)
    return grow(scores, kept, jnp.sum(mask, dtype=jnp.int32))


@dataclass(frozen=True)
class SET(DynamicMask):
    """Replaces the smallest weights by random ones after each epoch.

    Mocanu et al., "Scalable training of artificial neural networks with adaptive sparse
    connectivity inspired by network science", 2018. New weights start from zero. Start from epoch
    0 of the dense zoo to train from scratch.

    The mask keeps its number of weights. Weights that have just entered it are zero, and metrics
    count them as pruned until they are trained.

    Attributes:
        ratios: Fractions of weights to prune, each in [0, 1).
        scope: What a ratio applies to: the whole network ("global"), each layer ("layer"), or each
            output unit ("unit"); or how the weights that remain are allocated to layers:
            Erdos-Renyi ("er") or Erdos-Renyi-kernel ("erk").
        start: Which weights the first mask keeps: "random" ones, or the largest ("magnitude").
        replaced: Fraction of each layer's weights in the mask that is replaced after each epoch
            (zeta).

    Raises:
        ZoojaxError: If an option is invalid.

    Example:
        >>> method = zoojax.SET(ratios=(0.5,), replaced=0.2)
        >>> twin = zoojax.sparsify(zoo, method, epochs=2, members=1, quiet=True)
        >>> twin.metrics["sparsity"].to_list()
        [0.5, 0.5, 0.5]
    """

    name: ClassVar = "set"
    label: ClassVar = "sparse evolutionary training"
    short: ClassVar = "SET"
    color: ClassVar = "#99DD66"
    source: ClassVar = (
        "Mocanu et al. 2018, Scalable training of artificial neural networks with adaptive sparse "
        "connectivity inspired by network science"
    )
    update_every: ClassVar = "epoch"

    replaced: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("replaced", self.replaced, 0, 1)

    def update(
        self, trainable: dict[str, Any], fixed: dict[str, Any], update: Update
    ) -> tuple[dict, dict]:
        """Moves the mask before each epoch except the first."""
        weights, mask = kernels(trainable["params"]), fixed["mask"]

        def moved() -> dict[str, Array]:
            scores = random_scores(weights, update.key)
            return jax.tree.map(
                lambda w, m, s: evolve(w, m, self.replaced, s), weights, mask, scores
            )

        return trainable, {**fixed, "mask": lax.cond(update.epoch > 1, moved, lambda: mask)}
