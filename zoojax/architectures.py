"""The shapes of the zoos' CNNs."""

from dataclasses import dataclass

from zoojax.errors import ZoojaxError


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

    Raises:
        ZoojaxError: there is no architecture of that name.
    """
    if name not in _CONVS:
        raise ZoojaxError(f"no architecture named '{name}'; there are: {', '.join(_CONVS)}")
    return Architecture(name, _SIZE[name], channels, classes, _CONVS[name])
