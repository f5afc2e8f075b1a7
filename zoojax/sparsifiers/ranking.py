"""Masks of the highest scores, of exact size, cheap enough for every training step.

Sorting thousands of scores for every member takes longer on a CPU than the training step itself.
The threshold is therefore found by bisection over the bits of float32 numbers, which are in the
order of the numbers if those are not negative: 32 counts, however many scores there are.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax


def lowest(scores: Array, count: Array | int) -> Array:
    """Marks the lowest scores, exactly `count` of them.

    Args:
        scores: Scores of any shape, float32, none negative.
        count: Number of scores to mark, scalar int32 from 0 to the number of scores.

    Returns:
        Bool array of the shape of `scores`. Of equal scores, the first are marked first.

    Example:
        >>> lowest(jnp.array([3.0, 1.0, 1.0, 2.0]), 2).tolist()
        [False, True, True, False]
    """
    order = lax.bitcast_convert_type(jnp.asarray(scores, jnp.float32), jnp.uint32).ravel()

    def refine(bit: Array, threshold: Array) -> Array:
        higher = threshold | (jnp.uint32(1) << (31 - bit).astype(jnp.uint32))
        below = jnp.sum(order < higher, dtype=jnp.int32)
        return jnp.where(below <= count, higher, threshold)

    threshold = lax.fori_loop(0, 32, refine, jnp.uint32(0))
    below, tied = order < threshold, order == threshold
    missing = count - jnp.sum(below, dtype=jnp.int32)
    marked = below | (tied & (jnp.cumsum(tied, dtype=jnp.int32) <= missing))
    return marked.reshape(scores.shape)


def highest(scores: Array, count: Array | int) -> Array:
    """Marks the highest scores, exactly `count` of them.

    Args:
        scores: Scores of any shape, float32, none negative.
        count: Number of scores to mark, scalar int32.

    Returns:
        Bool array of the shape of `scores`. Of equal scores, the last are marked first.

    Example:
        >>> highest(jnp.array([3.0, 1.0, 1.0, 2.0]), 1).tolist()
        [True, False, False, False]
    """
    return ~lowest(scores, scores.size - count)


def mask_of_highest(scores: dict[str, Array], pruned: dict[str, Array]) -> dict[str, Array]:
    """Computes the mask that keeps the weights with the highest scores.

    Args:
        scores: {layer: scores of its weights}, float32, none negative.
        pruned: Number of weights to prune, {"all": count} or {layer: count}, int32 scalars.

    Returns:
        {layer: bool array of the shape of its scores}, True where the weight is kept.

    Example:
        >>> scores = {"a": jnp.array([3.0, 1.0]), "b": jnp.array([0.5, 2.0])}
        >>> mask = mask_of_highest(scores, {"all": 2})
        >>> mask["a"].tolist(), mask["b"].tolist()
        ([True, False], [False, True])
    """
    if "all" not in pruned:
        return {layer: ~lowest(x, pruned[layer]) for layer, x in scores.items()}
    flat = jnp.concatenate([x.ravel() for x in scores.values()])
    pieces = jnp.split(
        ~lowest(flat, pruned["all"]), np.cumsum([x.size for x in scores.values()])[:-1]
    )
    return {
        layer: piece.reshape(x.shape)
        for piece, (layer, x) in zip(pieces, scores.items(), strict=True)
    }


def magnitudes(weights: dict[str, Array]) -> dict[str, Array]:
    """Returns the absolute values of weights, as scores.

    Args:
        weights: {layer: weights}.

    Example:
        >>> magnitudes({"fc": jnp.array([-2.0])})["fc"].tolist()
        [2.0]
    """
    return jax.tree.map(jnp.abs, weights)
