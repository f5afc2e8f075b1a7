"""The network sizes that the kernel needs, implemented by `zoojax.architectures.base`."""

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
    """Sizes of a CNN: convolutions, one hidden layer, logits.

    Instances are hashable: the kernel is compiled once per value.
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
