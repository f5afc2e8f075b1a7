"""Architectures of the zoos' CNNs: layers and sizes."""

import operator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, SupportsIndex, cast

from zoojax.errors import ZoojaxError
from zoojax.text import printable

# Predicted classes are stored as 16-bit integers.
MAX_CLASSES = 2**16
MAX_CHANNELS = 2**10


@dataclass(frozen=True)
class ConvSpec:
    """One convolution, followed by max pooling and the activation.

    Attributes:
        features: Number of output channels.
        kernel: Side of the square kernel.
        pool: Side of the pooling window; 1 for no pooling.
        dropout: Whether dropout follows the activation.
    """

    features: int
    kernel: int
    pool: int
    dropout: bool


class PermutedAxis(NamedTuple):
    """An axis of a parameter that holds the hidden units of one permutation group.

    Attributes:
        path: Path of the parameter, such as "conv1/kernel".
        axis: The axis, counted from the end (negative), so that it also holds for stacked
            parameters.
        positions: Number of image positions that are flattened into the axis together with the
            units, of which the units vary fastest; 1 if the axis holds the units alone.
    """

    path: str
    axis: int
    positions: int = 1


# The axes that are permuted together.
PermutationGroup = tuple[PermutedAxis, ...]


@dataclass(frozen=True)
class Architecture:
    """Layers and sizes of a CNN, shared by all members of a zoo.

    Attributes:
        name: "small" or "large".
        size: Side of the square input images, in pixels.
        channels: Number of channels of the input images.
        classes: Number of classes.
        convs: The convolutions.
        hidden: Width of the fully connected hidden layer.
    """

    name: str
    size: int
    channels: int
    classes: int
    convs: tuple[ConvSpec, ...]
    hidden: int = 20

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers in order: conv1, ..., fc1, fc2."""
        return (*(f"conv{i}" for i in range(1, len(self.convs) + 1)), "fc1", "fc2")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of an input image: (size, size, channels)."""
        return self.size, self.size, self.channels

    def parameter_shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Returns the shapes of one member's parameters.

        Returns:
            {layer: {"kernel": shape, "bias": shape}}. Kernels are [k, k, channels, features] for
            convolutions and [inputs, outputs] for fully connected layers.
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

    def permuted_units(self) -> tuple[int, ...]:
        """Returns the number of units of each permutation group.

        Raises:
            ZoojaxError: If a group is empty, or its axes do not exist or do not hold the same
                number of units.
        """
        shapes = {
            f"{layer}/{name}": shape
            for layer, leaves in self.parameter_shapes().items()
            for name, shape in leaves.items()
        }
        return tuple(_units(group, shapes) for group in self.permutations)


# Dropout follows every activation except that of the small CNN's last convolution
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
    """Returns the small (28x28 input) or large (32x32 input) CNN of the zoos.

    Args:
        name: "small" or "large".
        channels: Number of channels of the input images, 1 to MAX_CHANNELS.
        classes: Number of classes, 1 to MAX_CLASSES.

    Raises:
        ZoojaxError: If the name is unknown, or a number is out of range.

    Example:
        >>> architecture("small", channels=1).image_shape
        (28, 28, 1)
    """
    if name not in _CONVS:
        raise ZoojaxError(
            f"no architecture named '{printable(name)}'; there are: {', '.join(_CONVS)}"
        )
    return Architecture(
        name,
        _SIZE[name],
        _checked_int("channels", channels, MAX_CHANNELS),
        _checked_int("classes", classes, MAX_CLASSES),
        _CONVS[name],
    )


def _units(group: PermutationGroup, shapes: dict[str, tuple[int, ...]]) -> int:
    units = set()
    for path, axis, positions in group:
        shape = shapes.get(path, ())
        if not -len(shape) <= axis < 0 or positions < 1 or shape[axis] % positions:
            raise ZoojaxError(
                f"axis {axis} of {path}, of shape {shape}, does not hold units at {positions} "
                "positions"
            )
        units.add(shape[axis] // positions)
    if len(units) != 1:
        paths = ", ".join(each.path for each in group)
        raise ZoojaxError(f"the axes that are permuted together have different sizes: {paths}")
    return units.pop()


def _checked_int(what: str, value: object, limit: int) -> int:
    try:
        # A bool is rejected, although it has an integer value.
        number = 0 if isinstance(value, bool) else operator.index(cast(SupportsIndex, value))
    except TypeError:
        number = 0
    if not 1 <= number <= limit:
        raise ZoojaxError(
            f"{what} is {printable(repr(value), 100)}, not a whole number from 1 to {limit}"
        )
    return number
