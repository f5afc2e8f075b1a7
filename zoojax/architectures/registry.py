"""Known architectures, by name."""

import functools
import operator
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import SupportsIndex, cast

from zoojax.architectures import chain_names, mlp, resnet, siren, vit
from zoojax.architectures.base import Architecture, checked_architecture
from zoojax.architectures.chain import Chain
from zoojax.architectures.checks import check_architecture
from zoojax.architectures.cnn import large_cnn, medium_cnn, small_cnn
from zoojax.architectures.family import Family
from zoojax.architectures.gap_cnn import gap_cnn, gap_cnn_32
from zoojax.architectures.lenet5 import lenet5
from zoojax.errors import UnregisteredError, ZoojaxError
from zoojax.text import first_line, printable

# Predicted classes are stored as 16-bit integers.
MAX_CLASSES = 2**16
MAX_CHANNELS = 2**10

# (channels of the input images, number of classes) -> architecture.
Factory = Callable[[int, int], Architecture]
_registered: dict[str, Factory] = {
    "small": small_cnn,
    "medium": medium_cnn,
    "large": large_cnn,
    "lenet5": lenet5,
    "gap_cnn": gap_cnn,
    "gap_cnn_32": gap_cnn_32,
    "resnet18": resnet.resnet18,
    siren.NAME: siren.default_siren,
}
# Not checked at first use, since tests check them.
_OWN = frozenset(_registered)
# Networks with their sizes in their names.
_FAMILIES: tuple[Family, ...] = (
    *(mlp.FAMILY, siren.FAMILY, resnet.RESNET_18, resnet.RESNET_50, vit.FAMILY),
)


def register_architecture(name: str, factory: Factory) -> None:
    """Makes an architecture known by its name: to zoo.json and the command line.

    When it is first used with some channels and classes, `check_architecture` checks it; chains of
    layers and the networks of zoojax need no checks. A zoo stores the name and what the network
    computes, and does not open if another network has the name.

    Args:
        name: Its name: lower case letters, digits, hyphens and underscores. "MODULE:OBJECT", such
            as "package.module:net", is the name of an architecture that the command line loads.
        factory: Function (channels, classes) -> `Architecture` of that name.

    Raises:
        ZoojaxError: If the name is invalid, or another architecture has it.

    Example:
        >>> from zoojax.architectures.chain import Chain
        >>> from zoojax.architectures.chain_layers import Dense, Flatten
        >>> def tiny(channels, classes):
        ...     return Chain("tiny", 28, channels, classes, (Flatten(), Dense(classes)))
        >>> zoojax.register_architecture("tiny", tiny)
        >>> sorted(zoojax.functional.init("tiny", seed=1).params)
        ['fc1']
    """
    if not (isinstance(name, str) and is_name(name)):
        raise ZoojaxError(f"'{printable(name, 60)}' is not a valid name of an architecture")
    known = _factory(name)
    if known is not None and _identity(known) != _identity(factory):
        raise ZoojaxError(f"an architecture named '{name}' is already registered")
    _registered[name] = factory


def is_name(text: str) -> bool:
    """Whether an architecture can have a name."""
    is_plain = bool(re.fullmatch(r"[a-z][a-z0-9_-]{0,59}", text))
    return is_plain or is_reference(text) or chain_names.is_chain_name(text)


def is_reference(text: str) -> bool:
    """Whether a text is the module and name of an object, such as "package.module:net"."""
    part = "[A-Za-z_][A-Za-z0-9_]*"
    return len(text) <= 200 and bool(re.fullmatch(rf"{part}(\.{part})*:{part}", text))


def architectures() -> Mapping[str, Factory]:
    """Returns all registered architectures by name, without families (see `family_examples`)."""
    return MappingProxyType(_registered)


def family_examples() -> tuple[str, ...]:
    """Returns one name of each family, such as "mlp-64-32"."""
    return tuple(family.example for family in _FAMILIES)


def architecture(name: str, channels: int, classes: int = 10) -> Architecture:
    """Returns a registered architecture, such as the "small" (28x28 input) CNN of the zoos.

    Args:
        name: Its name.
        channels: Number of channels of the input images, 1 to MAX_CHANNELS.
        classes: Number of classes, 1 to MAX_CLASSES.

    Raises:
        UnregisteredError: If the name is unknown.
        ZoojaxError: If a number is out of range, or the architecture fails a check (see
            `check_architecture`).

    Example:
        >>> from zoojax.architectures.registry import architecture
        >>> architecture("small", channels=1).image_shape
        (28, 28, 1)
    """
    factory = _factory(name)
    if factory is None:
        raise UnregisteredError(_unknown(name))
    channels = _checked_int("channels", channels, MAX_CHANNELS)
    classes = _checked_int("classes", classes, MAX_CLASSES)
    try:
        created = factory(channels, classes)
    except ZoojaxError:
        raise
    except Exception as error:
        # A user's function may raise anything.
        shown = f"{printable(name, 200)} with {channels} channel(s) and {classes} classes"
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ZoojaxError(f"creating architecture {shown} failed: {reason}") from error
    arch = checked_architecture(created, name)
    if type(arch) is not Chain and not is_own(name):
        check_architecture(arch)
    return arch


def is_own(name: str) -> bool:
    """Whether a name is always that of the same network, which zoojax defines.

    Example:
        >>> from zoojax.architectures.registry import is_own
        >>> is_own("small"), is_own("mlp-64-32"), is_own("chain-28-f-d"), is_own("mine")
        (True, True, True, False)
    """
    return name in _OWN or _sizes(name) is not None or chain_names.is_chain_name(name)


def _factory(name: str) -> Factory | None:
    if chain_names.is_chain_name(name):
        return functools.partial(chain_names.named_chain, name)
    known = _sizes(name)
    if known is not None:
        family, sizes = known
        return functools.partial(family.create, sizes)
    return _registered.get(name)


def _sizes(name: str) -> tuple[Family, tuple[int, ...]] | None:
    """Returns the family and the sizes of a name; None if it is of no family."""
    for family in _FAMILIES:
        sizes = family.sizes_of(name)
        if sizes is not None:
            return family, sizes
    return None


def _identity(factory: Factory) -> tuple[object, object]:
    """Returns module and name of a factory, which are the same after reloading its module."""
    return getattr(factory, "__module__", None), getattr(factory, "__qualname__", factory)


def _unknown(name: str) -> str:
    shown = printable(name, 200)
    if is_reference(name):
        return (
            f"architecture {shown} is not loaded; name it with --plugin {shown} (zoojax imports no "
            "module that only a zoo names)"
        )
    families = ", ".join(f"{each.plural} such as {each.example}" for each in _FAMILIES)
    families += f", chains of layers such as {chain_names.EXAMPLE}"
    return (
        f"no architecture named '{printable(name, 60)}'; there are: {', '.join(_registered)}, "
        f"{families}. For another one, import the module that registers it, or name that module "
        "with --plugin"
    )


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
