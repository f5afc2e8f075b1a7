"""Views of zoos: some members of a zoo, or the members of several zoos, without copies.

A view is a `Zoo` whose store reads from the stores of other zoos, so everything that accepts a zoo
accepts a view.
"""

from collections.abc import Hashable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import polars as pl

from zoojax.datasets.specs import ImageSet
from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.declaration import check_whole
from zoojax.runtime.population import concatenate, take
from zoojax.storage.blocks import gather_rows
from zoojax.storage.stores import Store
from zoojax.storage.zoo_config import ZooConfig
from zoojax.text import printable

# Fields of a config in which zoos of one view may differ.
_FREE_FIELDS = {
    *("name", "chunk", "preset", "versions", "origin", "data", "parent", "earlier"),
    # Networks are compared with the registered one, not with each other.
    "definition",
}


class RowsStore:
    """Some rows of the members table of a zoo.

    It has the path and the identity of the whole zoo, so twins of a view are twins of the zoo.

    Attributes:
        path: Path of the zoo.
        in_memory: Whether the zoo is in memory.
    """

    def __init__(self, base: Store, table: pl.DataFrame, rows: np.ndarray):
        self.path, self.in_memory = base.path, base.in_memory
        self._base, self._count = base, len(table)
        self._rows, self._members = rows, table[rows]

    @property
    def has_images(self) -> bool:
        """Whether the zoo contains its images."""
        return self._base.has_images

    def members(self) -> pl.DataFrame:
        """Returns the rows of the members table."""
        return self._members

    def identity(self) -> pl.DataFrame:
        """Returns the table that identifies the whole zoo."""
        return self._base.identity()

    def metrics_version(self) -> Hashable:
        """Returns the version of the zoo's metrics table."""
        return self._base.metrics_version()

    def metrics(self) -> pl.DataFrame:
        """Reads the metrics of the members."""
        members = self._members["id"].implode()
        return self._base.metrics().filter(pl.col("member").is_in(members))

    def has(self, kind: str) -> bool:
        """Whether the zoo has checkpoints of a kind."""
        return self._base.has(kind)

    def epochs(self, kind: str) -> list[int]:
        """Lists the checkpoints of a kind."""
        return self._base.epochs(kind)

    def digest(self, kind: str, epoch: int) -> str:
        """Identifies the content of a checkpoint."""
        return f"{self._base.digest(kind, epoch)}:{self._rows.tolist()}"

    def read(
        self,
        kind: str,
        epoch: int,
        rows: slice | None,
        like: dict[str, Any] | None,
        optional: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """Reads the members' rows of a checkpoint, and only the blocks that hold them."""
        like, optional = _of_members(like, self._count), _of_members(optional, self._count)
        return gather_rows(
            self._base.blocks(kind, epoch, self._count),
            self._rows if rows is None else self._rows[rows],
            lambda block: self._base.read(kind, epoch, block, like, optional),
        )

    def blocks(self, kind: str, epoch: int, members: int) -> list[slice]:
        """Returns blocks as large as those of the zoo."""
        size = max(each.stop - each.start for each in self._base.blocks(kind, epoch, self._count))
        starts = range(0, max(members, 1), size)
        return [slice(start, min(start + size, members)) for start in starts]

    def images(self) -> ImageSet | None:
        """Reads the stored images of the zoo."""
        return self._base.images()


class ConcatStore:
    """The members of several zoos, one after the other.

    Ids stay the same if no two zoos share one. Otherwise, the ids of each further zoo follow the
    largest id before it.

    Attributes:
        path: Name by which messages refer to the view.
        has_images: Whether the first zoo contains its images.
    """

    in_memory = True

    def __init__(self, stores: Sequence[Store], with_parents: bool):
        self.path = Path(" + ".join(str(store.path) for store in stores))
        self.has_images = stores[0].has_images
        self._stores = stores
        tables = [store.members() for store in stores]
        self._sizes = [len(table) for table in tables]
        self._shifts = _id_shifts(tables)
        dropped = [] if with_parents else ["parent_id"]
        shifted = [
            table.drop(dropped, strict=False).with_columns(pl.col("id") + shift)
            for table, shift in zip(tables, self._shifts, strict=True)
        ]
        self._members = pl.concat(shifted, how="diagonal")

    def members(self) -> pl.DataFrame:
        """Returns the members tables, joined."""
        return self._members

    def identity(self) -> pl.DataFrame:
        """Returns the members table."""
        return self._members

    def metrics_version(self) -> Hashable:
        """Returns the versions of all metrics tables; None if one is missing."""
        versions = tuple(store.metrics_version() for store in self._stores)
        return None if None in versions else versions

    def metrics(self) -> pl.DataFrame:
        """Reads the metrics tables, joined."""
        shifted = [
            store.metrics().with_columns(pl.col("member") + shift)
            for store, shift in zip(self._stores, self._shifts, strict=True)
        ]
        return pl.concat(shifted, how="diagonal_relaxed")

    def has(self, kind: str) -> bool:
        """Whether all zoos have checkpoints of a kind."""
        return all(store.has(kind) for store in self._stores)

    def epochs(self, kind: str) -> list[int]:
        """Lists the checkpoints that all zoos have."""
        return sorted(set.intersection(*(set(store.epochs(kind)) for store in self._stores)))

    def digest(self, kind: str, epoch: int) -> str:
        """Identifies the content of a checkpoint."""
        return " ".join(store.digest(kind, epoch) for store in self._stores)

    def read(
        self,
        kind: str,
        epoch: int,
        rows: slice | None,
        like: dict[str, Any] | None,
        optional: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """Reads the members' rows of a checkpoint of each zoo."""
        parts = [
            store.read(kind, epoch, None, _of_members(like, count), _of_members(optional, count))
            for store, count in zip(self._stores, self._sizes, strict=True)
        ]
        # Some zoos may lack optional parts.
        common = set.intersection(*(set(part) for part in parts))
        tree = concatenate([{name: part[name] for name in sorted(common)} for part in parts])
        return tree if rows is None else take(tree, rows)

    def blocks(self, kind: str, epoch: int, members: int) -> list[slice]:
        """Returns all rows as one block, since reading a part reads all zoos."""
        del kind, epoch
        return [slice(0, members)]

    def images(self) -> ImageSet | None:
        """Reads the stored images of the first zoo."""
        return self._stores[0].images()


def concat_store(
    stores: Sequence[Store], configs: Sequence[ZooConfig]
) -> tuple[ConcatStore, ZooConfig]:
    """Creates the store and the config of several zoos as one.

    Args:
        stores: The stores.
        configs: The configs of the zoos.

    Raises:
        ZoojaxError: If the configs differ in more than names and sources.
    """
    first = configs[0]
    for store, config in zip(stores, configs, strict=True):
        for name in (field.name for field in fields(ZooConfig) if field.name not in _FREE_FIELDS):
            old, new = getattr(first, name), getattr(config, name)
            if old != new:
                values = f"{name} is {printable(old, 60)} and {printable(new, 60)}"
                raise ZoojaxError(
                    f"{stores[0].path} and {store.path} cannot be one zoo: their "
                    f"{'images differ' if name == 'data_hash' else values}"
                )
    parents = [config.parent for config in configs]
    known = {None if each is None else (each.fingerprint, each.epoch) for each in parents}
    config = replace(
        first,
        parent=parents[0] if len(known) == 1 else None,
        earlier=None,
        # Older zoos have none.
        definition=next((c.definition for c in configs if c.definition is not None), None),
    )
    return ConcatStore(stores, config.parent is not None), config


def row_positions(path: Path, count: int, rows: object) -> np.ndarray:
    """Returns the positions of the rows that a user selects.

    Args:
        path: Path of the zoo, for messages.
        count: Number of its members.
        rows: An int, a slice, positions, or one bool per member.

    Returns:
        Distinct positions, [rows] int64.

    Raises:
        ZoojaxError: If rows is none of these, is empty or selects a row twice, or there is no
            such row.
    """
    if isinstance(rows, slice):
        try:
            positions = np.arange(count)[rows]
        except TypeError as error:
            raise ZoojaxError(f"rows are {printable(rows, 60)}; give whole numbers") from error
    else:
        positions = _listed(count, rows)
    if not len(positions):
        raise ZoojaxError(f"no member of {path} is selected")
    if positions.min() < -count or positions.max() >= count:
        wrong = positions[(positions < -count) | (positions >= count)][0]
        raise ZoojaxError(f"{path} has no row {wrong}; it has {count} members")
    positions = positions % count
    if len(np.unique(positions)) < len(positions):
        raise ZoojaxError(f"rows of {path} are selected more than once; give each row once")
    return positions


def _listed(count: int, rows: object) -> np.ndarray:
    if isinstance(rows, bool | np.bool_) or not hasattr(rows, "__iter__"):
        return np.array([check_whole("row", rows)])
    if isinstance(rows, str | bytes | dict):
        raise ZoojaxError(f"rows are {printable(repr(rows), 60)}; give whole numbers or a mask")
    try:
        values = np.asarray(list(rows))  # pyright: ignore[reportArgumentType]
    except ValueError as error:
        raise ZoojaxError("rows have several dimensions; give a list") from error
    if values.ndim != 1:
        raise ZoojaxError(f"rows have {values.ndim} dimensions; give a list")
    if values.dtype == bool:
        if len(values) != count:
            raise ZoojaxError(f"the mask has {len(values)} values for {count} members")
        return np.flatnonzero(values)
    if len(values) and not np.issubdtype(values.dtype, np.integer):
        raise ZoojaxError(f"rows are {printable(values.tolist(), 60)}; give whole numbers")
    return values.astype(np.int64)


def _id_shifts(tables: Sequence[pl.DataFrame]) -> list[int]:
    """How much to add to the ids of each table, so that all ids differ."""
    ids = pl.concat([table["id"] for table in tables])
    if not ids.is_duplicated().any():
        return [0] * len(tables)
    shifts, following = [], 0
    for table in tables:
        shifts.append(following)
        following += int(table["id"].to_numpy().max()) + 1
    return shifts


def _of_members(like: Any, count: int) -> Any:
    """Replaces the number of members in expected shapes."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape[1:]), x.dtype), like)
