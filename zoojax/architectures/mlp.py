"""MLPs of any widths, named by them: "mlp-64-32" has two hidden layers.

They are MLP of `model_definitions/def_net.py` of https://github.com/ModelZoos/ModelZooDataset
("Model Zoos", Schürholt et al., 2022) on flattened 28x28 images: fully connected layers with
biases, each followed by the activation and dropout, then the logits.
"""

from collections.abc import Sequence

from zoojax.architectures.chain import Chain
from zoojax.architectures.chain_layers import Activation, Dense, Dropout, Flatten, Layer
from zoojax.architectures.family import Family, are_widths

SIZE = 28


def mlp(widths: Sequence[int], channels: int, classes: int) -> Chain:
    """Returns an MLP for flattened 28x28 images.

    Args:
        widths: Widths of the hidden layers.
        channels: Channels of the images.
        classes: Number of classes.
    """
    layers: list[Layer] = [Flatten()]
    for width in widths:
        layers += [Dense(width), Activation(), Dropout()]
    return Chain(FAMILY.name_of(widths), SIZE, channels, classes, (*layers, Dense(classes)))


FAMILY = Family("mlp", "MLPs", "mlp-64-32", are_widths, mlp)
