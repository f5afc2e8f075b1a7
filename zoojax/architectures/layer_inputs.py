"""Inputs of the layers with weights, as matrices whose product with the kernel is the output.

A convolution is the product of the patches of its input with its kernel as a matrix [fan_in,
features]. A patch is a row of fan_in = height * width * channels of the kernel, in this order.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from zoojax import ops
from zoojax.architectures import layers
from zoojax.architectures.base import Architecture, Module, variable_shapes
from zoojax.errors import ZoojaxError
from zoojax.text import printable

_COLLECTION = "layer_inputs"


def layer_inputs(
    arch: Architecture, module: Module, variables: dict[str, Any], images: Array
) -> dict[str, Array]:
    """Computes the inputs of the layers with weights of one member, in evaluation.

    Args:
        arch: Architecture of the member.
        module: Its module; see `Architecture.module`.
        variables: Its variables, {"params": ...} and the collections.
        images: Normalized images, [batch, size, size, channels].

    Returns:
        {layer path: inputs [rows, fan_in]}, where `inputs @ kernel.reshape(fan_in, -1)` is the
        output of the layer without bias. A fully connected layer has one row per image, a
        convolution one per image and position.

    Raises:
        ZoojaxError: If the inputs of a layer are unknown because it is neither a convolution nor
            fully connected.

    Example:
        >>> from zoojax.architectures.layer_inputs import layer_inputs
        >>> arch = zoo.config.shape
        >>> module, variables = arch.module("tanh", "uniform"), {"params": zoo.member(0)}
        >>> inputs = layer_inputs(arch, module, variables, jnp.asarray(images[:2]))
        >>> inputs["conv1"].shape, inputs["fc1"].shape
        ((1152, 25), (2, 36))
    """

    def record(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        unfold = _UNFOLD.get(type(context.module))
        if unfold is not None and context.method_name == "__call__":
            context.module.sow(_COLLECTION, "rows", unfold(context.module, args[0]))
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        _, recorded = module.apply(variables, images, mutable=[_COLLECTION])
    inputs = _by_path(recorded.get(_COLLECTION, {}))
    for path in arch.layers:
        if path not in inputs:
            raise ZoojaxError(
                f"the inputs of layer {printable(path, 60)} of {arch.label} are unknown; build it "
                "from flax.linen.Conv or Dense, or from the layers that the module is given"
            )
    return inputs


@functools.cache
def check_layer_inputs(arch: Architecture) -> None:
    """Checks that the inputs of the layers of an architecture are known, without computing them.

    Args:
        arch: The architecture.

    Raises:
        ZoojaxError: If those of a layer are unknown; see `layer_inputs`.
    """
    images = jax.ShapeDtypeStruct((1, *arch.image_shape), jnp.float32)
    module = arch.module("tanh", "uniform")
    jax.eval_shape(functools.partial(layer_inputs, arch, module), variable_shapes(arch), images)


def _by_path(tree: Any, prefix: str = "") -> dict[str, Array]:
    """Returns the recorded rows by layer path; a layer that is used twice has the rows of both."""
    inputs: dict[str, Array] = {}
    for name, value in tree.items():
        if isinstance(value, tuple):
            inputs[prefix.removesuffix("/")] = jnp.concatenate(value)
        else:
            inputs |= _by_path(value, f"{prefix}{name}/")
    return inputs


def _dense_rows(module: Any, x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _conv_rows(module: layers.Conv, x_BHWC: Array) -> Array:
    spec = module.spec
    windows = ops.windows(x_BHWC, spec.kernel, spec.stride, spec.padding, 0.0)
    return jnp.moveaxis(windows, 4, 2).reshape(-1, spec.kernel**2 * x_BHWC.shape[-1])


def _linen_conv_rows(module: nn.Conv, x_BHWC: Array) -> Array:
    size = _pair(module.kernel_size)
    if module.feature_group_count != 1 or _pair(module.input_dilation) != (1, 1):
        raise ZoojaxError(
            f"the inputs of layer {printable('/'.join(module.path), 60)} are unknown: grouped and "
            "transposed convolutions are not supported"
        )
    padding = module.padding
    if not isinstance(padding, str):
        sides = _pair(padding)
        padding = [(side, side) if isinstance(side, int) else tuple(side) for side in sides]
    patches = jax.lax.conv_general_dilated_patches(
        x_BHWC,
        size,
        _pair(module.strides),
        padding,
        rhs_dilation=_pair(module.kernel_dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    # The channels of patches vary slowest, those of kernels fastest.
    rows = patches.reshape(-1, x_BHWC.shape[-1], size[0] * size[1])
    return jnp.swapaxes(rows, 1, 2).reshape(len(rows), -1)


def _pair(value: Any) -> tuple[Any, ...]:
    """Returns an option of a two-dimensional convolution for both dimensions."""
    if value is None:
        return 1, 1
    return (value, value) if isinstance(value, int) else tuple(value)


_UNFOLD: dict[type, Callable[[Any, Array], Array]] = {
    layers.Dense: _dense_rows,
    nn.Dense: _dense_rows,
    layers.Conv: _conv_rows,
    nn.Conv: _linen_conv_rows,
}
