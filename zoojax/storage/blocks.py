"""Reads some members of an epoch block by block, to bound memory by one block and the result."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.declaration import check_whole
from zoojax.runtime.population import concatenate, take
from zoojax.text import printable

if TYPE_CHECKING:
    from zoojax.storage.zoo import Zoo

Tree = dict[str, Any]


def read_rows(
    zoo: "Zoo", epoch: int | None, rows: np.ndarray, part: Callable[[Tree], Tree]
) -> Tree:
    """Reads some rows of an epoch.

    Args:
        zoo: The zoo.
        epoch: The epoch; None for the newest.
        rows: Rows of the members table, in any order.
        part: Returns the wanted part of a stacked state.

    Returns:
        The part, stacked in the order of `rows`.

    Raises:
        ZoojaxError: If there is no such epoch, or its files are damaged.
    """
    return gather_rows(
        zoo.row_blocks(epoch), rows, lambda block: part(zoo.state(epoch, rows=block))
    )


def gather_rows(blocks: list[slice], rows: np.ndarray, read: Callable[[slice], Tree]) -> Tree:
    """Reads rows from the blocks that contain them.

    Args:
        blocks: Consecutive blocks of all rows.
        rows: The rows, in any order.
        read: Reads a block as a stacked tree.

    Returns:
        The stacked tree, in the order of `rows`.
    """
    holding = [b for b in blocks if ((rows >= b.start) & (rows < b.stop)).any()] or blocks[:1]
    pieces, positions = [], []
    for block in holding:
        inside = np.flatnonzero((rows >= block.start) & (rows < block.stop))
        tree, own = read(block), rows[inside] - block.start
        whole = np.array_equal(own, np.arange(block.stop - block.start))
        pieces.append(tree if whole else take(tree, own))
        positions.append(inside)
    if len(pieces) == 1:
        return pieces[0]
    return take(concatenate(pieces), np.argsort(np.concatenate(positions)))


def split_by_block(zoo: "Zoo", epoch: int | None, rows: np.ndarray) -> list[np.ndarray]:
    """Groups rows by the block in which an epoch stores them.

    Args:
        zoo: The zoo.
        epoch: The epoch; None for the newest.
        rows: Rows of the members table.

    Returns:
        The rows of each block that has any, in their order.

    Raises:
        ZoojaxError: If there is no such epoch, or its files are damaged.
    """
    blocks = zoo.row_blocks(epoch)
    groups = [rows[(rows >= block.start) & (rows < block.stop)] for block in blocks]
    return [group for group in groups if len(group)]


def read_members(
    zoo: "Zoo", epoch: int | None, members: Sequence[int] | None, part: Callable[[Tree], Tree]
) -> Tree:
    """Reads some members of an epoch by their ids; None for all. See `read_rows`."""
    if members is None:
        return part(zoo.state(epoch))
    return read_rows(zoo, epoch, positions(zoo, members), part)


def positions(zoo: "Zoo", members: Sequence[int] | pl.Series) -> np.ndarray:
    """Looks up the rows of members; see `Zoo.row_indices`."""
    if isinstance(members, str | bytes) or not hasattr(members, "__iter__"):
        raise ZoojaxError(f"members is {printable(members, 60)}; give a list of ids")
    rows = {member: row for row, member in enumerate(zoo.members_table["id"].to_list())}
    for member in members:
        check_whole("the id of a member", member)
        if member not in rows:
            raise ZoojaxError(f"{zoo.path} has no member {member}; it has {len(zoo)} members")
    return np.array([rows[member] for member in members], int)
