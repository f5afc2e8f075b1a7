"""The CNNs of "Model Zoos" (Schürholt et al., 2022): small, medium and large.

Sizes and dropout are those of CNN, CNN2 and CNN3 in `model_definitions/def_net.py` of
https://github.com/ModelZoos/ModelZooDataset.
"""

from collections.abc import Sequence
from typing import NamedTuple

from zoojax.architectures.chain import Chain
from zoojax.architectures.chain_layers import (
    Activation,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
)


class Block(NamedTuple):
    """A convolution of stride 1 without padding, max pooling and an activation.

    Attributes:
        features: Number of output channels.
        kernel: Side of the kernel.
        pool: Side of the pooling window; 1 for no pooling.
        dropout: Whether dropout follows the activation.
    """

    features: int
    kernel: int
    pool: int
    dropout: bool


def cnn(
    name: str, size: int, channels: int, classes: int, blocks: Sequence[Block], hidden: int = 20
) -> Chain:
    """Returns a CNN of convolution blocks and one fully connected hidden layer.

    Args:
        name: Name of the architecture.
        size: Side of the images.
        channels: Channels of the images.
        classes: Number of classes.
        blocks: The convolution blocks.
        hidden: Width of the hidden layer.
    """
    layers: list[Layer] = []
    for block in blocks:
        layers.append(Conv(block.features, block.kernel))
        layers += [MaxPool(block.pool)] if block.pool > 1 else []
        layers.append(Activation())
        layers += [Dropout()] if block.dropout else []
    layers += [Flatten(), Dense(hidden), Activation(), Dropout(), Dense(classes)]
    return Chain(name, size, channels, classes, tuple(layers))


def small_cnn(channels: int, classes: int) -> Chain:
    """Returns the small CNN, for 28x28 images: 2,464 parameters with one channel."""
    # Dropout follows every activation except that of the last convolution.
    blocks = Block(8, 5, 2, True), Block(6, 5, 2, True), Block(4, 2, 1, False)
    return cnn("small", 28, channels, classes, blocks)


def medium_cnn(channels: int, classes: int) -> Chain:
    """Returns the medium CNN, for 28x28 images: 3,047 parameters with one channel."""
    blocks = Block(6, 5, 2, True), Block(9, 5, 2, True), Block(6, 2, 1, False)
    return cnn("medium", 28, channels, classes, blocks)


def large_cnn(channels: int, classes: int) -> Chain:
    """Returns the large CNN, for 32x32 images: 10,853 parameters with three channels."""
    blocks = Block(16, 3, 2, True), Block(32, 3, 2, True), Block(15, 3, 2, True)
    return cnn("large", 32, channels, classes, blocks)
