"""Pairs of members to connect: of one zoo, of two epochs, or of a zoo and its twin."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from zoojax.errors import ZoojaxError
from zoojax.geometry.derived import transformed_state
from zoojax.geometry.matching import match_weights
from zoojax.geometry.transforms import Symmetry
from zoojax.hyperparameters.declaration import check_whole
from zoojax.runtime.population import concatenate, take
from zoojax.sparsifiers.dense import Dense
from zoojax.storage.states import COLLECTIONS, effective_params
from zoojax.storage.zoo import Zoo
from zoojax.text import printable


@dataclass(frozen=True)
class Ends:
    """The ends of curves: members of an epoch of one zoo, and of an epoch of another or the same.

    Attributes:
        zoo: Zoo of the first members.
        other: Zoo of the second members.
        epoch: Epoch of the first members.
        other_epoch: Epoch of the second members.
        pairs: Ids of the first and of the second member, one row per pair.
        activations: Activation of the members of each pair.
    """

    zoo: Zoo
    other: Zoo
    epoch: int
    other_epoch: int
    pairs: pl.DataFrame
    activations: np.ndarray

    def __len__(self) -> int:
        return len(self.pairs)

    def variables(
        self, rows: np.ndarray, aligned: Sequence[Symmetry] | None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the stacked variables of the first and of the second members of pairs.

        Args:
            rows: Positions of the pairs, with one activation.
            aligned: Symmetries with which the second member of each pair is aligned to the first;
                None for none.
        """
        pairs = self.pairs[rows]
        first = _variables(self.zoo, self.epoch, pairs["first"])
        second = _variables(self.other, self.other_epoch, pairs["second"])
        if aligned is not None:
            second = self._aligned(first, second, str(self.activations[rows[0]]), aligned)
        return first, second

    def _aligned(
        self, first: dict[str, Any], second: dict[str, Any], activation: str, symmetries: Any
    ) -> dict[str, Any]:
        arch = self.zoo.config.shape
        matched = match_weights(
            *(arch, second["params"], first["params"]),
            activation=activation,
            symmetries=symmetries,
        )
        collections = {name: tree for name, tree in second.items() if name != "params"}
        state = {"params": second["params"]} | ({COLLECTIONS: collections} if collections else {})
        dense = replace(self.zoo.config, sparsifier=Dense(), parent=None)
        moved = transformed_state(dense, state, matched.transform, [activation])
        return {"params": moved["params"], **moved.get(COLLECTIONS, {})}


def _variables(zoo: Zoo, epoch: int, members: pl.Series) -> dict[str, Any]:
    state = zoo.state(epoch)
    variables = {"params": effective_params(zoo.config, state), **state.get(COLLECTIONS, {})}
    return take(variables, zoo.row_indices(members))


def stacked_ends(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Stacks the variables of first and second members: those of pair i are i and i + pairs."""
    return concatenate([first, second])


def find_ends(
    zoo: Zoo,
    other: Zoo | None,
    pairs: Sequence[tuple[int, int]] | None,
    epoch: int | None,
    other_epoch: int | None,
) -> Ends:
    """Selects pairs of members.

    Args:
        zoo: Zoo of the first members.
        other: Zoo of the second members; None for the same.
        pairs: Ids of the members of each pair. None connects all pairs of a zoo; each member at
            two epochs of a zoo; or the members of two zoos that have the same parent, or are
            parent and twin (with the same ratio, if both zoos have ratios).
        epoch: Epoch of the first members; None for the newest.
        other_epoch: Epoch of the second members; None for `epoch` in the same zoo, otherwise for
            the newest.

    Raises:
        ZoojaxError: If the zoos have different networks, there is no such epoch or
            member, or the members of a pair have different activations.
    """
    if zoo.config.shape.task.has_own_images:
        raise ZoojaxError(f"members of {zoo.path} learn one image each; they share no loss")
    epoch = zoo.newest_epoch if epoch is None else check_whole("epoch", epoch)
    is_same = other is None
    other = zoo if other is None else other
    if other_epoch is not None:
        check_whole("other_epoch", other_epoch)
    else:
        other_epoch = epoch if is_same else other.newest_epoch
    if other.config.shape != zoo.config.shape:
        raise ZoojaxError(f"the members of {zoo.path} and {other.path} have different networks")
    if pairs is not None:
        table = _given(pairs)
    elif is_same and epoch == other_epoch:
        ids = zoo.members_table["id"]
        at = np.triu_indices(len(ids), 1)
        table = pl.DataFrame({"first": ids.to_numpy()[at[0]], "second": ids.to_numpy()[at[1]]})
    else:
        table = _related(zoo, other)
    if table.is_empty():
        raise ZoojaxError(f"there are no pairs of members of {zoo.path} and {other.path}")
    columns = zip((zoo, other), ("first", "second"), strict=True)
    activations = [
        z.members_table["activation"].to_numpy()[z.row_indices(table[name])] for z, name in columns
    ]
    for row in np.flatnonzero(activations[0] != activations[1]):
        first, second = table.row(int(row))
        raise ZoojaxError(
            f"members {first} and {second} have the activations {activations[0][row]} and "
            f"{activations[1][row]}; give pairs with the same one"
        )
    return Ends(zoo, other, epoch, other_epoch, table, activations[0])


def _given(pairs: Any) -> pl.DataFrame:
    try:
        first, second = zip(*(tuple(pair) for pair in pairs), strict=True)
    except (TypeError, ValueError) as error:
        raise ZoojaxError(
            f"pairs is {printable(pairs, 80)}; give pairs of ids, such as [(0, 1), (0, 2)]"
        ) from error
    for member in (*first, *second):
        check_whole("the id of a member", member)
    return pl.DataFrame({"first": list(map(int, first)), "second": list(map(int, second))})


def _related(zoo: Zoo, other: Zoo) -> pl.DataFrame:
    """Pairs members with the same dense member."""
    tables = []
    for each, name in ((zoo, "first"), (other, "second")):
        members = each.members_table
        root = "parent_id" if "parent_id" in members.columns else "id"
        ratio = [pl.col("ratio")] if "ratio" in members.columns else []
        tables.append(members.select(pl.col("id").alias(name), pl.col(root).alias("root"), *ratio))
    on = [name for name in ("root", "ratio") if all(name in t.columns for t in tables)]
    joined = tables[0].join(tables[1], on=on, how="inner", maintain_order="left_right")
    return joined.select("first", "second")
