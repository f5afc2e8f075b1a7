"""Checks of arguments that several functions of the package share."""

from typing import Any

from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.declaration import check_whole


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Checks an argument that is a number of things.

    Args:
        name: Name of the argument.
        value: Its value.
        least: Smallest valid value.

    Raises:
        ZoojaxError: If the value is not a whole number, or too small.
    """
    check_whole(name, value)
    if value < least:
        raise ZoojaxError(f"{name} is {value}; give at least {least}")
