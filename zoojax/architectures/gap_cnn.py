"""The network of the Small CNN Zoo (Unterthiner et al., "Predicting Neural Network Accuracy from
Weights", 2020): three convolutions with stride and global average pooling.

See `dnn_predict_accuracy` in https://github.com/google-research/google-research. That zoo has
members on 28x28 and on 32x32 images.
"""

from zoojax.architectures.chain import Chain
from zoojax.architectures.chain_layers import Activation, Conv, Dense, Dropout, GlobalAvgPool


def _gap_cnn(name: str, size: int, channels: int, classes: int) -> Chain:
    block = Conv(16, kernel=3, stride=2), Activation(), Dropout()
    layers = (*block, *block, *block, GlobalAvgPool(), Dense(classes))
    return Chain(name, size, channels, classes, layers)


def gap_cnn(channels: int, classes: int) -> Chain:
    """Returns the network for 28x28 images: 4,970 parameters with one channel and 10 classes."""
    return _gap_cnn("gap_cnn", 28, channels, classes)


def gap_cnn_32(channels: int, classes: int) -> Chain:
    """Returns the network for 32x32 images, with the same parameters."""
    return _gap_cnn("gap_cnn_32", 32, channels, classes)
