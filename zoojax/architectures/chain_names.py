"""Names that describe a chain of layers: "chain-28-c8x5-m2-a-f-d20-a-d".

A chain that is not registered has such a name in zoo.json and on the command line. After the side
of the input image, each part is a layer:

    c8x5            Conv(8, kernel=5)
    m2, v2          MaxPool(2), AvgPool(2)
    g, f            GlobalAvgPool(), Flatten()
    d20, d          Dense(20), Dense(classes)
    a, relu, sine30 Activation(), Activation("relu"), Activation("sine", omega=30.0)
    o               Dropout()
    r1              Skip(block=1)
    b, l, n4        Normalization("batch"), ("layer") and ("group", groups=4)

Convolutions and pooling take a stride and padding: c8x3s2p1, c8x3same, m3s2.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from zoojax.architectures.chain import Chain
from zoojax.architectures.chain_layers import (
    Activation,
    AvgPool,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Layer,
    MaxPool,
    Normalization,
    Padding,
    Skip,
)
from zoojax.architectures.layers import LAYER_ACTIVATIONS
from zoojax.errors import ZoojaxError
from zoojax.tasks import CLASSIFICATION
from zoojax.text import printable

PREFIX = "chain"
EXAMPLE = "chain-28-c8x5-m2-a-f-d20-a-d"
_MAX_LENGTH = 200
_N = "([1-9][0-9]{0,5})"
_STEP = f"(?:s{_N})?(?:p(0|[1-9][0-9]{{0,3}})|(same))?"
_OMEGA = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"


def is_chain_name(name: str) -> bool:
    """Whether a name describes a chain, valid or not.

    Example:
        >>> is_chain_name("chain-28-f-d")
        True
    """
    return len(name) <= _MAX_LENGTH and bool(re.fullmatch(rf"{PREFIX}-[a-z0-9_.-]+", name))


def chain_name(chain: Chain) -> str | None:
    """Describes a chain by a name.

    Args:
        chain: The chain.

    Returns:
        The name; None if it would be longer than 200 characters, or if members do not classify.

    Example:
        >>> layers = Conv(8, 5), MaxPool(2), Activation(), Flatten(), Dense(10)
        >>> chain_name(Chain("mine", 28, 1, 10, layers))
        'chain-28-c8x5-m2-a-f-d'
    """
    if chain.task is not CLASSIFICATION:
        return None
    *hidden, last = chain.sequence
    # The last layer has one output per class, which the zoo stores.
    parts = [*map(_part, hidden), "d" if isinstance(last, Dense) else _part(last)]
    name = "-".join([PREFIX, str(chain.size), *parts])
    if len(name) > _MAX_LENGTH or _layers(name, chain.classes) != chain.sequence:
        return None
    return name


def named_chain(name: str, channels: int, classes: int) -> Chain:
    """Creates the chain that a name describes.

    Args:
        name: The name.
        channels: Channels of the images.
        classes: Number of classes.

    Returns:
        The chain.

    Raises:
        ZoojaxError: If a part is not a layer, or the layers do not fit together.

    Example:
        >>> named_chain("chain-28-f-d20-relu-d", channels=1, classes=10).layers
        ('fc1', 'fc2')
    """
    _, side, *_ = [*name.split("-"), ""]
    if not re.fullmatch(_N, side):
        raise ZoojaxError(
            f"{printable(name, 200)} has no side of the images; a valid name is {EXAMPLE}"
        )
    return Chain(name, int(side), channels, classes, _layers(name, classes))


def with_name(chain: Chain) -> Chain | None:
    """Returns a chain under the name that describes it; None if that would be too long."""
    name = chain_name(chain)
    return None if name is None else replace(chain, name=name)


def _layers(name: str, classes: int) -> tuple[Layer, ...]:
    _, _, *parts = name.split("-")
    return tuple(_layer(part, name, classes) for part in parts)


def _part(layer: Layer) -> str:
    """Formats a layer."""
    match layer:
        case Conv(features, kernel, stride, padding):
            return f"c{features}x{kernel}{_step(stride, 1, padding)}"
        case MaxPool(window, stride, padding) | AvgPool(window, stride, padding):
            kind = "m" if isinstance(layer, MaxPool) else "v"
            return f"{kind}{window}{_step(stride, None, padding)}"
        case Dense(features):
            return f"d{features}"
        case Activation(name, omega):
            return "a" if name is None else name if name != "sine" else f"sine{omega:.9g}"
        case Skip(block):
            return f"r{block}"
        case Normalization(kind, groups):
            return f"n{groups}" if kind == "group" else kind[0]
    return {GlobalAvgPool: "g", Flatten: "f", Dropout: "o"}[type(layer)]


def _step(stride: int | None, default: int | None, padding: Padding) -> str:
    text = "" if stride == default else f"s{stride}"
    if padding == "valid":
        return text
    return f"{text}{padding}" if isinstance(padding, str) else f"{text}p{padding}"


def _layer(part: str, name: str, classes: int) -> Layer:
    """Parses a layer."""
    if part in LAYER_ACTIVATIONS:
        return Activation(part)
    if part == "d":
        return Dense(classes)
    if part in _SIMPLE:
        return _SIMPLE[part]
    for pattern, create in _PATTERNS.items():
        match = re.fullmatch(pattern, part)
        if match is not None:
            return create(*match.groups())
    raise ZoojaxError(
        f"'{part}' in {printable(name, 200)} is not a layer; a valid name is {EXAMPLE}"
    )


def _padding(number: str | None, same: str | None) -> Any:
    return "same" if same else "valid" if number is None else int(number)


def _conv(features: str, kernel: str, stride: str | None, *padding: str | None) -> Layer:
    return Conv(int(features), int(kernel), int(stride or 1), _padding(*padding))


def _pool(kind: type[MaxPool] | type[AvgPool]) -> Callable[..., Layer]:
    def create(window: str, stride: str | None, *padding: str | None) -> Layer:
        return kind(int(window), int(stride) if stride else None, _padding(*padding))

    return create


_SIMPLE: Mapping[str, Layer] = {
    "a": Activation(),
    "f": Flatten(),
    "g": GlobalAvgPool(),
    "o": Dropout(),
    "b": Normalization("batch"),
    "l": Normalization("layer"),
}
_PATTERNS: Mapping[str, Callable[..., Layer]] = {
    f"c{_N}x{_N}{_STEP}": _conv,
    f"m{_N}{_STEP}": _pool(MaxPool),
    f"v{_N}{_STEP}": _pool(AvgPool),
    f"d{_N}": lambda features: Dense(int(features)),
    f"r{_N}": lambda block: Skip(int(block)),
    f"n{_N}": lambda groups: Normalization("group", int(groups)),
    f"sine{_OMEGA}": lambda omega: Activation("sine", float(omega)),
}
