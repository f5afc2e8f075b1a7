"""Families of networks whose sizes are in their names, such as "mlp-64-32"."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zoojax.architectures.base import Architecture

MAX_WIDTH, MAX_HIDDEN = 4096, 8


def are_widths(sizes: Sequence[int]) -> bool:
    """Whether a network can have hidden layers of these widths."""
    return 1 <= len(sizes) <= MAX_HIDDEN and all(1 <= width <= MAX_WIDTH for width in sizes)


@dataclass(frozen=True)
class Family:
    """A family of networks.

    Attributes:
        name: First part of the names.
        plural: The family in messages, such as "MLPs".
        example: A name, such as "mlp-64-32".
        is_valid: Function (sizes) -> whether there is a network of these sizes.
        create: Function (sizes, channels, classes) -> architecture.
    """

    name: str
    plural: str
    example: str
    is_valid: Callable[[Sequence[int]], bool]
    create: Callable[[Sequence[int], int, int], Architecture]

    def name_of(self, sizes: Sequence[int]) -> str:
        """Returns the name of a network."""
        return "-".join([self.name, *map(str, sizes)])

    def sizes_of(self, name: str) -> tuple[int, ...] | None:
        """Returns the sizes in a name; None if it is not a name of this family."""
        if not re.fullmatch(rf"{self.name}(-[1-9][0-9]{{0,3}})+", name):
            return None
        sizes = tuple(int(size) for size in name.split("-")[1:])
        return sizes if self.is_valid(sizes) else None
