"""What a member is apart from its accuracy: how sparse, and whether it is finite."""

import jax
import jax.numpy as jnp
from jax import Array

from zoojax.architectures.parameters import kernels


def sparsity(params: dict) -> dict[str, Array]:
    """Share of weights that are exactly zero, whole and per layer.

    Counted over weights: biases are in neither numerator nor denominator.

    Returns:
        {"sparsity": scalar, "sparsity_conv1": scalar, ...}, each in [0, 1].
    """
    weights = kernels(params)
    zeros = {
        layer: jnp.sum(_is_zero(w), dtype=jnp.int32).astype(jnp.float32)
        for layer, w in weights.items()
    }
    total = sum(w.size for w in weights.values())
    whole = jnp.sum(jnp.stack(list(zeros.values()))) / total
    return {"sparsity": whole} | {
        f"sparsity_{layer}": zeros[layer] / weights[layer].size for layer in weights
    }


def _is_zero(x: Array) -> Array:
    """Whether numbers are 0 or -0. By their bits: XLA on CPU takes denormals for zero."""
    bits = jax.lax.bitcast_convert_type(jnp.asarray(x), jnp.uint32)
    return (bits << 1) == 0


def is_finite(tree: dict) -> Array:
    """Whether every number of a member is finite, scalar bool."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]))
