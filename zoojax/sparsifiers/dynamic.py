"""Masks that move while their number of weights stays the same."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from zoojax import optimizers
from zoojax.architectures.parameters import apply_mask
from zoojax.ops.select import lowest
from zoojax.sparsifiers.static_sparse import StaticSparse
from zoojax.sparsifiers.steps import Update


def drop(weights: Array, mask: Array, share: Array | float) -> Array:
    """Removes the smallest weights of a layer from a mask.

    Args:
        weights: Weights of the layer.
        mask: Bool array of their shape, True for weights in use.
        share: Fraction of the weights in use to remove, scalar; their number is rounded half to
            even.

    Returns:
        The mask without them. Of equal magnitudes, the first are removed first.

    Example:
        >>> weights, mask = jnp.array([3.0, -1.0, 0.0, 2.0]), jnp.array([True, True, False, True])
        >>> drop(weights, mask, 0.33).tolist()
        [True, False, False, True]
    """
    count = jnp.round(share * jnp.sum(mask, dtype=jnp.int32)).astype(jnp.int32)
    # NaN is higher than all numbers.
    magnitudes = jnp.where(mask, jnp.abs(weights), jnp.nan).ravel()
    return mask & ~lowest([magnitudes], count).reshape(mask.shape)


def grow(scores: Array, kept: Array, size: Array) -> Array:
    """Adds the weights with the highest scores to a mask.

    Args:
        scores: Scores of the weights of a layer.
        kept: Bool array of their shape, True for weights that are in use already.
        size: Number of weights in use afterwards, scalar int32.

    Returns:
        The mask, with exactly that number of weights.

    Example:
        >>> scores, kept = jnp.array([9.0, 1.0, 2.0, 0.0]), jnp.array([True, False, False, False])
        >>> grow(scores, kept, 2).tolist()
        [True, False, True, False]
    """
    missing = size - jnp.sum(kept, dtype=jnp.int32)
    descending = jnp.where(kept, jnp.nan, -scores).ravel()
    return kept | lowest([descending], missing).reshape(kept.shape)


@dataclass(frozen=True)
class DynamicMask(StaticSparse):
    """Trains with a mask that moves: weights that enter it start from zero, without moments.

    Attributes:
        ratios: Fractions of weights to prune, each in [0, 1).
        scope: What a ratio applies to: the whole network ("global"), each layer ("layer"), or each
            output unit ("unit"); or how the weights that remain are allocated to layers:
            Erdos-Renyi ("er") or Erdos-Renyi-kernel ("erk").
        start: Which weights the first mask keeps: "random" ones, or the largest ("magnitude").
    """

    def update_moments(
        self, moments: Any, before: dict[str, Any], after: dict[str, Any], update: Update
    ) -> Any:
        """Resets the moments of weights that have just entered the mask."""
        old = {layer: ~mask | before["mask"][layer] for layer, mask in after["mask"].items()}

        def without_new(tree: dict[str, Any]) -> dict[str, Any]:
            return {**tree, "params": apply_mask(tree["params"], old)}

        return optimizers.map_moments(without_new, moments)
