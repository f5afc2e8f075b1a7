"""What the kernel is called with: shapes and types are checked here before each call.

A pass over operands while a program is traced; the kernel checks again when it runs.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from zoojax.errors import ZoojaxError
from zoojax.ops.kernel.spec import NetworkSizes
from zoojax.ops.noise import Noise
from zoojax.text import printable

Leaves = tuple[Array, ...]


def real_array(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    """A float32 array of exactly this shape.

    Raises:
        ZoojaxError: it is none.
    """
    array = _array(name, value, shape)
    if array.dtype != jnp.float32:
        raise ZoojaxError(f"{name} has the type {array.dtype}, not float32")
    return array


def whole_array(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    """An integer array of exactly this shape, as int32.

    Raises:
        ZoojaxError: it is none.
    """
    array = _array(name, value, shape)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise ZoojaxError(f"{name} has the type {array.dtype}, not int32")
    return array.astype(jnp.int32)


def image_array(arch: NetworkSizes, value: Any) -> Array:
    """Images of an architecture, [n, H, W, C] float32; raises as `real_array` does."""
    count = jnp.shape(value)[:1] or (0,)
    return real_array("images", value, (*count, *arch.image_shape))


def noise_arrays(value: Noise | None) -> Noise:
    """The noise of one step: key [2] and block, uint32; zeros for None.

    Raises:
        ZoojaxError: it is none.
    """
    if value is None:
        return Noise(jnp.zeros(2, jnp.uint32), jnp.uint32(0))
    key = _array("the noise's key", value.key, (2,))
    block = _array("the noise's block", value.block, ())
    for name, array in (("key", key), ("block", block)):
        if array.dtype != jnp.uint32:
            raise ZoojaxError(f"the noise's {name} has the type {array.dtype}, not uint32")
    return Noise(key, block)


def parameter_leaves(arch: NetworkSizes, params: dict) -> Leaves:
    """Kernel and bias of each layer, in order.

    Raises:
        ZoojaxError: one is missing, or has another shape or type.
    """
    shapes = arch.parameter_shapes()
    return tuple(
        _leaf("parameter", params, layer, name, shapes[layer][name])
        for layer in arch.layers
        for name in ("kernel", "bias")
    )


def variance_leaves(arch: NetworkSizes, given: dict) -> Leaves:
    """Variances of all kernels, then of the convolutions' biases, zero where there are none.

    Raises:
        ZoojaxError: one is missing, or has another shape or type.
    """
    shapes = arch.parameter_shapes()
    kernels = [
        _leaf("variance", given, layer, "kernel", shapes[layer]["kernel"]) for layer in arch.layers
    ]
    biases = [
        _leaf("variance", given, layer, "bias", shapes[layer]["bias"])
        if "bias" in given[layer]
        else jnp.zeros(shapes[layer]["bias"], jnp.float32)
        for layer in arch.layers[: len(arch.convs)]
    ]
    return (*kernels, *biases)


def _leaf(what: str, tree: dict, layer: str, name: str, shape: tuple[int, ...]) -> Array:
    try:
        leaf = tree[layer][name]
    except (KeyError, TypeError, IndexError) as error:
        raise ZoojaxError(f"{what} {layer}/{name} is missing") from error
    return real_array(f"{what} {layer}/{name}", leaf, shape)


def _array(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise ZoojaxError(f"{name}: {printable(error)}") from error
    if array.shape != shape:
        raise ZoojaxError(f"{name} has the shape {array.shape}, not {shape}")
    return array
