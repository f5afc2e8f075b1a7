"""Known architectures, by name."""

import operator
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import SupportsIndex, cast

from zoojax.architectures.base import Architecture, checked_architecture
from zoojax.architectures.cnn import large_cnn, small_cnn
from zoojax.errors import UnregisteredError, ZoojaxError
from zoojax.text import printable

# Predicted classes are stored as 16-bit integers.
MAX_CLASSES = 2**16
MAX_CHANNELS = 2**10

# (channels of the input images, number of classes) -> architecture.
Factory = Callable[[int, int], Architecture]
_registered: dict[str, Factory] = {"small": small_cnn, "large": large_cnn}


def register_architecture(name: str, factory: Factory) -> None:
    """Makes an architecture known by its name: to zoo.json and the command line.

    Args:
        name: Its name: lower case letters, digits, hyphens and underscores.
        factory: Function (channels, classes) -> `Architecture` of that name.

    Raises:
        ZoojaxError: If the name is invalid, or another architecture has it.

    Example:
        >>> from dataclasses import replace
        >>> from zoojax.architectures.cnn import small_cnn
        >>> def wide_cnn(channels, classes):
        ...     return replace(small_cnn(channels, classes), name="wide", hidden=64)
        >>> zoojax.register_architecture("wide", wide_cnn)
        >>> zoojax.functional.init("wide", seed=1).params["fc1"]["kernel"].shape
        (36, 64)
    """
    if not (isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9_-]{0,59}", name)):
        raise ZoojaxError(f"'{printable(name, 60)}' is no valid name of an architecture")
    known = _registered.get(name)
    if known is not None and (known.__module__, known.__qualname__) != (
        factory.__module__,
        factory.__qualname__,
    ):
        raise ZoojaxError(f"an architecture named '{name}' is already registered")
    _registered[name] = factory


def architectures() -> Mapping[str, Factory]:
    """Returns all registered architectures by name."""
    return MappingProxyType(_registered)


def architecture(name: str, channels: int, classes: int = 10) -> Architecture:
    """Returns a registered architecture, such as the "small" (28x28 input) CNN of the zoos.

    Args:
        name: Its name.
        channels: Number of channels of the input images, 1 to MAX_CHANNELS.
        classes: Number of classes, 1 to MAX_CLASSES.

    Raises:
        UnregisteredError: If the name is unknown.
        ZoojaxError: If a number is out of range.

    Example:
        >>> from zoojax.architectures.registry import architecture
        >>> architecture("small", channels=1).image_shape
        (28, 28, 1)
    """
    if name not in _registered:
        raise UnregisteredError(
            f"no architecture named '{printable(name, 60)}'; there are: {', '.join(_registered)}. "
            "For another one, import the module that registers it, or name that module with "
            "--plugin"
        )
    channels = _checked_int("channels", channels, MAX_CHANNELS)
    classes = _checked_int("classes", classes, MAX_CLASSES)
    return checked_architecture(_registered[name](channels, classes), name)


def _checked_int(what: str, value: object, limit: int) -> int:
    try:
        # A bool is rejected, although it has an integer value.
        number = 0 if isinstance(value, bool) else operator.index(cast(SupportsIndex, value))
    except TypeError:
        number = 0
    if not 1 <= number <= limit:
        raise ZoojaxError(
            f"{what} is {printable(repr(value), 100)}, not a whole number from 1 to {limit}"
        )
    return number
