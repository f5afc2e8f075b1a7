"""How a twin identifies its parent."""

import os
from dataclasses import replace
from pathlib import Path

import polars as pl

from zoojax.storage.hub import is_address
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_config import Parent
from zoojax.text import is_printable


def parent_of(parent: Zoo, epoch: int, twin: Path | None) -> Parent:
    """Creates the parent entry of a twin's config.

    Args:
        parent: The dense zoo.
        epoch: Epoch of the parent that the twin starts from.
        twin: Folder of the twin; None for one in memory.

    Returns:
        The entry.
    """
    if parent.store.in_memory or twin is None or is_address(parent.path):
        return Parent("unknown", parent.config.name, parent.fingerprint, epoch)
    try:
        path = os.path.relpath(parent.path.resolve(), twin.resolve())
    except ValueError:  # On another drive.
        path = str(parent.path.resolve())
    # JSON cannot store undecodable paths; the fingerprint identifies the parent anyway.
    path = path if is_printable(path) else "unknown"
    return Parent(path, parent.config.name, parent.fingerprint, epoch)


def is_version(zoo: Zoo, fingerprint: str) -> bool:
    """Whether a zoo has a fingerprint now, or had it before it was extended.

    Args:
        zoo: The zoo.
        fingerprint: The fingerprint, for example that of a twin's parent.
    """
    earlier = zoo.config.earlier or ()
    return fingerprint in (zoo.fingerprint, *(each.fingerprint for each in earlier))


def has_same_ids(zoo: Zoo, fingerprint: str) -> bool:
    """Whether a zoo has a fingerprint now, or had it when its members had the same ids.

    Args:
        zoo: The zoo.
        fingerprint: The fingerprint.
    """
    earlier = zoo.config.earlier or ()
    return fingerprint in (
        zoo.fingerprint,
        *(each.fingerprint for each in earlier if each.ids is None),
    )


def present_ids(zoo: Zoo, parent: Parent | None, table: pl.DataFrame) -> pl.DataFrame:
    """Returns a twin's members table with the present ids of the parent's members.

    Args:
        zoo: The dense zoo, which may have been extended since the twin was created.
        parent: The parent that the twin records.
        table: Members table of the twin.
    """
    for each in zoo.config.earlier or ():
        if parent is not None and each.fingerprint == parent.fingerprint and each.ids is not None:
            ids = pl.col("parent_id").replace_strict(
                dict(each.ids), default=-1, return_dtype=pl.Int64
            )
            return table.with_columns(ids)
    return table


def paired(zoo: Zoo, twin: Zoo) -> Zoo:
    """Returns a twin whose `parent_id` and parent refer to the present zoo.

    Args:
        zoo: The dense zoo, which may have been extended since the twin was created.
        twin: Its twin.

    Returns:
        The twin, unchanged if the zoo was not extended since, or is not its parent.
    """
    parent = twin.config.parent
    if parent is None or parent.fingerprint == zoo.fingerprint:
        return twin
    if not is_version(zoo, parent.fingerprint):
        return twin
    config = replace(twin.config, parent=replace(parent, fingerprint=zoo.fingerprint))
    present = Zoo(twin.store, config)
    # Both properties are cached.
    present.members_table = present_ids(zoo, parent, twin.members_table)
    present.fingerprint = twin.fingerprint
    return present
