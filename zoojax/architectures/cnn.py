"""The zoos' CNNs in Flax Linen, for ONE member; `jax.vmap` maps them over populations.

Parameters are a plain dict with the layers conv1 to conv3, fc1 and fc2, each {"kernel", "bias"}.
Kernels have Flax's axis order (HWIO and [in, out]); images have their channels last.
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
        architecture: Layers and sizes.
        activation: A name of ACTIVATIONS.
        init_scheme: A name of INITS; used only by `init`.
        conv: Module of the convolutions; variational dropout replaces it.
        dense: Module of the fully connected layers; variational dropout replaces it.
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
        """Computes the logits.

        Args:
            x_BHWC: Normalized images, [batch, size, size, channels].
            noise: Noise source of this step, for stochastic layers and dropout.
            dropout_rate: Traced scalar; None without dropout (in evaluation, and for members
                that are trained without it).

        Returns:
            Logits, [batch, classes].
        """
        activation, kernel_init = ACTIVATIONS[self.activation], INITS[self.init_scheme]
        arch = self.architecture
        check_slots(len(arch.layers))

        # Noise slots of a step: one per layer, then one per layer for the dropout after it.
        def layer_noise(index: int) -> Noise | None:
            return None if noise is None else noise.at(index)

        def dropout(x: Array, index: int) -> Array:
            if dropout_rate is None or noise is None:
                return x
            return _dropout(x, dropout_rate, noise.at(len(arch.layers) + index))

        x = x_BHWC
        for i, spec in enumerate(arch.convs):
            y = self.conv(spec, kernel_init, name=f"conv{i + 1}")(x, layer_noise(i))
            x = activation(ops.max_pool(y))
            x = dropout(x, i) if spec.dropout else x
        i, x = len(arch.convs), x.reshape(x.shape[0], -1)
        x = activation(self.dense(arch.hidden, kernel_init, name="fc1")(x, layer_noise(i)))
        x = dropout(x, i)
        return self.dense(arch.classes, kernel_init, name="fc2")(x, layer_noise(i + 1))


def logits(
    model: CNN,
    variables: dict,
    images: Array,
    noise: Noise | None = None,
    dropout_rate: Array | np.ndarray | None = None,
) -> Array:
    """Computes the logits of one member.

    Args:
        model: The CNN.
        variables: Flax variables of the member, {"params": ...} and other collections.
        images: Normalized images, [batch, size, size, channels].
        noise: Noise source of this step; None in evaluation.
        dropout_rate: Scalar; None without dropout.

    Returns:
        Logits, [batch, classes].
    """
    # Without mutable collections, apply returns only the module's result.
    return cast(Array, model.apply(variables, images, noise, dropout_rate))


def _dropout(x: Array, rate: Array, noise: Noise) -> Array:
    """Applies inverted dropout with a traced rate, as torch.nn.Dropout does."""
    keep = ops.uniform(noise, x.shape) < 1.0 - rate
    return jnp.where(keep, x / (1.0 - rate), 0.0)


def init_params(arch: Architecture, scheme: str, seed: Array | int) -> dict:
    """Initializes the parameters of one member; they depend only on its seed.

    Args:
        arch: The architecture.
        scheme: A name of INITS.
        seed: Seed of the member, a scalar integer.

    Returns:
        {layer: {"kernel": ..., "bias": ...}}.

    Raises:
        ZoojaxError: If the initialization scheme is unknown.
    """
    if scheme not in INITS:
        raise ZoojaxError(f"no initialization named '{scheme}'; there are: {', '.join(INITS)}")
    model = CNN(arch, "tanh", scheme)
    images = jnp.zeros((1, *arch.image_shape), jnp.float32)
    return dict(model.init(keys.stream_key(seed, "init"), images)["params"])
