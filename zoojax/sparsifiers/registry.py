"""Known sparsifiers, by name."""

import dataclasses
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from zoojax.errors import UnregisteredError, ZoojaxError
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.dense import Dense
from zoojax.sparsifiers.fisher import FisherPruning
from zoojax.sparsifiers.gradual_magnitude import GradualMagnitude
from zoojax.sparsifiers.grasp import GraSP
from zoojax.sparsifiers.iterative_magnitude import IterativeMagnitude
from zoojax.sparsifiers.l0 import L0
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.n_m import NMPruning
from zoojax.sparsifiers.obs import OBS
from zoojax.sparsifiers.random_pruning import RandomPruning
from zoojax.sparsifiers.rigl import RigL
from zoojax.sparsifiers.set import SET
from zoojax.sparsifiers.snip import SNIP
from zoojax.sparsifiers.static_sparse import StaticSparse
from zoojax.sparsifiers.straight_through import StraightThrough
from zoojax.sparsifiers.structured import StructuredPruning
from zoojax.sparsifiers.synflow import SynFlow
from zoojax.sparsifiers.taylor import TaylorPruning
from zoojax.sparsifiers.top_kast import TopKAST
from zoojax.sparsifiers.variational_dropout import VariationalDropout
from zoojax.sparsifiers.wanda import Wanda
from zoojax.text import is_printable, printable

S = TypeVar("S", bound=type[Sparsifier])
_registered: dict[str, type[Sparsifier]] = {
    each.name: each
    for each in (
        Dense,
        MagnitudePruning,
        RandomPruning,
        SNIP,
        GraSP,
        SynFlow,
        TaylorPruning,
        FisherPruning,
        Wanda,
        OBS,
        GradualMagnitude,
        IterativeMagnitude,
        StraightThrough,
        StaticSparse,
        SET,
        RigL,
        TopKAST,
        VariationalDropout,
        L0,
        StructuredPruning,
        NMPruning,
    )
}


def register_sparsifier(sparsifier: S) -> S:
    """Makes a sparsifier known by its name: to zoo.json, the command line and the analysis.

    Args:
        sparsifier: A subclass of `Sparsifier`, a frozen dataclass of its options.

    Returns:
        The same class, so that this function is a decorator.

    Raises:
        ZoojaxError: If it is not such a class, an attribute is missing or invalid, or its name or
            abbreviation is that of another sparsifier.

    Example:
        >>> from dataclasses import dataclass
        >>> from typing import ClassVar
        >>> @zoojax.register_sparsifier
        ... @dataclass(frozen=True)
        ... class WeightPenalty(zoojax.Sparsifier):
        ...     name: ClassVar = "weight_penalty"
        ...     label: ClassVar = "weight penalty"
        ...     short: ClassVar = "WP"
        ...     color: ClassVar = "#009E73"
        ...     strength: float = 1e-3
        >>> WeightPenalty().describe()
        'strength 0.001'
    """
    if not (isinstance(sparsifier, type) and issubclass(sparsifier, Sparsifier)):
        raise ZoojaxError(f"{printable(sparsifier, 100)} is not a subclass of zoojax.Sparsifier")
    where = f"sparsifier {printable(sparsifier.__qualname__, 100)}"
    parameters = getattr(sparsifier, "__dataclass_params__", None)
    if (
        parameters is None
        or not parameters.frozen
        or "__dataclass_fields__" not in vars(sparsifier)
    ):
        raise ZoojaxError(
            f"{where} is not a frozen dataclass; decorate it with @dataclass(frozen=True)"
        )
    for attribute, pattern in (
        ("name", r"[a-z][a-z0-9_]{0,59}"),
        ("short", r"[A-Za-z][A-Za-z0-9]{0,11}"),
        ("color", r"#[0-9A-Fa-f]{6}"),
        ("sweep", r"ratio|epoch"),
    ):
        value = getattr(sparsifier, attribute, None)
        if not (isinstance(value, str) and re.fullmatch(pattern, value)):
            raise ZoojaxError(
                f"{where}: {attribute} is {printable(repr(value), 60)}, not {pattern}"
            )
    for attribute, shortest, longest in (("label", 1, 60), ("source", 0, 200)):
        text = getattr(sparsifier, attribute, None)
        if not (isinstance(text, str) and shortest <= len(text) <= longest and is_printable(text)):
            shown = printable(repr(text), 60)
            raise ZoojaxError(f"{where}: {attribute} is {shown}, not a short text")
    options = {field.name for field in dataclasses.fields(sparsifier)}
    for option in sparsifier.per_member:
        if option not in options:
            raise ZoojaxError(f"{where}: per_member names {printable(option, 60)}, no option of it")
    if sparsifier.sweep == "ratio" and "ratio" not in sparsifier.per_member.values():
        raise ZoojaxError(f"{where}: sweep is ratio, but per_member has no column ratio")
    for other in _registered.values():
        if _origin(other) == _origin(sparsifier):
            continue  # The same class again, such as after reloading its module.
        if sparsifier.name == other.name or sparsifier.short.lower() == other.short.lower():
            raise ZoojaxError(
                f"{where}: a sparsifier named '{other.name}' ({other.short}) is already registered"
            )
    _registered[sparsifier.name] = sparsifier
    return sparsifier


def _origin(sparsifier: type) -> tuple[str, str]:
    return sparsifier.__module__, sparsifier.__qualname__


def sparsifiers() -> Mapping[str, type[Sparsifier]]:
    """Returns all registered sparsifiers by name; "dense" is training without any."""
    return MappingProxyType(_registered)


def sparsifier_of_method(method: str) -> type[Sparsifier] | None:
    """Returns the sparsifier that analysis tables call `method`, such as "mp"; None if unknown."""
    return next((each for each in _registered.values() if each.short.lower() == method), None)


def sparsifier_to_json(sparsifier: Sparsifier) -> dict[str, Any]:
    """Returns the name and the shared options of a sparsifier, as zoo.json stores them."""
    return {"name": sparsifier.name, **sparsifier.shared_options()}


def sparsifier_from_json(content: Any) -> Sparsifier:
    """Parses the result of `sparsifier_to_json`.

    Args:
        content: The parsed JSON.

    Returns:
        The sparsifier, without values of its per-member options.

    Raises:
        ValueError: If the content is malformed, or an option is unknown, missing or invalid.
        UnregisteredError: If no sparsifier of that name is registered.
    """
    if not (isinstance(content, dict) and isinstance(content.get("name"), str)):
        raise ValueError("sparsifier: not an object with a name")
    name = content["name"]
    if name not in _registered:
        raise UnregisteredError(
            f"no sparsifier named '{printable(name, 60)}' is registered; "
            "import the module that registers it, or name the module with --plugin"
        )
    kind, options = _registered[name], {k: v for k, v in content.items() if k != "name"}
    expected = {f.name for f in dataclasses.fields(kind)} - set(kind.per_member)
    for option in sorted((options.keys() ^ expected) - (expected & set(kind.optional))):
        known = "unknown" if option in options else "missing"
        raise ValueError(f"sparsifier {name}: option {printable(option, 60)} is {known}")
    try:
        return msgspec.convert({**options, **dict.fromkeys(kind.per_member, ())}, kind)
    except ZoojaxError as error:
        raise ValueError(f"sparsifier {name}: {error}") from error
