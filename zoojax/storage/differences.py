"""How a requested zoo differs from the one in its folder."""

from dataclasses import replace
from typing import Any

import polars as pl

from zoojax.storage.zoo_config import ZooConfig
from zoojax.text import printable

# Libraries may have been upgraded, and the zoo extended. Networks were compared when it was opened.
_IGNORED = {"versions", "earlier", "definition"}


def describe_difference(old: pl.DataFrame, new: pl.DataFrame) -> str:
    """Describes how two members tables differ."""
    if len(old) != len(new):
        return f"{len(old)} members, but {len(new)} were requested"
    both = {*old.columns} & {*new.columns}
    names = [
        name
        for name in dict.fromkeys((*old.columns, *new.columns))
        if name not in both or not old[name].equals(new[name])
    ]
    return "different " + ", ".join(n.replace("_", " ") for n in names or ["table"])


def settings_difference(old: ZooConfig, new: ZooConfig) -> str | None:
    """Describes the first setting in which a requested zoo differs from an existing one.

    Args:
        old: Config of the existing zoo.
        new: The requested config.

    Returns:
        The setting with both values, such as "epochs=12, but 11 was requested"; None if they are
        the same.
    """
    # The parent's folder may have been moved.
    if old.parent is not None and new.parent is not None:
        new = replace(new, parent=replace(new.parent, path=old.parent.path))
    before, after = old.to_json(), new.to_json()
    names = [name for name in {**before, **after} if name not in _IGNORED]
    # The name follows from the other settings.
    for name in sorted(names, key=lambda name: name == "name"):
        found = _value_difference(name, before.get(name), after.get(name))
        if found is not None:
            return "other images" if name == "data_hash" else found
    return None


def _value_difference(name: str, old: Any, new: Any) -> str | None:
    if old == new:
        return None
    if isinstance(old, dict) and isinstance(new, dict):
        parts = [_value_difference(f"{name} {k}", old.get(k), new.get(k)) for k in {**old, **new}]
        return next(part for part in parts if part is not None)
    return f"{name}={printable(old, 200)}, but {printable(new, 200)} was requested"
