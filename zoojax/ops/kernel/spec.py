"""What the kernel must know of a network; `zoojax.architectures.base` provides it."""

from collections.abc import Sequence
from typing import Protocol


class ConvSizes(Protocol):
    """Sizes of one convolution."""

    @property
    def features(self) -> int: ...
    @property
    def kernel(self) -> int: ...
    @property
    def pool(self) -> int: ...
    @property
    def dropout(self) -> bool: ...


class NetworkSizes(Protocol):
    """Sizes of a CNN whose convolutions are followed by one hidden layer and the logits.

    Hashable: the kernel is compiled once per value.
    """

    @property
    def size(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def hidden(self) -> int: ...
    @property
    def classes(self) -> int: ...
    @property
    def convs(self) -> Sequence[ConvSizes]: ...
    @property
    def layers(self) -> Sequence[str]: ...
    @property
    def image_shape(self) -> tuple[int, int, int]: ...
    def parameter_shapes(self) -> dict[str, dict[str, tuple[int, ...]]]: ...
