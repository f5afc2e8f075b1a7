"""Checks shapes and types of the kernel's operands before each call.

These checks run while a program is traced; the kernel repeats them when it runs.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from zoojax.errors import ZoojaxError
from zoojax.ops.kernel.lowering import LOSSES
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


def member_leaves(spec: KernelSpec, params: dict, variances: dict | None) -> Leaves:
    """Returns the leaves of parameters and, if there are any, of variances.

    Args:
        spec: The chain of operations.
        params: Parameters of one member.
        variances: Its variances; None without.

    Raises:
        ZoojaxError: If one is missing, or has a different shape or type.
    """
    leaves = parameter_leaves(spec, params)
    return leaves if variances is None else leaves + variance_leaves(spec, variances)


def batch_shape(images: Array, index: Any) -> tuple[int, ...]:
    """Returns the shape of an index, (B,).

    Args:
        images: All images of the set.
        index: Positions of the batch in the set.

    Raises:
        ZoojaxError: If there are no images, or the batch is empty.
    """
    size = jnp.shape(index)[:1]
    if 0 in (images.shape[0], *size):
        raise ZoojaxError("there are no images to compute a loss of")
    return size


def noise_operands(noise: Noise | None, dropout_rate: Any) -> tuple[Array, Array, Array]:
    """Returns key, counter and dropout rate of a step.

    Args:
        noise: Noise source of the step; None without.
        dropout_rate: The rate; None without dropout.

    Raises:
        ZoojaxError: If one has a different shape or type.
    """
    noise = noise_arrays(noise)
    rate = jnp.float32(0) if dropout_rate is None else dropout_rate
    return noise.key, noise.counter, float_array("dropout rate", rate, ())


def batch_operands(
    spec: KernelSpec,
    images: Any,
    targets: Any,
    index: Any,
    weights: Any,
    noise: Noise | None,
    dropout_rate: Any,
    kind: str,
) -> tuple[Array, ...]:
    """Returns the operands of a training step that follow from the batch.

    Args:
        spec: The chain of operations.
        images: All images of the set.
        targets: Their labels, or the member's own targets.
        index: Positions of the batch in the set.
        weights: Weight of each sample.
        noise: Noise source of the step; None without.
        dropout_rate: The rate; None without dropout.
        kind: The loss, "cross_entropy" or "squared_error".

    Returns:
        (images, targets, index, weights, key, counter, rate).

    Raises:
        ZoojaxError: If the loss is unknown, or an array has the wrong shape or type.
    """
    if kind not in LOSSES[:2]:
        raise ZoojaxError(f"no loss named '{printable(kind)}'; there are: {', '.join(LOSSES[:2])}")
    images = image_array(spec, images)
    count, size = images.shape[:1], batch_shape(images, index)
    if kind == "cross_entropy":
        targets = int_array("labels", targets, count)
    else:
        targets = float_array("targets", targets, (*count, spec.outputs))
    index = int_array("index", index, size)
    weights = float_array("weights", weights, size)
    return images, targets, index, weights, *noise_operands(noise, dropout_rate)


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
