"""Sparsity and finiteness of a member."""

import jax
import jax.numpy as jnp
from jax import Array

from zoojax.architectures.parameters import kernels


def sparsity(params: dict) -> dict[str, Array]:
    """Computes the fraction of weights that are exactly zero, in total and per layer.

    Biases are not counted.

    Args:
        params: Parameters of one member.

    Returns:
        {"sparsity": scalar, "sparsity_LAYER": scalar for each layer}, each in [0, 1].
    """
    weights = kernels(params)
    zeros = {
        layer: jnp.sum(_is_zero(w), dtype=jnp.int32).astype(jnp.float32)
        for layer, w in weights.items()
    }
    total = sum(w.size for w in weights.values())
    overall = jnp.sum(jnp.stack(list(zeros.values()))) / total
    return {"sparsity": overall} | {
        f"sparsity_{layer}": zeros[layer] / weights[layer].size for layer in weights
    }


def _is_zero(x: Array) -> Array:
    """Whether values are 0 or -0, by their bits: XLA on CPU compares denormals as zero."""
    bits = jax.lax.bitcast_convert_type(jnp.asarray(x), jnp.uint32)
    return (bits << 1) == 0


def is_finite(tree: dict) -> Array:
    """Checks whether all values of a member are finite.

    Args:
        tree: Arrays of one member.

    Returns:
        Scalar bool.
    """
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]))
