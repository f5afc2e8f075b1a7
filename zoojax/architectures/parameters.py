"""Which parameters are weights, and masks over them."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array


def kernels(params: dict) -> dict[str, Array]:
    """The weights that count: each layer's kernel, by layer name."""
    return {layer: params[layer]["kernel"] for layer in sorted(params)}


def apply_mask(params: dict, mask: dict[str, Array]) -> dict:
    """The parameters with pruned weights at exactly zero, whatever they were (NaN too)."""
    return {
        layer: {**leaves, "kernel": jnp.where(mask[layer], leaves["kernel"], 0.0)}
        for layer, leaves in params.items()
    }


def masked(params: dict[str, Any], mask: dict[str, Any]) -> dict[str, Any]:
    """Stacked parameters with pruned weights at zero (NumPy)."""
    zero = np.float32(0)
    return {
        layer: {**leaves, "kernel": np.where(mask[layer], leaves["kernel"], zero)}
        for layer, leaves in params.items()
    }


def pack_mask(mask: dict[str, Any]) -> np.ndarray:
    """Masks by layer [members, ...] bool to bits [members, bytes] uint8, layers in order."""
    flat = [np.asarray(mask[layer]).reshape(len(mask[layer]), -1) for layer in sorted(mask)]
    return np.packbits(np.concatenate(flat, axis=1), axis=1)


def unpack_mask(bits: np.ndarray, params: dict[str, Any]) -> dict[str, np.ndarray]:
    """The inverse of `pack_mask`; shapes come from the parameters."""
    shapes = {layer: params[layer]["kernel"].shape for layer in sorted(params)}
    sizes = [int(np.prod(shape[1:])) for shape in shapes.values()]
    flat = np.unpackbits(bits, axis=1, count=sum(sizes)).astype(bool)
    pieces = np.split(flat, np.cumsum(sizes)[:-1], axis=1)
    return {
        layer: piece.reshape(shape)
        for piece, (layer, shape) in zip(pieces, shapes.items(), strict=True)
    }
