"""Weights of a member or zoo, and pruning masks."""

from typing import Any

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


def pack_mask(mask: dict[str, Any]) -> np.ndarray:
    """Packs masks into bits, with the layers in alphabetical order.

    Args:
        mask: {layer: bool array [members, ...]}.

    Returns:
        [members, bytes] uint8.
    """
    flat = [np.asarray(mask[layer]).reshape(len(mask[layer]), -1) for layer in sorted(mask)]
    return np.packbits(np.concatenate(flat, axis=1), axis=1)


def unpack_mask(bits: np.ndarray, params: dict[str, Any]) -> dict[str, np.ndarray]:
    """Reverses `pack_mask`.

    Args:
        bits: [members, bytes] uint8.
        params: Stacked parameters, which define the shapes.

    Returns:
        {layer: bool array [members, ...]}.
    """
    shapes = {layer: params[layer]["kernel"].shape for layer in sorted(params)}
    sizes = [int(np.prod(shape[1:])) for shape in shapes.values()]
    flat = np.unpackbits(bits, axis=1, count=sum(sizes)).astype(bool)
    pieces = np.split(flat, np.cumsum(sizes)[:-1], axis=1)
    return {
        layer: piece.reshape(shape)
        for piece, (layer, shape) in zip(pieces, shapes.items(), strict=True)
    }
