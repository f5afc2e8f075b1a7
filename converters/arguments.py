"""Checks what users pass to the functions of `zoojax.converters`."""

import re
from collections.abc import Sequence
from importlib.util import find_spec

from zoojax.errors import ZoojaxError
from zoojax.text import printable

# "all", numbers and ranges as text, or the numbers themselves.
Epochs = str | int | Sequence[int]


def require_torch() -> None:
    """Checks that the packages for conversion are installed.

    Raises:
        ZoojaxError: If they are not.
    """
    if find_spec("torch") is None or find_spec("safetensors") is None:
        raise ZoojaxError("converting needs torch; install it with: pip install 'zoojax[torch]'")


def parse_epochs(epochs: Epochs) -> tuple[int, ...] | None:
    """Parses epochs such as "all" (None), "0,25,40-50", or [0, 25].

    Args:
        epochs: "all", numbers and ranges as text, one number, or several.

    Raises:
        ZoojaxError: If it is anything else.

    Example:
        >>> parse_epochs("0,4-6")
        (0, 4, 5, 6)
    """
    if isinstance(epochs, int):
        epochs = [epochs]
    if not isinstance(epochs, str):
        if not isinstance(epochs, Sequence) or not all(isinstance(e, int) for e in epochs):
            raise ZoojaxError(f"epochs is {printable(epochs, 80)}; give 'all' or whole numbers")
        return tuple(epochs)
    if epochs == "all":
        return None
    numbers: list[int] = []
    for part in epochs.split(","):
        first, dash, last = part.strip().partition("-")
        if not re.fullmatch("[0-9]{1,6}(-[0-9]{1,6})?", part.strip()):
            raise ZoojaxError(
                f"--epochs {epochs!r} is invalid; give all, or numbers and ranges such as "
                "0,25,40-50"
            )
        if dash and int(last) < int(first):
            raise ZoojaxError(f"--epochs {part.strip()} ends before it starts")
        numbers += range(int(first), int(last if dash else first) + 1)
    return tuple(numbers)
