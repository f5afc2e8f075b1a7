"""Lowers a chain of operations to the stages that the kernel compiles, as integers.

A stage is one operation with the max pooling, the activation and the dropout that follow it, so
that they are computed while its results are in registers or in the cache.
"""

import math
import struct
from dataclasses import dataclass, replace
from typing import Any

from zoojax.errors import ZoojaxError
from zoojax.ops.kernel.spec import (
    DEFAULT_PARAMETERS,
    Activation,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool,
    KernelSpec,
    Operation,
    Pool,
    Shape,
    is_pooled_by_two,
)
from zoojax.text import printable

# The kernel identifies activations, losses and kinds by their positions (see activations.h,
# losses.h and stages.h).
ACTIVATIONS = ("tanh", "sigmoid", "relu", "gelu", "silu", "leaky_relu", "sine", "identity")
LOSSES = ("cross_entropy", "squared_error", "cotangent")
_OWN, _NONE = len(ACTIVATIONS), len(ACTIVATIONS) + 1
_CONV, _DENSE, _MAX_POOL, _AVERAGE_POOL, _ELEMENTWISE = range(5)
# Fully connected layers with more weights than this run one member after the other: the weights
# of the members that share the lanes of a vector (16) would take more than 256 KiB, a large part
# of the second-level cache, and each sample would read all of them.
MAX_LANE_WEIGHTS = 4096
# Chains of fully connected layers with at most this number of inputs, such as coordinates, process
# many samples of one member at a time.
MAX_POINT_INPUTS = 16
# The largest supported sizes. They bound the time of the compiler and the memory of a thread.
_MAX_SIDE, _MAX_CHANNELS, _MAX_FEATURES, _MAX_UNITS = 64, 64, 64, 1024
_MAX_OPERATIONS, _MAX_SLOT = 64, 2**16
_MAX_WORKSPACE, _LANE_BYTES = 2**29, 64
# Memory of a thread up to which the kernel takes the steps of Adam: gradients of the head, and of
# log sigma squared, for the members that share the lanes.
_MAX_STEP_BYTES = 2**25


class Unsupported(Exception):
    """The kernel does not support a chain; the message is one line."""


@dataclass(frozen=True)
class Stage:
    """A stage; the fields are those of StageSpec in stages.h, in the same order."""

    kind: int
    features: int = 0
    kernel: tuple[int, int] = (0, 0)
    stride: tuple[int, int] = (0, 0)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    pool: int = 1
    pooled_noise: int = 0
    activate_first: int = 0
    activation: int = _NONE
    parameter: int = 0
    slot: int = 0
    dropout: int = -1
    flat_dropout: int = 0

    def initializer(self) -> str:
        """Returns the stage as a C++ initializer that consists of digits."""
        values = (
            *(self.kind, self.features, *self.kernel, *self.stride, *self.padding),
            *(self.pool, self.pooled_noise, self.activate_first, self.activation),
            *(f"{self.parameter:d}u", self.slot, self.dropout, self.flat_dropout),
        )
        return "{" + ",".join(str(value) for value in values) + "}"


def macros(spec: KernelSpec) -> list[str]:
    """Returns a chain as compiler options that consist of fixed names and integers.

    Args:
        spec: The chain.

    Raises:
        Unsupported: If the kernel does not support it.
    """
    stages, head = lower(spec)
    shape = ",".join(str(side) for side in spec.input_shape)
    return [
        f"-DZOOJAX_INPUT={shape}",
        f"-DZOOJAX_STAGES={','.join(stage.initializer() for stage in stages)}",
        f"-DZOOJAX_HEAD={head}",
        f"-DZOOJAX_POINTS={int(takes_points(spec))}",
        f"-DZOOJAX_ADAM={int(step_gap(spec) is None)}",
    ]


def takes_points(spec: KernelSpec) -> bool:
    """Whether a chain has only fully connected layers and few inputs, such as coordinates."""
    kinds = (Dense, Activation, Dropout, Flatten)
    return math.prod(spec.input_shape) <= MAX_POINT_INPUTS and all(
        isinstance(operation, kinds) for operation in spec.operations
    )


def lower(spec: KernelSpec) -> tuple[list[Stage], int]:
    """Lowers a chain to stages.

    Args:
        spec: The chain.

    Returns:
        (stages, position of the first stage that runs one member after the other).

    Raises:
        Unsupported: If the kernel does not support the chain.
    """
    if type(spec.input_shape) is not tuple or len(spec.input_shape) != 3:
        raise Unsupported("it supports images of height, width and channels")
    for side in spec.input_shape[:2]:
        _size("pixels on a side", side, _MAX_SIDE)
    _size("channels", spec.input_shape[2], _MAX_UNITS)
    if not 1 <= len(spec.operations) <= _MAX_OPERATIONS:
        raise Unsupported(f"it supports 1 to {_MAX_OPERATIONS} operations")
    for operation in spec.operations:
        _validate(operation)
    try:
        _size("outputs", spec.outputs, _MAX_UNITS)
        shapes = spec.shapes
    except ZoojaxError as error:
        raise Unsupported(printable(error)) from error
    if not spec.weighted:
        raise Unsupported("it supports only chains with parameters")
    if len(set(spec.layers)) != len(spec.layers):
        raise Unsupported("it supports only layers of different names")
    stages: list[Stage] = []
    for i, operation in enumerate(spec.operations):
        following = spec.operations[i + 1] if i + 1 < len(spec.operations) else None
        _append(stages, operation, following, shapes[i])
    head = _head(stages, spec)
    if _workspace(stages, head, spec) > _MAX_WORKSPACE:
        raise Unsupported(f"it supports chains that need up to {_MAX_WORKSPACE >> 20} MiB a thread")
    return stages, head


def computes_variances(spec: KernelSpec) -> bool:
    """Returns whether training computes variances from log sigma squared in the kernel.

    Otherwise XLA does. The kernel is faster, but rounds differently, and results of the networks
    of the paper must not change between versions: these are chains without a head whose noise is
    laid out by pooling windows. Chains of points have few weights per sample.

    Args:
        spec: A chain that the kernel supports.
    """
    stages, head = lower(spec)
    if takes_points(spec):
        return False
    return head < len(stages) or not any(stage.pooled_noise for stage in stages)


def step_gap(spec: KernelSpec) -> str | None:
    """Returns why XLA takes the steps of Adam instead of the kernel; None if the kernel does.

    The kernel takes the step of a member while its gradients are in the cache. This is faster if
    members run one after the other; otherwise, they have few parameters. The kernel rounds
    differently than XLA, and results of the paper's networks, which have few parameters, must not
    change between versions.

    Args:
        spec: A chain that the kernel supports.
    """
    stages, head = lower(spec)
    if head == len(stages) or takes_points(spec):
        return f"it has at most {MAX_LANE_WEIGHTS} weights in fully connected layers"
    shapes = spec.parameter_shapes()
    dense = [op.layer for op in spec.weighted if isinstance(op, Dense)]
    parameters = sum(math.prod(shape) for layer in dense for shape in shapes[layer].values())
    members = 1 if head == 0 else _LANE_BYTES // 4
    if 2 * 4 * members * parameters > _MAX_STEP_BYTES:
        return f"gradients of {members} members take more than {_MAX_STEP_BYTES >> 20} MiB"
    return None


def _append(
    stages: list[Stage], operation: Operation, following: Operation | None, shape: Shape
) -> None:
    """Adds an operation to the last stage, or as a new one."""
    last = stages[-1] if stages else Stage(_NONE)
    if isinstance(operation, Conv):
        if shape[-1] > _MAX_CHANNELS:
            raise Unsupported(f"it supports convolutions of 1 to {_MAX_CHANNELS} channels")
        stage = Stage(_CONV, operation.features, operation.kernel, operation.stride)
        stage = replace(stage, padding=(*operation.padding[0], *operation.padding[1]))
        pooled = int(is_pooled_by_two(operation, following))
        stages.append(replace(stage, pooled_noise=pooled, slot=operation.slot))
    elif isinstance(operation, Dense):
        stages.append(Stage(_DENSE, operation.features, slot=operation.slot))
    elif isinstance(operation, Pool):
        by_two = operation == Pool("max", (2, 2), (2, 2))
        if by_two and last.kind == _CONV and last.pool == 1 and last.dropout < 0:
            first = int(last.activation != _NONE)
            stages[-1] = replace(last, pool=2, activate_first=first)
            return
        kind = _MAX_POOL if operation.kind == "max" else _AVERAGE_POOL
        padding = (*operation.padding[0], *operation.padding[1])
        stages.append(Stage(kind, 0, operation.window, operation.stride, padding))
    elif isinstance(operation, GlobalAveragePool):
        stages.append(Stage(_AVERAGE_POOL, 0, (shape[0], shape[1]), (1, 1)))
    elif isinstance(operation, Activation):
        if operation.name == "identity":
            return
        # Nothing else may follow the activation or the dropout of a stage.
        if not stages or last.activation != _NONE or last.dropout >= 0:
            stages.append(Stage(_ELEMENTWISE))
        kind = _OWN if operation.name is None else ACTIVATIONS.index(operation.name)
        bits = _float_bits(operation.parameter) if operation.name in DEFAULT_PARAMETERS else 0
        stages[-1] = replace(stages[-1], activation=kind, parameter=bits)
    elif isinstance(operation, Dropout):
        if not stages or last.dropout >= 0:
            stages.append(Stage(_ELEMENTWISE))
        flat = int(len(shape) == 1)
        stages[-1] = replace(stages[-1], dropout=operation.slot, flat_dropout=flat)


def _head(stages: list[Stage], spec: KernelSpec) -> int:
    """The first fully connected stage if their weights exceed MAX_LANE_WEIGHTS, else the end."""
    if takes_points(spec):
        return 0
    shapes = spec.parameter_shapes()
    dense = [op.layer for op in spec.weighted if isinstance(op, Dense)]
    if sum(math.prod(shapes[layer]["kernel"]) for layer in dense) <= MAX_LANE_WEIGHTS:
        return len(stages)
    return next(i for i, stage in enumerate(stages) if stage.kind == _DENSE)


def _workspace(stages: list[Stage], head: int, spec: KernelSpec) -> int:
    """Upper bound of a thread's memory without steps of Adam, in bytes."""
    values = sum(8 * math.prod(shape) for shape in spec.shapes)
    for op, shape in zip(spec.operations, spec.shapes, strict=False):
        if isinstance(op, Conv):
            sides = (
                n + sum(pad) + taps
                for n, pad, taps in zip(shape[:2], op.padding, op.kernel, strict=True)
            )
            values += 4 * math.prod(sides) * (shape[-1] + op.features)
    samples = 1 if head == len(stages) else _LANE_BYTES // 4
    shapes = spec.parameter_shapes()
    in_lanes = [op.layer for op in spec.weighted if head == len(stages) or isinstance(op, Conv)]
    weights = sum(math.prod(shapes[layer]["kernel"]) for layer in in_lanes)
    return _LANE_BYTES * (values * samples + 4 * weights)


def _validate(operation: Operation) -> None:
    """Checks the numbers and names of an operation."""
    name = type(operation).__name__
    if isinstance(operation, Conv):
        _size("features", operation.features, _MAX_FEATURES)
        _window("kernel", operation.kernel, operation.stride, operation.padding)
        _size("noise slots", operation.slot, _MAX_SLOT, least=0)
    elif isinstance(operation, Dense):
        _size("units", operation.features, _MAX_UNITS)
        _size("noise slots", operation.slot, _MAX_SLOT, least=0)
    elif isinstance(operation, Dropout):
        _size("noise slots", operation.slot, _MAX_SLOT, least=0)
    elif isinstance(operation, Pool):
        if operation.kind not in ("max", "average"):
            raise Unsupported(f"it supports no pooling named {_shown(operation.kind)}")
        _window("window", operation.window, operation.stride, operation.padding)
        for window, (low, high) in zip(operation.window, operation.padding, strict=True):
            if max(low, high) >= window:
                raise Unsupported("it supports only pooling with less padding than the window")
    elif isinstance(operation, Activation):
        if operation.name is not None and operation.name not in ACTIVATIONS:
            raise Unsupported(f"it supports no activation named {_shown(operation.name)}")
        if type(operation.parameter) not in (int, float) or not math.isfinite(operation.parameter):
            raise Unsupported(f"it supports finite parameters, not {_shown(operation.parameter)}")
    elif not isinstance(operation, Flatten | GlobalAveragePool):
        raise Unsupported(f"it supports no {printable(name, 100)}")


def _window(what: str, window: Any, stride: Any, padding: Any) -> None:
    try:
        sides = [*window, *stride]
        pads = [pad for low, high in padding for pad in (low, high)]
    except (TypeError, ValueError):
        sides = pads = []
    if len(sides) != 4 or len(pads) != 4:
        raise Unsupported(f"it supports {what}, stride and padding of two axes")
    for side in sides:
        _size(f"pixels of a {what}'s side or stride", side, _MAX_SIDE)
    for pad in pads:
        _size("pixels of padding", pad, _MAX_SIDE, least=0)


def _size(what: str, value: Any, limit: int, least: int = 1) -> None:
    # Exactly int: other types could format as more than digits.
    if type(value) is not int or not least <= value <= limit:
        raise Unsupported(f"it supports {least} to {limit} {what}, not {_shown(value)}")


def _shown(value: Any) -> str:
    return printable(repr(value), 100)


def _float_bits(value: float) -> int:
    try:
        return struct.unpack("<I", struct.pack("<f", value))[0]
    except OverflowError as error:
        raise Unsupported(f"it supports float32 parameters, not {_shown(value)}") from error
