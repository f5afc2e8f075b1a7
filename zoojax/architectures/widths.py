"""Names of networks with hidden layers of any widths, such as "mlp-64-32"."""

import re
from collections.abc import Sequence

MAX_WIDTH, MAX_HIDDEN = 4096, 8


def is_valid(widths: Sequence[int]) -> bool:
    """Whether a network can have hidden layers of these widths."""
    return 1 <= len(widths) <= MAX_HIDDEN and all(1 <= width <= MAX_WIDTH for width in widths)


def name_of(family: str, widths: Sequence[int]) -> str:
    """Returns the name of the network of a family with hidden layers of some widths.

    Example:
        >>> name_of("mlp", (64, 32))
        'mlp-64-32'
    """
    return "-".join([family, *map(str, widths)])


def widths_of(family: str, name: str) -> tuple[int, ...] | None:
    """Returns the widths in the name of a network; None if it is no name of the family.

    Example:
        >>> widths_of("mlp", "mlp-64-32")
        (64, 32)
    """
    if not re.fullmatch(f"{family}(-[1-9][0-9]{{0,3}})+", name):
        return None
    widths = tuple(int(width) for width in name.split("-")[1:])
    return widths if is_valid(widths) else None
