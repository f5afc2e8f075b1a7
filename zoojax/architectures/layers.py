"""Activations, initializers and layers with weights, for ONE member."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, random
from jax.nn import initializers

from zoojax import ops
from zoojax.ops import Noise


@dataclass(frozen=True)
class ConvSpec:
    """One convolution, laid out for the pooling that follows.

    Attributes:
        features: Number of output channels.
        kernel: Side of the square kernel.
        pool: Side of the pooling window; 1 for no pooling.
        stride: Distance between neighboring positions of the kernel.
        padding: Zeros before and after each row and column.
        bias: Whether a bias is added.
        by_taps: Whether to compute one matrix product per position in the kernel
            (`zoojax.ops.conv_by_taps`), which suits layers with many channels; without pooling.
    """

    features: int
    kernel: int
    pool: int = 1
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    bias: bool = True
    by_taps: bool = False


# (key, kernel shape, dtype=float32) -> kernel.
KernelInit = Callable[..., Array]

# Factor of the inputs of sines in SIRENs (Sitzmann et al., 2020).
OMEGA = 30.0
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "sigmoid": nn.sigmoid,
    "relu": nn.relu,
    "gelu": functools.partial(nn.gelu, approximate=False),
    "silu": nn.silu,
    "leaky_relu": functools.partial(nn.leaky_relu, negative_slope=0.01),
    "sine": lambda x: jnp.sin(OMEGA * x),
}


def _plain(function: Callable[[Array], Array]) -> Callable[[Array, float], Array]:
    return lambda x, omega: function(x)


# Activations that a layer of a network can have itself: (x, omega) -> y.
LAYER_ACTIVATIONS: dict[str, Callable[[Array, float], Array]] = {
    **{name: _plain(function) for name, function in ACTIVATIONS.items()},
    "sine": lambda x, omega: jnp.sin(omega * x),
    "identity": lambda x, omega: x,
}


def _scheme(
    draw: Callable[[Array, tuple[int, ...], jnp.dtype], Array], scale: Callable[[int, int], float]
) -> KernelInit:
    """Creates an initializer of random draws times a scale that depends on (fan_in, fan_out)."""

    def initializer(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        *field, inputs, outputs = shape
        size = math.prod(field)
        # Drawn as one axis and reshaped, with identical bits: on CPU, XLA takes seconds to
        # compile random draws with four axes, and a tenth of that with one axis.
        row = draw(key, (math.prod(shape),), jnp.float32) * scale(size * inputs, size * outputs)
        return row.reshape(shape).astype(dtype)

    return initializer


def _symmetric(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    return random.uniform(key, shape, dtype, minval=-1.0)


def _truncated(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    return random.truncated_normal(key, -2.0, 2.0, shape, dtype)


# Standard deviation of a standard normal variate truncated to [-2, 2].
_TRUNCATED_STD = 0.87962566103423978


@dataclass(frozen=True)
class SirenInit:
    """Initialization of a layer of a SIREN: uniform weights and biases.

    Weights are in [-1/n, 1/n] in the first layer and in [-sqrt(6/n)/omega, sqrt(6/n)/omega] in the
    others, where n is the number of inputs (Sitzmann et al., "Implicit Neural Representations with
    Periodic Activation Functions", 2020, section 3.2 and supplement 1.5). Biases are in
    [-1/sqrt(n), 1/sqrt(n)], the default of torch.nn.Linear, as in the code of the paper.

    Attributes:
        is_first: Whether the layer is the first, which takes the coordinates.
    """

    is_first: bool = False

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        """Draws a kernel."""
        inputs = math.prod(shape[:-1])
        bound = 1 / inputs if self.is_first else math.sqrt(6 / inputs) / OMEGA
        row = random.uniform(key, (math.prod(shape),), jnp.float32, minval=-bound, maxval=bound)
        return row.reshape(shape).astype(dtype)

    def bias(self, inputs: int) -> KernelInit:
        """Returns the initializer of the bias of a layer with this number of inputs."""

        def initializer(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
            bound = 1 / math.sqrt(inputs)
            return random.uniform(key, shape, dtype, minval=-bound, maxval=bound)

        return initializer


# The schemes of torch.nn.init with torch's defaults: uniform_ is U(0, 1), normal_ is N(0, 1),
# truncated_normal is N(0, 1) truncated to [-2, 2], kaiming_* uses fan_in and gain sqrt(2), xavier_*
# uses gain 1. he_*, glorot_* and orthogonal are those of jax.nn.initializers and Keras: he_normal
# and glorot_normal are truncated at two standard deviations, the others are kaiming_uniform and
# xavier_uniform under their names in JAX. orthogonal is that of torch, too (Saxe et al., 2014).
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
    "truncated_normal": _scheme(_truncated, lambda fan_in, fan_out: 1.0),
    "he_uniform": _scheme(_symmetric, lambda fan_in, fan_out: math.sqrt(6 / fan_in)),
    "he_normal": _scheme(
        _truncated, lambda fan_in, fan_out: math.sqrt(2 / fan_in) / _TRUNCATED_STD
    ),
    "glorot_uniform": _scheme(
        _symmetric, lambda fan_in, fan_out: math.sqrt(6 / (fan_in + fan_out))
    ),
    "glorot_normal": _scheme(
        _truncated, lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)) / _TRUNCATED_STD
    ),
    "orthogonal": initializers.orthogonal(),
    "siren": SirenInit(),
}

BIAS_INIT = initializers.constant(0.01, jnp.float32)


def layer_init(scheme: str, is_first: bool) -> KernelInit:
    """Returns the initializer of a layer's kernel.

    Args:
        scheme: A name of INITS.
        is_first: Whether it is the first layer of the network.
    """
    init = INITS[scheme]
    return SirenInit(is_first) if isinstance(init, SirenInit) else init


def _bias_init(kernel_init: KernelInit, inputs: int) -> KernelInit:
    return kernel_init.bias(inputs) if isinstance(kernel_init, SirenInit) else BIAS_INIT


def conv_params(
    module: nn.Module, spec: ConvSpec, channels: int, kernel_init: KernelInit
) -> tuple[Array, Array | None]:
    """Declares the parameters of a convolution.

    Args:
        module: The Linen module that owns the parameters.
        spec: Sizes of the convolution.
        channels: Number of input channels.
        kernel_init: Initializer of the kernel.

    Returns:
        (kernel [k, k, channels, features], bias [features] or None).
    """
    shape = (spec.kernel, spec.kernel, channels, spec.features)
    kernel = module.param("kernel", kernel_init, shape)
    if not spec.bias:
        return kernel, None
    bias_init = _bias_init(kernel_init, math.prod(shape[:-1]))
    return kernel, module.param("bias", bias_init, (spec.features,))


def conv(x_BHWC: Array, kernel_KKCO: Array, spec: ConvSpec) -> Array:
    """Computes a convolution without bias, laid out for pooling; see `zoojax.ops.conv`."""
    if spec.by_taps:
        return ops.conv_by_taps(x_BHWC, kernel_KKCO, spec.stride, spec.padding)
    return ops.conv(x_BHWC, kernel_KKCO, spec.pool, spec.stride, spec.padding)


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
    return kernel, module.param("bias", _bias_init(kernel_init, inputs), (features,))


def add_bias(x: Array, bias: Array | None) -> Array:
    """Adds a bias [features], if there is one, to x [..., features]."""
    if bias is None:
        return x
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
        return add_bias(conv(x_BHWC, kernel, self.spec), bias)


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

    `noise` is the noise source of the layer, `noise.at(i)` for layer i; None in evaluation.

    Attributes:
        conv: (ConvSpec, kernel initializer, name=...) -> module of (images, noise). It returns
            the positions of the pooling windows as axes of their own, for `zoojax.ops.max_pool`
            (also without pooling).
        dense: (features, kernel initializer, name=...) -> module of (inputs, noise).
    """

    conv: Callable[..., nn.Module]
    dense: Callable[..., nn.Module]


PLAIN = Layers(Conv, Dense)
