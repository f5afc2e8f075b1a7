"""The zoos' CNNs in Flax Linen, for ONE member; `jax.vmap` maps them over populations.

Parameters are a plain dict with the layers conv1 to conv3, fc1 and fc2, each {"kernel", "bias"}.
Kernels have Flax's axis order (HWIO and [in, out]); images have their channels last.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from zoojax import ops
from zoojax.architectures.base import Architecture, PermutationGroup, PermutedAxis
from zoojax.architectures.layers import (
    ACTIVATIONS,
    INITS,
    PLAIN,
    Conv,
    ConvSpec,
    Dense,
    Layers,
)
from zoojax.ops import Noise
from zoojax.ops.kernel import spec as chain


@dataclass(frozen=True)
class CNNArchitecture(Architecture):
    """Convolutions with pooling, one fully connected hidden layer, logits.

    Attributes:
        convs: The convolutions.
        hidden: Width of the fully connected hidden layer.
    """

    convs: tuple[ConvSpec, ...] = ()
    hidden: int = 20

    def module(self, activation: str, init: str, layers: Layers = PLAIN) -> "CNN":
        """Creates the Flax module of one member."""
        return CNN(self, activation, init, layers.conv, layers.dense)

    @property
    def kernel(self) -> chain.KernelSpec | None:
        """The chain of operations; None with pooling by more than two, which only XLA computes."""
        if any(conv.pool not in (1, 2) for conv in self.convs):
            return None
        operations, layers = [], len(self.layers)
        for i, conv in enumerate(self.convs):
            sides = (conv.kernel, conv.kernel)
            operations.append(
                chain.Conv(self.layers[i], conv.features, sides, (1, 1), chain.NO_PADDING, i)
            )
            if conv.pool > 1:
                operations.append(chain.Pool("max", (2, 2), (2, 2)))
            operations.append(chain.Activation())
            if conv.dropout:
                operations.append(chain.Dropout(layers + i))
        operations += [
            chain.Flatten(),
            chain.Dense("fc1", self.hidden, layers - 2),
            chain.Activation(),
            chain.Dropout(2 * layers - 2),
            chain.Dense("fc2", self.classes, layers - 1),
        ]
        return chain.KernelSpec(self.image_shape, tuple(operations))

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers in order: conv1, ..., fc1, fc2."""
        return (*(f"conv{i}" for i in range(1, len(self.convs) + 1)), "fc1", "fc2")

    @property
    def permutations(self) -> tuple[PermutationGroup, ...]:
        """Axes of the parameters that are permuted together, one group per hidden layer.

        Permuting the units on all axes of a group in the same order does not change the
        function of the network (Ainsworth et al., "Git Re-Basin", 2023).
        """
        shapes, groups = self.parameter_shapes(), []
        for layer, following in pairwise(self.layers):
            units, inputs = shapes[layer]["kernel"][-1], shapes[following]["kernel"][-2]
            groups.append(
                (
                    PermutedAxis(f"{layer}/kernel", -1),
                    PermutedAxis(f"{layer}/bias", -1),
                    # Images are flattened with their channels last.
                    PermutedAxis(f"{following}/kernel", -2, inputs // units),
                )
            )
        return tuple(groups)

    def parameter_shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Computes the shapes of one member's parameters, without tracing the module."""
        shapes, side, channels = [], self.size, self.channels
        for conv in self.convs:
            shapes.append((conv.kernel, conv.kernel, channels, conv.features))
            side, channels = (side - conv.kernel + 1) // conv.pool, conv.features
        shapes += [(side * side * channels, self.hidden), (self.hidden, self.classes)]
        return {
            layer: {"kernel": shape, "bias": shape[-1:]}
            for layer, shape in zip(self.layers, shapes, strict=True)
        }


def small_cnn(channels: int, classes: int) -> CNNArchitecture:
    """Returns the small CNN of "Model Zoos" (Schürholt et al., 2022), for 28x28 images."""
    # Dropout follows every activation except that of the last convolution.
    convs = (ConvSpec(8, 5, 2, True), ConvSpec(6, 5, 2, True), ConvSpec(4, 2, 1, False))
    return CNNArchitecture("small", 28, channels, classes, convs)


def large_cnn(channels: int, classes: int) -> CNNArchitecture:
    """Returns the large CNN of "Model Zoos" (Schürholt et al., 2022), for 32x32 images."""
    convs = (ConvSpec(16, 3, 2, True), ConvSpec(32, 3, 2, True), ConvSpec(15, 3, 2, True))
    return CNNArchitecture("large", 32, channels, classes, convs)


class CNN(nn.Module):
    """Convolutions (convolution, max pooling, activation), one hidden layer, logits.

    Attributes:
        architecture: Layers and sizes.
        activation: A name of ACTIVATIONS.
        init_scheme: A name of INITS; used only by `init`.
        conv: Module of the convolutions; variational dropout replaces it.
        dense: Module of the fully connected layers; variational dropout replaces it.
    """

    architecture: CNNArchitecture
    activation: str
    init_scheme: str = "uniform"
    conv: Callable[..., nn.Module] = Conv
    dense: Callable[..., nn.Module] = Dense

    @nn.compact
    def __call__(
        self,
        x_BHWC: Array,
        noise: Noise | None = None,
        dropout_rate: Array | None = None,
        *,
        train: bool = False,
        mask: Array | None = None,
    ) -> Array:
        """Computes the logits.

        Args:
            x_BHWC: Normalized images, [batch, size, size, channels].
            noise: Noise source of this step, for stochastic layers and dropout.
            dropout_rate: Traced scalar; None without dropout (in evaluation, and for members
                that are trained without it).
            train: Unused: the network has no batch statistics.
            mask: Unused.

        Returns:
            Logits, [batch, classes].
        """
        activation, kernel_init = ACTIVATIONS[self.activation], INITS[self.init_scheme]
        arch = self.architecture

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


def _dropout(x: Array, rate: Array, noise: Noise) -> Array:
    """Applies inverted dropout with a traced rate, as torch.nn.Dropout does."""
    keep = ops.uniform(noise, x.shape) < 1.0 - rate
    return jnp.where(keep, x / (1.0 - rate), 0.0)
