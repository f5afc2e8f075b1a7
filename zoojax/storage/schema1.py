"""Reads zoo.json of schema 1, which knew three kinds of zoos by name.

Twins identify their parent by its fingerprint. Zoos of those kinds keep the fingerprint of
schema 1, whichever schema they are stored with.
"""

from typing import Any

from zoojax.sparsifiers.base import Sparsifier
from zoojax.text import printable

# Kinds of schema 1: the sparsifier's name, and the field of its option.
_KINDS: dict[str, tuple[str, str | None]] = {
    "dense": ("dense", None),
    "mp": ("magnitude_pruning", "scope"),
    "vd": ("variational_dropout", "variant"),
}
_OPTIONS = ("scope", "variant")


def upgrade(content: dict[str, Any]) -> dict[str, Any]:
    """Converts the content of zoo.json from schema 1 to schema 2.

    Args:
        content: The parsed JSON of schema 1.

    Returns:
        The content of schema 2.

    Raises:
        ValueError: If the kind is missing or unknown, or its options do not fit it.
    """
    for name in ("kind", *_OPTIONS):
        if name not in content:
            raise ValueError(f"the zoo has no {name}")
    kind = content["kind"]
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"no kind {printable(repr(kind), 60)} is known")
    name, option = _KINDS[kind]
    for each in _OPTIONS:
        if (content[each] is not None) != (each == option):
            raise ValueError(f"{each} {printable(content[each], 60)} does not fit kind {kind}")
    options = {} if option is None else {option: content[option]}
    rest = {key: v for key, v in content.items() if key not in ("kind", *_OPTIONS)}
    return {**rest, "schema": 2, "sparsifier": {"name": name, **options}}


def fields_of(sparsifier: Sparsifier) -> dict[str, Any] | None:
    """Returns the fields of schema 1 for a sparsifier; None if schema 1 did not know it."""
    for kind, (name, option) in _KINDS.items():
        if name == sparsifier.name:
            options: dict[str, Any] = dict.fromkeys(_OPTIONS)
            if option is not None:
                options[option] = getattr(sparsifier, option)
            return {"schema": 1, "kind": kind, **options}
    return None
