"""The layers of a chain, as data: what each does to the shape of one image, and its parameters.

    Conv(8, kernel=5), MaxPool(2), Activation(), Flatten(), Dense(10)

A shape is (height, width, channels) of an image, or (values,) of a vector. Images are square.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from zoojax.architectures.layers import LAYER_ACTIVATIONS, OMEGA
from zoojax.architectures.rescalings import Kind
from zoojax.errors import ZoojaxError
from zoojax.text import printable

Shape = tuple[int, ...]
Padding = int | Literal["valid", "same"]
# Shapes of a layer's parameters by name.
Parameters = dict[str, Shape]

MAX_SIDE, MAX_WIDTH = 2**10, 2**16
# Positions in a pooling window are stored in one byte.
MAX_WINDOW = 11
NORMALIZATIONS = ("batch", "group", "layer")


class MisfitError(Exception):
    """A layer does not take inputs of some shape; the message says why."""


@dataclass(frozen=True)
class Layer:
    """Base class of layers.

    Attributes:
        prefix: First part of the names of its parameters, such as "conv" in "conv1"; empty for
            layers without parameters.
        has_weights: Whether it has a kernel, which sparsifiers prune.
    """

    prefix: ClassVar[str] = ""
    has_weights: ClassVar[bool] = False

    @property
    def statistics(self) -> tuple[str, ...]:
        """Names of its running statistics, [channels] each, in the collection "batch_stats"."""
        return ()

    @property
    def mixes_units(self) -> bool:
        """Whether units cannot be permuted because it computes with groups of neighbors."""
        return False

    @property
    def computes_across_units(self) -> bool:
        """Whether its output for a unit depends on other units, although it has no weights."""
        return False

    @property
    def commutes_with(self) -> tuple[Kind, ...]:
        """Kinds of factors of units that multiply the output if they multiply the input."""
        return ()

    def output(self, shape: Shape) -> Shape:
        """Returns the shape of the output for an input shape; the same shape by default.

        Raises:
            MisfitError: If the layer does not take inputs of this shape.
        """
        return shape

    def parameters(self, shape: Shape) -> Parameters:
        """Returns the shapes of its parameters for an input shape."""
        return {}


@dataclass(frozen=True)
class Conv(Layer):
    """A convolution with a square kernel and a bias.

    Attributes:
        features: Number of output channels.
        kernel: Side of the kernel.
        stride: Distance between neighboring positions of the kernel.
        padding: Zeros at each border of the image; "valid" for none, "same" for as many as the
            output needs to have a side of side / stride, rounded up.
    """

    features: int
    kernel: int
    stride: int = 1
    padding: Padding = "valid"

    prefix: ClassVar = "conv"
    has_weights: ClassVar = True

    def __post_init__(self) -> None:
        _check(self, features=MAX_WIDTH, kernel=MAX_SIDE, stride=MAX_SIDE)
        _check_padding(self, self.padding)

    def borders(self, side: int) -> tuple[int, int]:
        """Returns the zeros before and after an image of a side."""
        return _borders(side, self.kernel, self.stride, self.padding)

    def output(self, shape: Shape) -> Shape:
        """(height', width', features)."""
        before, _ = _image(shape)
        side = _positions(before + sum(self.borders(before)), self.kernel, self.stride)
        return side, side, self.features

    def parameters(self, shape: Shape) -> Parameters:
        """Kernel [k, k, channels, features] and bias [features]."""
        kernel = (self.kernel, self.kernel, shape[-1], self.features)
        return {"kernel": kernel, "bias": (self.features,)}


@dataclass(frozen=True)
class Pool(Layer):
    """Pooling over square windows.

    Attributes:
        window: Side of a window.
        stride: Distance between neighboring windows; None for `window`.
        padding: As in `Conv`. Padding is never the maximum of a window; it counts as zeros in
            averages.
    """

    window: int
    stride: int | None = None
    padding: Padding = "valid"

    def __post_init__(self) -> None:
        _check(self, window=MAX_WINDOW)
        if self.stride is not None:
            _check(self, stride=MAX_SIDE)
        _check_padding(self, self.padding)
        if isinstance(self.padding, int) and 2 * self.padding > self.window:
            raise ZoojaxError(f"{self}: padding is more than half of the window")

    @property
    def step(self) -> int:
        """Distance between neighboring windows."""
        return self.window if self.stride is None else self.stride

    @property
    def is_plain(self) -> bool:
        """Whether windows neither overlap nor have gaps or padding between them."""
        return self.step == self.window and self.padding in ("valid", 0)

    def borders(self, side: int) -> tuple[int, int]:
        """Returns the padding before and after an image of a side."""
        return _borders(side, self.window, self.step, self.padding)

    def output(self, shape: Shape) -> Shape:
        """(height', width', channels)."""
        before, channels = _image(shape)
        side = _positions(before + sum(self.borders(before)), self.window, self.step)
        return side, side, channels


@dataclass(frozen=True)
class MaxPool(Pool):
    """The maximum of each window."""

    @property
    def commutes_with(self) -> tuple[Kind, ...]:
        """Positive factors: the maximum depends on the sign."""
        return ("scale",)


@dataclass(frozen=True)
class AvgPool(Pool):
    """The average of each window."""

    @property
    def commutes_with(self) -> tuple[Kind, ...]:
        """Both kinds: it is linear."""
        return ("sign", "scale")


@dataclass(frozen=True)
class Skip(Layer):
    """Adds the output of an earlier block, in the channels that both have.

    A block is a layer with weights and the layers after it, up to the next layer with weights. If
    the blocks have different numbers of channels, the first ones that both have are added.

    Attributes:
        block: Number of the earlier block, from 1.
    """

    block: int

    def __post_init__(self) -> None:
        _check(self, block=MAX_WIDTH)

    def check_blocks(self, shape: Shape, blocks: Sequence[Shape]) -> None:
        """Checks that the output of the earlier block can be added.

        Args:
            shape: Shape of the input of this layer.
            blocks: Shapes of the outputs of the complete blocks.

        Raises:
            MisfitError: If there is no such block, or its output has another image size.
        """
        if self.block > len(blocks):
            raise MisfitError(f"there are {len(blocks)} complete blocks before it")
        if blocks[self.block - 1][:-1] != shape[:-1]:
            raise MisfitError("the output of the earlier block has another image size")


@dataclass(frozen=True)
class GlobalAvgPool(Layer):
    """The average over all positions of an image, per channel."""

    @property
    def commutes_with(self) -> tuple[Kind, ...]:
        """Both kinds: it is linear."""
        return ("sign", "scale")

    def output(self, shape: Shape) -> Shape:
        """(channels,)."""
        return (_image(shape)[1],)


@dataclass(frozen=True)
class Flatten(Layer):
    """Flattens an image into a vector, in which the channels vary fastest."""

    @property
    def commutes_with(self) -> tuple[Kind, ...]:
        """Both kinds: it is linear."""
        return ("sign", "scale")

    def output(self, shape: Shape) -> Shape:
        """(height * width * channels,)."""
        side, channels = _image(shape)
        return (side * side * channels,)


@dataclass(frozen=True)
class Dense(Layer):
    """A fully connected layer with a bias.

    Attributes:
        features: Number of outputs.
    """

    features: int

    prefix: ClassVar = "fc"
    has_weights: ClassVar = True

    def __post_init__(self) -> None:
        _check(self, features=MAX_WIDTH)

    def output(self, shape: Shape) -> Shape:
        """(features,)."""
        if len(shape) != 1:
            raise MisfitError("it takes a vector; put Flatten() or GlobalAvgPool() before it")
        return (self.features,)

    def parameters(self, shape: Shape) -> Parameters:
        """Kernel [inputs, features] and bias [features]."""
        return {"kernel": (shape[0], self.features), "bias": (self.features,)}


@dataclass(frozen=True)
class Activation(Layer):
    """An activation function.

    Attributes:
        name: A name of `zoojax.architectures.layers.LAYER_ACTIVATIONS`; None for each member's
            own activation, a hyperparameter.
        omega: Factor of the input of "sine": sin(omega x) (Sitzmann et al., "Implicit Neural
            Representations with Periodic Activation Functions", 2020).
    """

    name: str | None = None
    omega: float = OMEGA

    def __post_init__(self) -> None:
        if self.name is not None and self.name not in LAYER_ACTIVATIONS:
            known = ", ".join(LAYER_ACTIVATIONS)
            raise ZoojaxError(
                f"no activation named '{printable(self.name, 60)}'; there are: {known}"
            )
        if type(self.omega) is not float or not 0 < self.omega < float("inf"):
            raise ZoojaxError(
                f"omega of an activation is {printable(repr(self.omega), 60)}, not a positive float"
            )


@dataclass(frozen=True)
class Dropout(Layer):
    """Dropout in training, with each member's own rate."""

    @property
    def commutes_with(self) -> tuple[Kind, ...]:
        """Both kinds: it is linear."""
        return ("sign", "scale")


@dataclass(frozen=True)
class Normalization(Layer):
    """Normalization with a learned scale and offset per channel.

    Attributes:
        kind: "batch" (Ioffe and Szegedy, 2015; running statistics in evaluation), "group" (Wu
            and He, 2018) or "layer" (Ba et al., 2016, over the channels of each position).
        groups: Number of groups of channels, for "group".
    """

    kind: str
    groups: int = 1

    prefix: ClassVar = "norm"

    def __post_init__(self) -> None:
        if self.kind not in NORMALIZATIONS:
            known = ", ".join(NORMALIZATIONS)
            raise ZoojaxError(
                f"no normalization named '{printable(self.kind, 60)}'; there are: {known}"
            )
        _check(self, groups=MAX_WIDTH)
        if self.kind != "group" and self.groups != 1:
            raise ZoojaxError(f"{self}: only group normalization has groups")

    @property
    def statistics(self) -> tuple[str, ...]:
        """Mean and variance of batch normalization."""
        return ("mean", "var") if self.kind == "batch" else ()

    @property
    def mixes_units(self) -> bool:
        """Whether there are several groups."""
        return self.groups > 1

    @property
    def computes_across_units(self) -> bool:
        """Whether it is group or layer normalization."""
        return self.kind != "batch"

    def output(self, shape: Shape) -> Shape:
        """The same shape."""
        if shape[-1] % self.groups:
            raise MisfitError(f"{shape[-1]} channels cannot be divided into {self.groups} groups")
        return shape

    def parameters(self, shape: Shape) -> Parameters:
        """Scale and bias [channels]."""
        return {"scale": shape[-1:], "bias": shape[-1:]}


def _check(layer: Layer, **limits: int) -> None:
    for name, limit in limits.items():
        value = getattr(layer, name)
        # Exactly int: descriptions may come from files.
        if type(value) is not int or not 1 <= value <= limit:
            raise ZoojaxError(
                f"{name} of a {type(layer).__name__} is {printable(repr(value), 60)}, not a whole "
                f"number from 1 to {limit}"
            )


def _check_padding(layer: Layer, padding: object) -> None:
    if padding in ("valid", "same") or (type(padding) is int and 0 <= padding <= MAX_SIDE):
        return
    raise ZoojaxError(
        f"padding of a {type(layer).__name__} is {printable(repr(padding), 60)}, not 'valid', "
        f"'same' or a whole number from 0 to {MAX_SIDE}"
    )


def _image(shape: Shape) -> tuple[int, int]:
    """Returns (side, channels) of an image."""
    if len(shape) != 3:
        raise MisfitError("it takes an image; put it before Flatten() or GlobalAvgPool()")
    return shape[0], shape[2]


def _borders(side: int, window: int, stride: int, padding: Padding) -> tuple[int, int]:
    if isinstance(padding, int):
        return padding, padding
    if padding == "valid":
        return 0, 0
    total = max((-(-side // stride) - 1) * stride + window - side, 0)
    return total // 2, total - total // 2


def _positions(side: int, window: int, stride: int) -> int:
    if window > side:
        raise MisfitError(f"its window of side {window} is larger than the image")
    return (side - window) // stride + 1
