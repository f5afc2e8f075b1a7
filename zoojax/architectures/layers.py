"""Activations, initializers and layers of the CNNs, for one member."""

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, random
from jax.nn import initializers

from zoojax import ops
from zoojax.architectures.base import ConvSpec
from zoojax.ops import Noise

# (key, shape of the kernel) -> kernel.
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
    draw: Callable[[Array, tuple[int, ...], jnp.dtype], Array], bound: Callable[[int, int], float]
) -> KernelInit:
    """Draws times a bound that depends on (fan_in, fan_out) of a kernel."""

    def initializer(key: Array, shape: tuple[int, ...]) -> Array:
        *field, inputs, outputs = shape
        size = math.prod(field)
        # In a row, and only then in its shape, which changes no bit: XLA on CPUs compiles
        # random numbers of four axes for seconds, and those of one axis for a tenth of that.
        row = draw(key, (math.prod(shape),), jnp.float32) * bound(size * inputs, size * outputs)
        return row.reshape(shape)

    return initializer


def _symmetric(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    return random.uniform(key, shape, dtype, minval=-1.0)


# torch.nn.init's schemes with torch's defaults: uniform_ is U(0, 1), normal_ is
# N(0, 1), kaiming_* has fan_in and gain sqrt(2), xavier_* gain 1.
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
    """Declares a convolution's kernel [k, k, channels, features] and bias [features]."""
    shape = (spec.kernel, spec.kernel, channels, spec.features)
    kernel = module.param("kernel", kernel_init, shape)
    return kernel, module.param("bias", BIAS_INIT, (spec.features,))


def dense_params(
    module: nn.Module, inputs: int, features: int, kernel_init: KernelInit
) -> tuple[Array, Array]:
    """Declares a fully connected layer's kernel [inputs, features] and bias [features]."""
    kernel = module.param("kernel", kernel_init, (inputs, features))
    return kernel, module.param("bias", BIAS_INIT, (features,))


def add_bias(x: Array, bias: Array) -> Array:
    """x [..., features] + bias [features]."""
    return x + jnp.broadcast_to(bias, x.shape)


class Conv(nn.Module):
    """A convolution laid out for the pooling that follows (see `zoojax.ops.conv`)."""

    spec: ConvSpec
    kernel_init: KernelInit

    @nn.compact
    def __call__(self, x_BHWC: Array, noise: Noise | None) -> Array:
        kernel, bias = conv_params(self, self.spec, x_BHWC.shape[-1], self.kernel_init)
        return add_bias(ops.conv(x_BHWC, kernel, self.spec.pool), bias)


class Dense(nn.Module):
    """A fully connected layer."""

    features: int
    kernel_init: KernelInit

    @nn.compact
    def __call__(self, x_BC: Array, noise: Noise | None) -> Array:
        kernel, bias = dense_params(self, x_BC.shape[-1], self.features, self.kernel_init)
        return add_bias(x_BC @ kernel, bias)
