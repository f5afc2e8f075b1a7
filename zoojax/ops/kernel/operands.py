"""Checks shapes and types of the kernel's operands before each call.

These checks run while a program is traced; the kernel repeats them when it runs.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from zoojax.errors import ZoojaxError
from zoojax.ops.kernel.spec import Conv, KernelSpec
from zoojax.ops.noise import Noise
from zoojax.text import printable

Leaves = tuple[Array, ...]


def float_array(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    """Converts a value to a float32 array.

    Args:
        name: Name of the operand for error messages.
        value: The value; it must be float32 already.
        shape: The required shape.

    Raises:
        ZoojaxError: If the shape or the type differs.
    """
    array = _array(name, value, shape)
    if array.dtype != jnp.float32:
        raise ZoojaxError(f"{name} has the type {array.dtype}, not float32")
    return array


def int_array(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    """Converts an integer value to an int32 array.

    Args:
        name: Name of the operand for error messages.
        value: The value, of any integer type.
        shape: The required shape.

    Raises:
        ZoojaxError: If the shape differs, or the type is not an integer type.
    """
    array = _array(name, value, shape)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise ZoojaxError(f"{name} has the type {array.dtype}, not int32")
    return array.astype(jnp.int32)


def image_array(spec: KernelSpec, value: Any) -> Array:
    """Converts the input images of a chain to a float32 array.

    Args:
        spec: The chain of operations.
        value: Images, [n, H, W, C] float32.

    Raises:
        ZoojaxError: If the shape or the type differs.
    """
    count = jnp.shape(value)[:1] or (0,)
    return float_array("images", value, (*count, *spec.input_shape))


def noise_arrays(value: Noise | None) -> Noise:
    """Checks the noise source of one step.

    Args:
        value: The noise source; None is replaced by zeros.

    Raises:
        ZoojaxError: If its shapes or types differ from those of a noise source.
    """
    if value is None:
        return Noise(jnp.zeros(2, jnp.uint32), jnp.uint32(0))
    key = _array("the noise's key", value.key, (2,))
    counter = _array("the noise's counter", value.counter, ())
    for name, array in (("key", key), ("counter", counter)):
        if array.dtype != jnp.uint32:
            raise ZoojaxError(f"the noise's {name} has the type {array.dtype}, not uint32")
    return Noise(key, counter)


def parameter_leaves(spec: KernelSpec, params: dict) -> Leaves:
    """Returns kernel and bias of each layer, in the order of the layers.

    Args:
        spec: The chain of operations.
        params: Parameters of one member.

    Raises:
        ZoojaxError: If one is missing, or has a different shape or type.
    """
    shapes = spec.parameter_shapes()
    return tuple(
        _leaf("parameter", params, layer, name, shapes[layer][name])
        for layer in spec.layers
        for name in ("kernel", "bias")
    )


def variance_leaves(spec: KernelSpec, variances: dict) -> Leaves:
    """Returns the variances of all kernels, then those of the convolutions' biases.

    Args:
        spec: The chain of operations.
        variances: Variances of one member. Those of biases may be missing; they are zero then.

    Raises:
        ZoojaxError: If one is missing, or has a different shape or type.
    """
    shapes = spec.parameter_shapes()
    kernels = [
        _leaf("variance", variances, layer, "kernel", shapes[layer]["kernel"])
        for layer in spec.layers
    ]
    biases = [
        _leaf("variance", variances, layer, "bias", shapes[layer]["bias"])
        if "bias" in variances[layer]
        else jnp.zeros(shapes[layer]["bias"], jnp.float32)
        for layer in _convolutions(spec)
    ]
    return (*kernels, *biases)


def _convolutions(spec: KernelSpec) -> tuple[str, ...]:
    return tuple(op.layer for op in spec.weighted if isinstance(op, Conv))


def _leaf(what: str, tree: dict, layer: str, name: str, shape: tuple[int, ...]) -> Array:
    try:
        leaf = tree[layer][name]
    except (KeyError, TypeError, IndexError) as error:
        raise ZoojaxError(f"{what} {layer}/{name} is missing") from error
    return float_array(f"{what} {layer}/{name}", leaf, shape)


def _array(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise ZoojaxError(f"{name}: {printable(error)}") from error
    if array.shape != shape:
        raise ZoojaxError(f"{name} has the shape {array.shape}, not {shape}")
    return array
