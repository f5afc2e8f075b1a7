"""How a requested zoo differs from the one in its folder."""

from dataclasses import asdict, replace
from typing import Any

import polars as pl

from zoojax.storage.zoo_config import ZooConfig


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


def differences(old: ZooConfig, new: ZooConfig) -> list[tuple[str, Any, Any]]:
    """Lists the config fields that differ as (name, old value, new value)."""
    # Libraries may have been upgraded, the zoo extended, and the parent's folder moved.
    ignored = {"versions", "earlier"}
    if old.parent is not None and new.parent is not None:
        new = replace(new, parent=replace(new.parent, path=old.parent.path))
    before, after = asdict(old), asdict(new)
    return [(k, before[k], after[k]) for k in before if k not in ignored and before[k] != after[k]]
