"""Weights of a member or zoo, and pruning masks."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def kernels(params: dict) -> dict[str, Array]:
    """Returns the weights that can be pruned: the kernel of each layer, by layer name."""
    return {layer: params[layer]["kernel"] for layer in sorted(params)}


def apply_mask(params: dict, mask: dict[str, Array]) -> dict:
    """Sets pruned weights to exactly zero, even if they are NaN.

    Args:
        params: Parameters of one member, {layer: {"kernel": ..., "bias": ...}}.
        mask: {layer: bool array of the kernel's shape}; False for pruned weights.
    """
    return {
        layer: {**leaves, "kernel": jnp.where(mask[layer], leaves["kernel"], 0.0)}
        for layer, leaves in params.items()
    }


def masked(params: dict[str, Any], mask: dict[str, Any]) -> dict[str, Any]:
    """Sets pruned weights of stacked parameters to zero, in NumPy; otherwise as `apply_mask`."""
    zero = np.float32(0)
    return {
        layer: {**leaves, "kernel": np.where(mask[layer], leaves["kernel"], zero)}
        for layer, leaves in params.items()
    }


def pack_bits(tree: Any) -> np.ndarray:
    """Packs a pytree of bool arrays, such as a mask, into bits, leaf by leaf in JAX's order.

    Args:
        tree: Bool arrays [members, ...]; dicts are ordered by key.

    Returns:
        [members, bytes] uint8.
    """
    flat = [np.asarray(leaf).reshape(len(leaf), -1) for leaf in jax.tree.leaves(tree)]
    return np.packbits(np.concatenate(flat, axis=1), axis=1)


def unpack_bits(bits: np.ndarray, like: Any) -> Any:
    """Reverses `pack_bits`.

    Args:
        bits: [members, bytes] uint8.
        like: Pytree of one member whose leaves have the shapes.

    Returns:
        Pytree of bool arrays [members, ...].
    """
    leaves, structure = jax.tree.flatten(like)
    sizes = [math.prod(leaf.shape) for leaf in leaves]
    flat = np.unpackbits(bits, axis=1, count=sum(sizes)).astype(bool)
    pieces = np.split(flat, np.cumsum(sizes)[:-1], axis=1)
    return jax.tree.unflatten(
        structure,
        [piece.reshape(len(bits), *leaf.shape) for piece, leaf in zip(pieces, leaves, strict=True)],
    )
