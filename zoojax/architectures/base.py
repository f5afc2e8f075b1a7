"""The shapes of the zoos' CNNs."""

import operator
from dataclasses import dataclass
from typing import SupportsIndex, cast

from zoojax.errors import ZoojaxError
from zoojax.text import printable

# Classes are kept as 16-bit numbers.
MOST_CLASSES = 2**16
MOST_CHANNELS = 2**10


@dataclass(frozen=True)
class ConvSpec:
    """One convolution: features, kernel side, pooling side, dropout after it."""

    features: int
    kernel: int
    pool: int
    dropout: bool


@dataclass(frozen=True)
class Architecture:
    """The shape of a CNN: what a zoo's members have in common.

    Attributes:
        name: "small" or "large".
        size: side of the square input image, pixels.
        channels: channels of the input image.
        classes: number of classes.
        convs: the convolutions.
        hidden: width of the fully connected hidden layer.
    """

    name: str
    size: int
    channels: int
    classes: int
    convs: tuple[ConvSpec, ...]
    hidden: int = 20

    @property
    def layers(self) -> tuple[str, ...]:
        """Layer names in order: conv1, ..., fc1, fc2."""
        return (*(f"conv{i}" for i in range(1, len(self.convs) + 1)), "fc1", "fc2")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of an input image: (size, size, channels)."""
        return self.size, self.size, self.channels

    def parameter_shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Shapes of one member's parameters, {layer: {"kernel": ..., "bias": ...}}.

        Kernels are [k, k, channels, features] in convolutions and [inputs, outputs] after them.
        """
        shapes, side, channels = [], self.size, self.channels
        for conv in self.convs:
            shapes.append((conv.kernel, conv.kernel, channels, conv.features))
            side, channels = (side - conv.kernel + 1) // conv.pool, conv.features
        shapes += [(side * side * channels, self.hidden), (self.hidden, self.classes)]
        return {
            layer: {"kernel": shape, "bias": shape[-1:]}
            for layer, shape in zip(self.layers, shapes, strict=True)
        }


# Dropout sits after every activation but that of the small CNN's last convolution
# (Schürholt et al., "Model Zoos", 2022).
_CONVS = {
    "small": (
        ConvSpec(8, 5, 2, True),
        ConvSpec(6, 5, 2, True),
        ConvSpec(4, 2, 1, False),
    ),
    "large": (
        ConvSpec(16, 3, 2, True),
        ConvSpec(32, 3, 2, True),
        ConvSpec(15, 3, 2, True),
    ),
}
_SIZE = {"small": 28, "large": 32}


def architecture(name: str, channels: int, classes: int = 10) -> Architecture:
    """The small (28x28 input) or large (32x32) CNN of the zoos.

    Args:
        name: "small" or "large".
        channels: of the input image, 1 to MOST_CHANNELS.
        classes: 1 to MOST_CLASSES.

    Raises:
        ZoojaxError: there is no architecture of that name, or a number is out of its range.
    """
    if name not in _CONVS:
        raise ZoojaxError(
            f"no architecture named '{printable(name)}'; there are: {', '.join(_CONVS)}"
        )
    return Architecture(
        name,
        _SIZE[name],
        _whole("channels", channels, MOST_CHANNELS),
        _whole("classes", classes, MOST_CLASSES),
        _CONVS[name],
    )


def _whole(what: str, value: object, most: int) -> int:
    try:
        # A bool would be taken for a number.
        number = 0 if isinstance(value, bool) else operator.index(cast(SupportsIndex, value))
    except TypeError:
        number = 0
    if not 1 <= number <= most:
        raise ZoojaxError(
            f"{what} is {printable(repr(value), 100)}, not a whole number from 1 to {most}"
        )
    return number
