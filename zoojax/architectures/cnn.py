"""The zoos' CNNs in Linen, for ONE member: `jax.vmap` makes populations of them.

Parameters are a plain dict: conv1..conv3, fc1, fc2, each {"kernel", "bias"}, kernels
in Flax's axes (HWIO, and [in, out]), images channels last.
"""

from collections.abc import Callable
from typing import cast

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax import keys, ops
from zoojax.architectures.base import Architecture
from zoojax.architectures.layers import ACTIVATIONS, INITS, Conv, Dense
from zoojax.errors import ZoojaxError
from zoojax.ops import Noise
from zoojax.ops.noise import check_slots


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
    return dict(model.init(keys.stream_key(seed, "init"), images)["params"])
