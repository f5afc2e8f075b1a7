"""Checks what users pass to the functions of `zoojax.converters`."""

import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.grid import HYPERPARAMETERS
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


def parse_assumptions(assume: Sequence[str]) -> dict[str, Any]:
    """Parses hyperparameters such as "activation=relu".

    Args:
        assume: Texts NAME=VALUE; the names are those of the members table.

    Returns:
        A value for every hyperparameter that zoos need: the given one, or the default.

    Raises:
        ZoojaxError: If a text is not such a pair, or a name or value is unknown.

    Example:
        >>> parse_assumptions(["activation=relu"])["activation"]
        'relu'
    """
    required = {each.name: each for each in HYPERPARAMETERS if not each.optional}
    values = {name: each.default for name, each in required.items()}
    for text in [assume] if isinstance(assume, str) else assume:
        name, equals, value = str(text).partition("=")
        if not equals or name not in required:
            raise ZoojaxError(
                f"--assume {printable(text, 60)} is invalid; give NAME=VALUE with one of "
                f"{', '.join(required)}"
            )
        declared = required[name]
        try:
            parsed = value if declared.choices else declared.kind(value)
        except ValueError:
            parsed = value
        declared.check(parsed)
        values[name] = parsed
    return values
