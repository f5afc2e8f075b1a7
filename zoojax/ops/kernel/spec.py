"""What the CPU kernel computes: a chain of operations on images, in NHWC.

A spec is hashable; the kernel is compiled once per distinct chain. It holds what a chain computes,
and names of layers only to find their parameters.
"""

import functools
from dataclasses import dataclass

from zoojax.errors import ZoojaxError

Pair = tuple[int, int]
# (low, high) padding of the rows and of the columns.
Padding = tuple[Pair, Pair]
# Height, width, channels; (features,) after Flatten or GlobalAveragePool.
Shape = tuple[int, ...]
NO_PADDING: Padding = ((0, 0), (0, 0))
# The parameter of activations that have one: the slope of leaky_relu for x < 0, and omega of
# sine(x) = sin(omega x). A member's own activation has these.
DEFAULT_PARAMETERS = {"leaky_relu": 0.01, "sine": 30.0}


@dataclass(frozen=True)
class Conv:
    """Convolution with a bias.

    A pre-activation of variational dropout draws its noise as
    `ops.normal(noise.at(slot), [B, H', W', features])`, or in the layout of `ops.conv` if the next
    operation is pooling by two (see `is_pooled_by_two`).

    Attributes:
        layer: Name of its parameters, kernel [kh, kw, channels, features] and bias [features].
        features: Number of output channels.
        kernel: Height and width of the kernel.
        stride: Step along rows and columns.
        padding: Zeros added before and after the rows and the columns.
        slot: Noise slot of the layer (see `zoojax.ops.noise`).
    """

    layer: str
    features: int
    kernel: Pair
    stride: Pair
    padding: Padding
    slot: int


@dataclass(frozen=True)
class Pool:
    """Pooling in floor mode.

    Attributes:
        kind: "max" or "average".
        window: Height and width of the window.
        stride: Step along rows and columns.
        padding: Positions added before and after the rows and the columns. They are never the
            maximum, and count as zeros in averages.
    """

    kind: str
    window: Pair
    stride: Pair
    padding: Padding = NO_PADDING


@dataclass(frozen=True)
class GlobalAveragePool:
    """Mean over all rows and columns: [H, W, C] to [C]."""


@dataclass(frozen=True)
class Flatten:
    """[H, W, C] to [H * W * C], channels fastest."""


@dataclass(frozen=True)
class Dense:
    """Fully connected layer with a bias.

    A pre-activation of variational dropout draws its noise as
    `ops.normal(noise.at(slot), [B, features])`.

    Attributes:
        layer: Name of its parameters, kernel [inputs, features] and bias [features].
        features: Number of outputs.
        slot: Noise slot of the layer.
    """

    layer: str
    features: int
    slot: int


@dataclass(frozen=True)
class Activation:
    """Elementwise function.

    Attributes:
        name: "tanh", "sigmoid", "relu", "gelu" (exact), "silu", "leaky_relu", "sine" or "identity";
            None for the member's own activation, which is passed with each call.
        parameter: Slope of leaky_relu or omega of sine; unused by the others and by None, whose
            parameters are DEFAULT_PARAMETERS.
    """

    name: str | None = None
    parameter: float = 0.0


@dataclass(frozen=True)
class Dropout:
    """Inverted dropout with the member's rate; nothing in evaluation or without a rate.

    Its noise is `ops.uniform(noise.at(slot), shape)` with the shape of its input,
    [B, H, W, C] or [B, features]; elements below 1 - rate are kept.

    Attributes:
        slot: Noise slot of the dropout.
    """

    slot: int


Operation = Conv | Pool | GlobalAveragePool | Flatten | Dense | Activation | Dropout


@dataclass(frozen=True)
class KernelSpec:
    """A chain of operations from an image to a vector of outputs.

    Attributes:
        input_shape: Height, width and channels of an image.
        operations: The operations in order. The last ones lead to a vector: after a
            `GlobalAveragePool` or a `Flatten`, only `Dense`, `Activation` and `Dropout` follow.
    """

    input_shape: tuple[int, int, int]
    operations: tuple[Operation, ...]

    @functools.cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Shape of one sample before the first operation and after each operation.

        Raises:
            ZoojaxError: If an operation cannot be applied to its input.
        """
        shapes: list[Shape] = [self.input_shape]
        for operation in self.operations:
            shapes.append(_output_shape(operation, shapes[-1]))
        return tuple(shapes)

    @property
    def outputs(self) -> int:
        """Number of outputs.

        Raises:
            ZoojaxError: If the output is not a vector.
        """
        if len(self.shapes[-1]) != 1:
            raise ZoojaxError("the last operations must flatten the image to a vector")
        return self.shapes[-1][0]

    @property
    def weighted(self) -> tuple[Conv | Dense, ...]:
        """The operations with parameters, in order."""
        return tuple(op for op in self.operations if isinstance(op, Conv | Dense))

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers with parameters, in order."""
        return tuple(op.layer for op in self.weighted)

    def parameter_shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Returns the shapes of one member's parameters: {layer: {"kernel": ..., "bias": ...}}."""
        return {
            op.layer: {"kernel": _kernel_shape(op, shape), "bias": (op.features,)}
            for op, shape in zip(self.operations, self.shapes, strict=False)
            if isinstance(op, Conv | Dense)
        }


def is_pooled_by_two(operation: Operation | None, following: Operation | None) -> bool:
    """Returns whether a convolution's variational noise is drawn in the layout of `ops.conv`.

    That is the case for a convolution with a square kernel, stride 1 and no padding, directly
    followed by max pooling with window and stride 2 and no padding: its noise is
    `ops.normal(noise.at(slot), [B, H'//2, 2, 2, W'//2, features], axis=2)`.

    Args:
        operation: An operation of a chain.
        following: The next operation; None for the last.
    """
    return (
        isinstance(operation, Conv)
        and isinstance(following, Pool)
        and operation.kernel[0] == operation.kernel[1]
        and operation.stride == (1, 1)
        and operation.padding == NO_PADDING
        and following == Pool("max", (2, 2), (2, 2))
    )


def _kernel_shape(operation: Conv | Dense, shape: Shape) -> tuple[int, ...]:
    sides = operation.kernel if isinstance(operation, Conv) else ()
    return (*sides, shape[-1], operation.features)


def _output_shape(operation: Operation, shape: Shape) -> Shape:
    name = type(operation).__name__
    flat = len(shape) == 1
    if isinstance(operation, Activation | Dropout):
        return shape
    if flat != isinstance(operation, Dense):
        state = "flattened" if flat else "not flattened"
        raise ZoojaxError(f"{name} cannot follow: its input is {state}")
    if isinstance(operation, Dense):
        return (operation.features,)
    height, width, channels = shape
    if isinstance(operation, Flatten):
        return (height * width * channels,)
    if isinstance(operation, GlobalAveragePool):
        return (channels,)
    conv = isinstance(operation, Conv)
    window = operation.kernel if conv else operation.window
    sides = tuple(
        (side + sum(padding) - taps) // stride + 1
        for side, taps, stride, padding in zip(
            (height, width), window, operation.stride, operation.padding, strict=True
        )
    )
    if min(sides) < 1:
        raise ZoojaxError(f"{name} leaves nothing of {height} x {width} pixels")
    return (*sides, operation.features if conv else channels)
