"""The split of each member of zoos: training, validation or test."""

import json
from typing import NamedTuple

import polars as pl

from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.grid import HYPERPARAMETERS
from zoojax.storage.parent import is_version, present_ids
from zoojax.storage.zoo import Zoo, open_zoo
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
        needed: Whether the splits are used: one is selected, or training states are needed.
    """

    split: str | None
    fractions: tuple[float, float, float]
    seed: int
    published: bool
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
        parent, table = _with_parent(zoo, zoos)
        whole = parent.store.identity()
        known = dict(zip(whole["id"], _dense_sides(whole, parent, options), strict=True))
        return [known[root] for root in table["parent_id"]]
    except (ZoojaxError, KeyError) as error:
        if options.needed:
            raise ZoojaxError(
                f"{zoo.path} is split like its parent, which was not found ({error}); also give "
                "the parent, or split=None"
            ) from error
        return [None] * len(zoo)


def _with_parent(zoo: Zoo, zoos: list[Zoo]) -> tuple[Zoo, pl.DataFrame]:
    """The parent of a twin, and the twin's members table with the parent's present ids."""
    entry = zoo.config.parent
    if entry is None:
        raise ZoojaxError("the twin does not name it")
    for other in zoos:
        if other.config.is_dense and is_version(other, entry.fingerprint):
            return other, present_ids(other, entry, zoo.members_table)
    if entry.path == "unknown":
        raise ZoojaxError(f"the folder of {printable(entry.name, 60)} is unknown")
    parent = open_zoo((zoo.path / entry.path).resolve())
    if not is_version(parent, entry.fingerprint):
        raise ZoojaxError(f"{parent.path} is another zoo")
    return parent, present_ids(parent, entry, zoo.members_table)


def _dense_sides(table: pl.DataFrame, zoo: Zoo, options: SplitOptions) -> list[str | None]:
    ids = table["id"].to_list()
    if options.published and "split" in table.columns:
        known = published_sides(ids, table["split"].to_list(), zoo.path)
        return [known[member] for member in ids]
    return [side_of(each, options.seed, options.fractions) for each in member_identities(table)]


def member_identities(table: pl.DataFrame) -> list[str]:
    """Returns a text that identifies each member of a dense zoo, whatever its id is.

    Args:
        table: The members table.

    Returns:
        The seed and hyperparameters of each member; with its id if it has no seed.
    """
    columns = [name for name in _IDENTITY if name in table.columns]
    identities = []
    for row in table.select("id", *columns).iter_rows(named=True):
        member = row.pop("id")
        known = {name: value for name, value in row.items() if value is not None}
        if "seed" not in known:
            known["id"] = member
        identities.append(json.dumps(known, sort_keys=True))
    return identities
