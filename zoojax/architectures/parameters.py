"""Weights of a member or zoo, and pruning masks."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

WEIGHT = "kernel"


def flat_layers(params: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the layers of nested parameters by path.

    Args:
        params: Parameters, {layer: {"kernel": ..., "bias": ...}} or nested dicts of layers.

    Returns:
        {"block/layer": {"kernel": ..., "bias": ...}}; layers at the top level have their name.
    """
    layers: dict[str, dict[str, Any]] = {}
    for name, tree in params.items():
        leaves = {n: x for n, x in tree.items() if not isinstance(x, dict)}
        if leaves:
            layers[name] = leaves
        nested = {n: x for n, x in tree.items() if isinstance(x, dict)}
        layers |= {f"{name}/{path}": layer for path, layer in flat_layers(nested).items()}
    return layers


def nested_layers(layers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Reverses `flat_layers`."""
    params: dict[str, Any] = {}
    for path, leaves in layers.items():
        tree = params
        for name in path.split("/"):
            tree = tree.setdefault(name, {})
        tree.update(leaves)
    return params


def kernels(params: dict[str, Any]) -> dict[str, Any]:
    """Returns the weights that can be pruned: the kernel of each layer, by layer path."""
    layers = flat_layers(params)
    return {path: layers[path][WEIGHT] for path in sorted(layers) if WEIGHT in layers[path]}


def is_conv(leaves: dict[str, Any]) -> bool:
    """Whether a layer is a convolution, by its kernel: of one member or stacked."""
    return WEIGHT in leaves and len(leaves[WEIGHT].shape) >= 4


def apply_mask(params: dict[str, Any], mask: dict[str, Array]) -> dict[str, Any]:
    """Sets pruned weights to exactly zero, even if they are NaN.

    Args:
        params: Parameters of one member.
        mask: {layer path: bool array of the kernel's shape}; False for pruned weights.
    """
    return map_kernels(params, lambda path, w: jnp.where(mask[path], w, 0.0))


def masked(params: dict[str, Any], mask: dict[str, Any]) -> dict[str, Any]:
    """Sets pruned weights of stacked parameters to zero, in NumPy; otherwise as `apply_mask`."""
    zero = np.float32(0)
    return map_kernels(params, lambda path, w: np.where(mask[path], w, zero))


def scaled_weights(params: dict[str, Any], factor: Array) -> dict[str, Any]:
    """Multiplies the weights of one member by a number; biases keep their values."""
    return map_kernels(params, lambda path, w: factor * w)


def with_kernels(params: dict[str, Any], weights: dict[str, Any]) -> dict[str, Any]:
    """Replaces the weights that can be pruned.

    Args:
        params: Parameters.
        weights: Kernel of each layer by layer path, as `kernels` returns them.
    """
    return map_kernels(params, lambda path, _: weights[path])


def map_kernels(params: dict[str, Any], change: Callable[[str, Any], Any]) -> dict[str, Any]:
    """Changes the weights of each layer.

    Args:
        params: Parameters of one member, or stacked.
        change: Function (layer path, weights) -> weights.
    """
    return nested_layers(
        {
            path: {**leaves, WEIGHT: change(path, leaves[WEIGHT])} if WEIGHT in leaves else leaves
            for path, leaves in flat_layers(params).items()
        }
    )


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
