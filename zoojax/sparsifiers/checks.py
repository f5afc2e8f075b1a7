"""Validation of options of sparsifiers, which come from users and from zoo.json."""

import math
import numbers
from collections.abc import Sequence
from typing import Any

from zoojax.errors import ZoojaxError
from zoojax.text import printable


def check_number(option: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """Checks an option that is a finite number.

    Args:
        option: Name of the option.
        value: Its value.
        low: Smallest value.
        high: Largest value.

    Raises:
        ZoojaxError: If the value is not a finite number in [low, high].

    Example:
        >>> check_number("end", 0.75, 0, 1)
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ZoojaxError(f"{option} is {printable(value, 60)}; give a number")
    number = float(value)
    if not (math.isfinite(number) and low <= number <= high):
        limits = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
        limits = "a finite number" if low == -math.inf else limits
        raise ZoojaxError(f"{option} is {number:g}; give {limits}")


def check_count(option: str, value: Any) -> None:
    """Checks an option that is a positive integer.

    Args:
        option: Name of the option.
        value: Its value.

    Raises:
        ZoojaxError: If the value is not an integer of 1 or more.

    Example:
        >>> check_count("frequency", 100)
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ZoojaxError(f"{option} is {printable(value, 60)}; give an integer of 1 or more")


def check_choice(option: str, value: Any, known: Sequence[str]) -> None:
    """Checks an option that is a name.

    Args:
        option: What the name is of, such as "pruning scope".
        value: The name.
        known: Known names.

    Raises:
        ZoojaxError: If the name is unknown.

    Example:
        >>> check_choice("rewind", "weights", ("weights", "learning_rate"))
    """
    if value not in known:
        raise ZoojaxError(
            f"no {option} named '{printable(value, 60)}'; there are: {', '.join(known)}"
        )


def checked_values(
    label: str, option: str, column: str, given: Any, low: float, high: float
) -> list[float]:
    """Checks the values of an option that differs between members.

    Args:
        label: Label of the sparsifier.
        option: Name of the option, such as "ratios".
        column: Its column in the members table, such as "ratio".
        given: The values.
        low: Smallest value.
        high: Upper bound, not included.

    Returns:
        The values.

    Raises:
        ZoojaxError: If there are none, or one is repeated, is not a number, or is out of range.

    Example:
        >>> checked_values("magnitude pruning", "ratios", "ratio", (0.5, 0.9), 0, 1)
        [0.5, 0.9]
    """
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise ZoojaxError(f"{label} {option} is {printable(given, 60)}; give a tuple of numbers")
    values = list(given)
    if not values or len(set(values)) != len(values):
        raise ZoojaxError(f"give one or more {label} {option}, each once")
    for value in values:
        if not isinstance(value, numbers.Real):
            raise ZoojaxError(f"{label} {column} is {printable(value, 60)}; give a number")
        if not low <= float(value) < high:
            raise ZoojaxError(f"{label} {column} {value:g} is not in [{low:g}, {high:g})")
    return values
