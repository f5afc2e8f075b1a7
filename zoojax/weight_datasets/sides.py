"""The split of each member of zoos: training, validation or test."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.grid import HYPERPARAMETERS
from zoojax.hyperparameters.tables import with_defaults
from zoojax.storage.parent import is_version, present_ids
from zoojax.storage.zoo import Zoo, open_zoo
from zoojax.storage.zoo_config import Parent
from zoojax.text import printable
from zoojax.weight_datasets.splits import published_sides, side_of

# Columns that determine a member. Members that learn one image each have the number of the image.
_IDENTITY = ("seed", *(each.name for each in HYPERPARAMETERS), "image")


class SplitOptions(NamedTuple):
    """How members are split, and which split is selected.

    Attributes:
        split: The selected split; None for all members.
        fractions: Shares of training, validation and test members.
        seed: Seed of the splits.
        published: Whether to use the `split` column of zoos that have one.
        by: Columns of the members table; members with the same values are in one split. Empty to
            split by seed and hyperparameters.
        needed: Whether the splits are used: one is selected, or training states are needed.
    """

    split: str | None
    fractions: tuple[float, float, float]
    seed: int
    published: bool
    by: tuple[str, ...]
    needed: bool


def member_sides(zoo: Zoo, zoos: list[Zoo], options: SplitOptions) -> list[str | None]:
    """Returns the split of each member of a zoo.

    Args:
        zoo: The zoo.
        zoos: All zoos of the dataset, among which a parent may be.
        options: The splits.

    Returns:
        Names of `SPLITS`, one per member; all None if the parent of a twin is not found, and the
        splits are not needed.

    Raises:
        ZoojaxError: If a published split is invalid, or splits are needed and not found.
    """
    if zoo.config.is_dense:
        return _dense_sides(zoo.members_table, zoo, options)
    try:
        parent, roots = _with_parent(zoo, zoos)
    except ZoojaxError as error:
        if options.needed:
            raise ZoojaxError(
                f"{zoo.path} is split like its parent, which was not found ({error}); also give "
                "the parent, or split=None"
            ) from error
        return [None] * len(zoo)
    whole = parent.store.identity()
    known = dict(zip(whole["id"], _dense_sides(whole, parent, options), strict=True))
    return [known[root] for root in roots]


def _with_parent(zoo: Zoo, zoos: list[Zoo]) -> tuple[Zoo, list[int]]:
    """The parent of a twin, and the present id of the parent of each member."""
    entry = zoo.config.parent
    if entry is None:
        raise ZoojaxError("the twin does not name it")
    versions = (each for each in zoos if each.config.is_dense)
    parent = next((each for each in versions if is_version(each, entry.fingerprint)), None)
    if parent is None:
        parent = _opened_parent(zoo, entry)
    roots = present_ids(parent, entry, zoo.members_table)["parent_id"].to_list()
    missing = set(roots) - set(parent.store.identity()["id"])
    if missing:
        raise ZoojaxError(f"{parent.path} has no member {min(missing)}")
    return parent, roots


def _opened_parent(zoo: Zoo, entry: Parent) -> Zoo:
    if entry.path == "unknown":
        raise ZoojaxError(f"the folder of {printable(entry.name, 60)} is unknown")
    parent = open_zoo((zoo.path / entry.path).resolve())
    if not is_version(parent, entry.fingerprint):
        raise ZoojaxError(f"{parent.path} is another zoo")
    return parent


def _dense_sides(table: pl.DataFrame, zoo: Zoo, options: SplitOptions) -> list[str | None]:
    ids = table["id"].to_list()
    if options.published and "split" in table.columns:
        if options.by:
            raise ZoojaxError(
                f"{zoo.path} has a split of its own (column split), so split_by needs "
                "published=False"
            )
        known = published_sides(ids, table["split"].to_list(), zoo.path)
        return [known[member] for member in ids]
    if options.by:
        table = with_defaults(table)
        _check_columns(table, options.by, zoo)
    identities = member_identities(table, options.by)
    return [side_of(each, options.seed, options.fractions) for each in identities]


def _check_columns(table: pl.DataFrame, by: tuple[str, ...], zoo: Zoo) -> None:
    """Raises a ZoojaxError if members cannot be split by a column."""
    # Ids change if members are added.
    columns = [name for name in table.columns if name != "id"]
    for name in by:
        if name not in columns:
            known = printable(", ".join(columns), 600)
            raise ZoojaxError(
                f"{zoo.path} has no column {printable(name, 40)} to split by; it has {known}"
            )


def member_identities(table: pl.DataFrame, by: Sequence[str] = ()) -> list[str]:
    """Returns a text that identifies each member of a dense zoo, or its group.

    Args:
        table: The members table.
        by: Columns whose values identify a group of members; empty to identify members.

    Returns:
        The seed and hyperparameters of each member, or its values of `by`; with its id if it has
        no seed, or no such value.
    """
    columns = by or [name for name in _IDENTITY if name in table.columns]
    required = by or ("seed",)
    identities = []
    for row in table.select("id", *columns).iter_rows(named=True):
        member = row.pop("id")
        known = {name: value for name, value in row.items() if value is not None}
        if not known.keys() >= set(required):
            known["id"] = member
        identities.append(json.dumps(known, sort_keys=True))
    return identities
