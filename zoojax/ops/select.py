"""Selection of the lowest values without sorting, which XLA does slowly on CPU."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array


def lowest(keys: Sequence[Array], count: Array | int) -> Array:
    """Marks the lowest entries along the first axis, exactly as many as asked for.

    The threshold of each key is found bit by bit, in 32 passes.

    Args:
        keys: Arrays of one shape, the primary key first: later keys break ties, and then the
            index. NaN is higher than all numbers; -0 and 0 are equal.
        count: Number of entries to mark, for each position on the other axes.

    Returns:
        Bool array, True for the marked entries.
    """
    remaining = jnp.broadcast_to(jnp.asarray(count, jnp.int32), keys[0].shape[1:])
    marked = jnp.zeros(keys[0].shape, bool)
    tied = ~marked
    for key in keys:
        bits = _ordered_bits(key)
        threshold = _threshold(bits, tied, remaining)
        below = tied & (bits < threshold[None])
        marked, tied = marked | below, tied & (bits == threshold[None])
        remaining = remaining - jnp.sum(below, 0, dtype=jnp.int32)
    return marked | (tied & (jnp.cumsum(tied, 0, dtype=jnp.int32) <= remaining[None]))


def _threshold(bits: Array, tied: Array, remaining: Array) -> Array:
    """Returns the largest value below which there are at most `remaining` of the tied entries."""

    def set_bit(step: Array, threshold: Array) -> Array:
        higher = threshold | (jnp.uint32(1) << (31 - step).astype(jnp.uint32))
        below = jnp.sum(tied & (bits < higher[None]), 0, dtype=jnp.int32)
        return jnp.where(below <= remaining, higher, threshold)

    return jax.lax.fori_loop(0, 32, set_bit, jnp.zeros(remaining.shape, jnp.uint32))


def _ordered_bits(x: Array) -> Array:
    """Maps numbers to uint32 in the same order."""
    sign = jnp.uint32(1 << 31)
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.floating):
        values = x.astype(jnp.float32)
        # -0 becomes 0, and the sign of NaN is removed.
        values = jnp.where(values == 0, 0.0, jnp.where(jnp.isnan(values), jnp.nan, values))
        bits = jax.lax.bitcast_convert_type(values, jnp.uint32)
        return jnp.where(bits >= sign, ~bits, bits | sign)
    if jnp.issubdtype(x.dtype, jnp.signedinteger):
        return jax.lax.bitcast_convert_type(x.astype(jnp.int32), jnp.uint32) ^ sign
    return x.astype(jnp.uint32)
