"""The sizes of a chain for the C++ kernel."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoojax.architectures import chain_layers as data

if TYPE_CHECKING:
    from zoojax.architectures.chain import Chain


@dataclass(frozen=True)
class _ConvSizes:
    features: int
    kernel: int
    pool: int
    dropout: bool


@dataclass(frozen=True)
class KernelSizes:
    """Sizes of a CNN of three convolutions and one hidden layer; see `NetworkSizes`.

    Attributes:
        chain: The network.
        convs: The convolutions.
        hidden: Width of the hidden layer.
    """

    chain: "Chain"
    convs: tuple[_ConvSizes, ...]
    hidden: int

    @property
    def size(self) -> int:
        return self.chain.size

    @property
    def channels(self) -> int:
        return self.chain.channels

    @property
    def classes(self) -> int:
        return self.chain.classes

    @property
    def layers(self) -> tuple[str, ...]:
        return self.chain.layers

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.chain.image_shape

    def parameter_shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        return self.chain.parameter_shapes()


def sizes(chain: "Chain") -> KernelSizes | None:
    """Returns the sizes for the kernel; None if it does not support the network.

    It supports convolutions without stride and padding, each with optional max pooling, the
    member's activation and optional dropout; then one hidden layer with activation and dropout.
    """
    own, remaining = data.Activation(), list(chain.sequence)
    convs: list[_ConvSizes] = []
    while remaining and isinstance(conv := remaining[0], data.Conv):
        pool, remaining = 1, remaining[1:]
        if remaining and isinstance(layer := remaining[0], data.MaxPool) and layer.is_plain:
            pool, remaining = layer.window, remaining[1:]
        if remaining[:1] != [own] or conv.stride != 1 or any(conv.borders(chain.size)):
            return None
        dropout = remaining[1:2] == [data.Dropout()]
        remaining = remaining[2 if dropout else 1 :]
        convs.append(_ConvSizes(conv.features, conv.kernel, pool, dropout))
    match remaining:
        case [data.Flatten(), data.Dense(hidden), activation, data.Dropout(), data.Dense()]:
            return KernelSizes(chain, tuple(convs), hidden) if activation == own else None
    return None
