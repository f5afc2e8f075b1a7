"""Masks of the highest scores, of exact size, cheap enough for every training step.

Sorting thousands of scores for every member takes longer on a CPU than the training step itself.
The threshold is therefore found by bisection over the bits of float32 numbers, which are in the
order of the numbers if those are not negative: 32 counts, however many scores there are.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

# Bits of the largest float32 without its sign, and more than those of infinity.
_LARGEST = np.uint32(0x7FFFFFFF)


def lowest(scores: Array, count: Array | int, among: Array | None = None) -> Array:
    """Marks the lowest scores, exactly `count` of them.

    Args:
        scores: Scores of any shape, float32, none negative.
        count: Number of scores to mark, scalar int32, at most the number of candidates.
        among: Bool array of the shape of `scores`, True for candidates; None for all.

    Returns:
        Bool array of the shape of `scores`. Of equal scores, the first are marked first.

    Example:
        >>> lowest(jnp.array([3.0, 1.0, 1.0, 2.0]), 2).tolist()
        [False, True, True, False]
    """
    return _smallest(_bits(scores), count, among)


def highest(scores: Array, count: Array | int, among: Array | None = None) -> Array:
    """Marks the highest scores, exactly `count` of them; otherwise as `lowest`.

    Example:
        >>> highest(jnp.array([3.0, 1.0, 1.0, 2.0]), 1).tolist()
        [True, False, False, False]
    """
    return _smallest(_LARGEST - _bits(scores), count, among)


def _bits(scores: Array) -> Array:
    return lax.bitcast_convert_type(jnp.asarray(scores, jnp.float32), jnp.uint32) & _LARGEST


def _smallest(order: Array, count: Array | int, among: Array | None) -> Array:
    """Marks the smallest of uint32 numbers, which are at most _LARGEST."""
    if among is not None:
        order = jnp.where(among, order, jnp.uint32(0xFFFFFFFF))

    def refine(bit: Array, threshold: Array) -> Array:
        higher = threshold | (jnp.uint32(1) << (31 - bit).astype(jnp.uint32))
        below = jnp.sum(order < higher, dtype=jnp.int32)
        return jnp.where(below <= count, higher, threshold)

    # The largest number that has at most `count` smaller ones in `order`.
    threshold = lax.fori_loop(0, 32, refine, jnp.uint32(0))
    below, tied = order < threshold, order == threshold
    missing = count - jnp.sum(below, dtype=jnp.int32)
    position = jnp.cumsum(tied.ravel(), dtype=jnp.int32).reshape(order.shape)
    return below | (tied & (position <= missing))


def mask_of_highest(scores: dict[str, Array], pruned: dict[str, Array]) -> dict[str, Array]:
    """Computes the mask that keeps the weights with the highest scores.

    Args:
        scores: {layer: scores of its weights}, float32, none negative.
        pruned: Number of weights to prune, as `zoojax.sparsifiers.allocation.num_pruned` returns
            them, int32.

    Returns:
        {layer: bool array of the shape of its scores}, True where the weight is kept.

    Example:
        >>> scores = {"a": jnp.array([3.0, 1.0]), "b": jnp.array([0.5, 2.0])}
        >>> mask = mask_of_highest(scores, {"all": 2})
        >>> mask["a"].tolist(), mask["b"].tolist()
        ([True, False], [False, True])
    """
    if "all" not in pruned:
        return {layer: _kept(x, pruned[layer]) for layer, x in scores.items()}
    flat = jnp.concatenate([x.ravel() for x in scores.values()])
    pieces = jnp.split(
        ~lowest(flat, pruned["all"]), np.cumsum([x.size for x in scores.values()])[:-1]
    )
    return {
        layer: piece.reshape(x.shape)
        for piece, (layer, x) in zip(pieces, scores.items(), strict=True)
    }


def _kept(scores: Array, pruned: Array) -> Array:
    if not jnp.ndim(pruned):
        return ~lowest(scores, pruned)
    by_unit = jax.vmap(lowest, in_axes=(-1, 0), out_axes=-1)
    return ~by_unit(scores, pruned)


def magnitudes(weights: dict[str, Array]) -> dict[str, Array]:
    """Returns the absolute values of weights, as scores.

    Args:
        weights: {layer: weights}.

    Example:
        >>> magnitudes({"fc": jnp.array([-2.0])})["fc"].tolist()
        [2.0]
    """
    return jax.tree.map(jnp.abs, weights)
