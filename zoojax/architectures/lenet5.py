"""LeNet-5 for 32x32 images (LeCun et al., "Gradient-based learning applied to document
recognition", 1998), in its common form: max pooling, the member's activation, all channels
connected, and dropout.
"""

from zoojax.architectures.chain import Chain
from zoojax.architectures.chain_layers import (
    Activation,
    Conv,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
)


def lenet5(channels: int, classes: int) -> Chain:
    """Returns LeNet-5: 62,006 parameters with three channels and 10 classes."""
    layers = (
        *(Conv(6, kernel=5), Activation(), MaxPool(2), Dropout()),
        *(Conv(16, kernel=5), Activation(), MaxPool(2), Dropout()),
        Flatten(),
        *(Dense(120), Activation(), Dropout()),
        *(Dense(84), Activation(), Dropout()),
        Dense(classes),
    )
    return Chain("lenet5", 32, channels, classes, layers)
