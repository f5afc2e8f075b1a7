"""MLPs of any widths, named by them: "mlp-64-32" has two hidden layers.

They are MLP of `model_definitions/def_net.py` of https://github.com/ModelZoos/ModelZooDataset
("Model Zoos", Schürholt et al., 2022) on flattened 28x28 images: fully connected layers with
biases, each followed by the activation and dropout, then the logits.
"""

import re
from collections.abc import Sequence

from zoojax.architectures.chain import Chain
from zoojax.architectures.chain_layers import Activation, Dense, Dropout, Flatten, Layer

MAX_WIDTH, MAX_HIDDEN = 4096, 8
SIZE = 28
EXAMPLE = "mlp-64-32"


def is_valid(widths: Sequence[int]) -> bool:
    """Whether an MLP can have hidden layers of these widths."""
    return 1 <= len(widths) <= MAX_HIDDEN and all(1 <= width <= MAX_WIDTH for width in widths)


def name_of(widths: Sequence[int]) -> str:
    """Returns the name of the MLP with hidden layers of some widths, such as "mlp-64-32"."""
    return "-".join(["mlp", *map(str, widths)])


def widths_of(name: str) -> tuple[int, ...] | None:
    """Returns the widths in the name of an MLP; None if it is no such name.

    Example:
        >>> widths_of("mlp-64-32")
        (64, 32)
    """
    if not re.fullmatch("mlp(-[1-9][0-9]{0,3})+", name):
        return None
    widths = tuple(int(width) for width in name.split("-")[1:])
    return widths if is_valid(widths) else None


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
    return Chain(name_of(widths), SIZE, channels, classes, (*layers, Dense(classes)))
