"""Activations, initializers and layers of the CNNs, for ONE member."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, random
from jax.nn import initializers

from zoojax import ops
from zoojax.ops import Noise


@dataclass(frozen=True)
class ConvSpec:
    """One convolution of stride 1 without padding, laid out for the max pooling that follows.

    Attributes:
        features: Number of output channels.
        kernel: Side of the square kernel.
        pool: Side of the pooling window; 1 for no pooling.
        dropout: Whether dropout follows the activation.
    """

    features: int
    kernel: int
    pool: int
    dropout: bool


# (key, kernel shape) -> kernel.
KernelInit = Callable[[Array, tuple[int, ...]], Array]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "sigmoid": nn.sigmoid,
    "relu": nn.relu,
    "gelu": functools.partial(nn.gelu, approximate=False),
    "silu": nn.silu,
    "leaky_relu": functools.partial(nn.leaky_relu, negative_slope=0.01),
}


def _scheme(
    draw: Callable[[Array, tuple[int, ...], jnp.dtype], Array], scale: Callable[[int, int], float]
) -> KernelInit:
    """Creates an initializer of random draws times a scale that depends on (fan_in, fan_out)."""

    def initializer(key: Array, shape: tuple[int, ...]) -> Array:
        *field, inputs, outputs = shape
        size = math.prod(field)
        # Drawn as one axis and reshaped, with identical bits: on CPU, XLA takes seconds to
        # compile random draws with four axes, and a tenth of that with one axis.
        row = draw(key, (math.prod(shape),), jnp.float32) * scale(size * inputs, size * outputs)
        return row.reshape(shape)

    return initializer


def _symmetric(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    return random.uniform(key, shape, dtype, minval=-1.0)


# The schemes of torch.nn.init with torch's defaults: uniform_ is U(0, 1), normal_ is N(0, 1),
# kaiming_* uses fan_in and gain sqrt(2), xavier_* uses gain 1.
INITS: dict[str, KernelInit] = {
    "uniform": _scheme(random.uniform, lambda fan_in, fan_out: 1.0),
    "normal": _scheme(random.normal, lambda fan_in, fan_out: 1.0),
    "kaiming_uniform": _scheme(_symmetric, lambda fan_in, fan_out: math.sqrt(6 / fan_in)),
    "kaiming_normal": _scheme(random.normal, lambda fan_in, fan_out: math.sqrt(2 / fan_in)),
    "xavier_uniform": _scheme(
        _symmetric, lambda fan_in, fan_out: math.sqrt(6 / (fan_in + fan_out))
    ),
    "xavier_normal": _scheme(
        random.normal, lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out))
    ),
}

BIAS_INIT = initializers.constant(0.01, jnp.float32)


def conv_params(
    module: nn.Module, spec: ConvSpec, channels: int, kernel_init: KernelInit
) -> tuple[Array, Array]:
    """Declares the parameters of a convolution.

    Args:
        module: The Linen module that owns the parameters.
        spec: Sizes of the convolution.
        channels: Number of input channels.
        kernel_init: Initializer of the kernel.

    Returns:
        (kernel [k, k, channels, features], bias [features]).
    """
    shape = (spec.kernel, spec.kernel, channels, spec.features)
    kernel = module.param("kernel", kernel_init, shape)
    return kernel, module.param("bias", BIAS_INIT, (spec.features,))


def dense_params(
    module: nn.Module, inputs: int, features: int, kernel_init: KernelInit
) -> tuple[Array, Array]:
    """Declares the parameters of a fully connected layer.

    Args:
        module: The Linen module that owns the parameters.
        inputs: Number of inputs.
        features: Number of outputs.
        kernel_init: Initializer of the kernel.

    Returns:
        (kernel [inputs, features], bias [features]).
    """
    kernel = module.param("kernel", kernel_init, (inputs, features))
    return kernel, module.param("bias", BIAS_INIT, (features,))


def add_bias(x: Array, bias: Array) -> Array:
    """Adds a bias [features] to x [..., features]."""
    return x + jnp.broadcast_to(bias, x.shape)


class Conv(nn.Module):
    """A convolution whose output is laid out for the following pooling (see `zoojax.ops.conv`).

    Attributes:
        spec: Sizes of the convolution.
        kernel_init: Initializer of the kernel.
    """

    spec: ConvSpec
    kernel_init: KernelInit

    @nn.compact
    def __call__(self, x_BHWC: Array, noise: Noise | None) -> Array:
        kernel, bias = conv_params(self, self.spec, x_BHWC.shape[-1], self.kernel_init)
        return add_bias(ops.conv(x_BHWC, kernel, self.spec.pool), bias)


class Dense(nn.Module):
    """A fully connected layer.

    Attributes:
        features: Number of outputs.
        kernel_init: Initializer of the kernel.
    """

    features: int
    kernel_init: KernelInit

    @nn.compact
    def __call__(self, x_BC: Array, noise: Noise | None) -> Array:
        kernel, bias = dense_params(self, x_BC.shape[-1], self.features, self.kernel_init)
        return add_bias(x_BC @ kernel, bias)


@dataclass(frozen=True)
class Layers:
    """Modules that a network is built from; a sparsifier may replace them.

    Attributes:
        conv: (ConvSpec, kernel initializer, name=...) -> module of (images, noise).
        dense: (features, kernel initializer, name=...) -> module of (inputs, noise).
    """

    conv: Callable[..., nn.Module]
    dense: Callable[..., nn.Module]


PLAIN = Layers(Conv, Dense)
