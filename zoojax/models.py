"""The zoos' CNNs in Linen, for ONE member: `jax.vmap` makes populations of them.

Parameters are a plain dict: conv1..conv3, fc1, fc2, each {"kernel", "bias"}, kernels
in Flax's axes (HWIO, and [in, out]), images channels last.
"""

import functools
import math
from collections.abc import Callable
from typing import cast

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array, random
from jax.nn import initializers

from zoojax import keys, ops
from zoojax.architectures import Architecture, ConvSpec, architecture
from zoojax.errors import ZoojaxError
from zoojax.ops import Noise
from zoojax.ops.noise import check_slots

__all__ = ["ACTIVATIONS", "CNN", "INITS", "Architecture", "architecture", "init_params", "logits"]

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


class CNN(nn.Module):
    """Convolutions (convolution, max pooling, activation), one hidden layer, logits.

    Attributes:
        architecture: the shape.
        activation: a name of ACTIVATIONS.
        init_scheme: a name of INITS; only `init` reads it.
        conv: the convolution layer; variational dropout puts its own here.
        dense: the fully connected layer; likewise.
    """

    architecture: Architecture
    activation: str
    init_scheme: str = "uniform"
    conv: Callable[..., nn.Module] = Conv
    dense: Callable[..., nn.Module] = Dense

    @nn.compact
    def __call__(
        self, x_BHWC: Array, noise: Noise | None = None, dropout_rate: Array | None = None
    ) -> Array:
        """Logits.

        Args:
            x_BHWC: normalised images, [batch, size, size, channels].
            noise: of this step, for layers that draw any and for dropout.
            dropout_rate: scalar, traced; None where no dropout is wanted (evaluation,
                and members that were made without).

        Returns:
            [batch, classes].
        """
        activation, kernel_init = ACTIVATIONS[self.activation], INITS[self.init_scheme]
        arch = self.architecture
        check_slots(len(arch.layers))

        # Slots of a step's noise: what each layer draws, then the dropout after each.
        def drawn(index: int) -> Noise | None:
            return None if noise is None else noise.at(index)

        def dropout(x: Array, index: int) -> Array:
            if dropout_rate is None or noise is None:
                return x
            return _dropout(x, dropout_rate, noise.at(len(arch.layers) + index))

        x = x_BHWC
        for i, spec in enumerate(arch.convs):
            y = self.conv(spec, kernel_init, name=f"conv{i + 1}")(x, drawn(i))
            x = activation(ops.max_pool(y))
            x = dropout(x, i) if spec.dropout else x
        i, x = len(arch.convs), x.reshape(x.shape[0], -1)
        x = activation(self.dense(arch.hidden, kernel_init, name="fc1")(x, drawn(i)))
        x = dropout(x, i)
        return self.dense(arch.classes, kernel_init, name="fc2")(x, drawn(i + 1))


def logits(
    model: CNN,
    variables: dict,
    images: Array,
    noise: Noise | None = None,
    dropout_rate: Array | np.ndarray | None = None,
) -> Array:
    """Logits [batch, classes] of one member; `variables` is {"params": ...} and the like."""
    # Without mutable collections, apply returns what the module returns, and nothing else.
    return cast(Array, model.apply(variables, images, noise, dropout_rate))


def _dropout(x: Array, rate: Array, noise: Noise) -> Array:
    """Inverted dropout at a traced rate, as torch.nn.Dropout does it."""
    keep = ops.uniform(noise, x.shape) < 1.0 - rate
    return jnp.where(keep, x / (1.0 - rate), 0.0)


def init_params(arch: Architecture, scheme: str, seed: Array | int) -> dict:
    """The untrained parameters of one member, which depend on its seed alone.

    Raises:
        ZoojaxError: there is no initialisation of that name.
    """
    if scheme not in INITS:
        raise ZoojaxError(f"no initialisation named '{scheme}'; there are: {', '.join(INITS)}")
    model = CNN(arch, "tanh", scheme)
    images = jnp.zeros((1, *arch.image_shape), jnp.float32)
    return dict(model.init(keys.stream(seed, "init"), images)["params"])
