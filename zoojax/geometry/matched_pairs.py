"""Pairs of different members of a zoo, and the alignment of one to the other."""

from typing import Any

import numpy as np
import polars as pl

from zoojax.errors import ZoojaxError
from zoojax.geometry.matching import match_weights
from zoojax.geometry.members import Members
from zoojax.hyperparameters.tables import with_defaults
from zoojax.runtime.population import concatenate, take


def member_pairs(table: pl.DataFrame) -> pl.DataFrame:
    """Pairs each member with another one that has the same activation.

    Each member is the source of one pair and the target of another. Members of a pair have
    different seeds if no seed is that of more than half of the members with an activation: members
    with the same seed start from the same weights, so their units already correspond.

    Args:
        table: Rows of the members table.

    Returns:
        One row per pair, in the order of the targets in the table: `source` and `target`, ids.

    Raises:
        ZoojaxError: If no two members have the same activation.

    Example:
        >>> from zoojax import geometry
        >>> geometry.member_pairs(zoo.members).rows()
        [(1, 0), (2, 1), (0, 2)]
    """
    sources: dict[int, int] = {}
    seeds = pl.col("seed").fill_null(pl.col("id"))
    ordered = with_defaults(table).select("id", "activation", seeds).sort("seed", "id")
    for _, group in ordered.group_by("activation", maintain_order=True):
        ids = group["id"].to_list()
        if len(ids) >= 2:
            repeats = max(group["seed"].value_counts()["count"].to_list())
            shift = repeats if repeats < len(ids) else 1
            sources |= {ids[i]: ids[(i + shift) % len(ids)] for i in range(len(ids))}
    if not sources:
        raise ZoojaxError("pairs need two or more members with the same activation")
    rows = [(sources[i], i) for i in table["id"].to_list() if i in sources]
    return pl.DataFrame(rows, schema={"source": pl.Int64, "target": pl.Int64}, orient="row")


def positions(members: Members, ids: pl.Series) -> np.ndarray:
    """Positions of the members with some ids, [ids]."""
    row = {member: i for i, member in enumerate(members.ids)}
    return np.array([row[member] for member in ids.to_list()], int)


def aligned_tree(members: Members, pairs: pl.DataFrame, sources: Any, tree: Any) -> Any:
    """Permutes arrays of the sources of pairs by the alignment of sources to targets.

    Args:
        members: Members that include the targets.
        pairs: The pairs; see `member_pairs`.
        sources: Parameters of the sources by which they are aligned, stacked by pair.
        tree: Arrays of the sources, stacked by pair, in the structure of the parameters or by
            layer path; see `Transform.moved`.

    Returns:
        The tree in the order of the targets' units.
    """
    arch, targets = members.architecture, positions(members, pairs["target"])
    activations = np.array(members.table["activation"].to_list())[targets]
    order, parts = [], []
    for activation in sorted(set(activations)):
        rows = np.flatnonzero(activations == activation)
        matched = match_weights(
            arch,
            take(sources, rows),
            take(members.params, targets[rows]),
            activation=activation,
        )
        order.append(rows)
        parts.append(matched.transform.moved(arch, take(tree, rows)))
    return take(concatenate(parts), np.argsort(np.concatenate(order)))
