"""Selects the states of zoos that are items of a dataset: splits, targets, finite states."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from zoojax.errors import ZoojaxError
from zoojax.storage.zoo import Zoo
from zoojax.text import printable
from zoojax.weight_datasets.sides import SplitOptions, member_sides

# Columns that every table of items has.
OWN_COLUMNS = ("zoo", "member", "epoch", "split")


class SampleTables(NamedTuple):
    """The states of a dataset.

    Attributes:
        selected: One row per item, with its zoo (`_zoo`) and its row in the file of that zoo
            (`_row`).
        training: The states of the training members.
        left_out: Number of states of the selected split that are not finite or lack a target.
        epochs: Epochs of each zoo.
    """

    selected: pl.DataFrame
    training: pl.DataFrame
    left_out: int
    epochs: list[list[int]]


def sample_table(
    zoos: list[Zoo], options: SplitOptions, targets: Sequence[str], epochs: Any
) -> SampleTables:
    """Lists the states of zoos, zoo by zoo, epoch by epoch and member by member.

    Args:
        zoos: The zoos.
        options: The split.
        targets: Columns of the metrics or of `Zoo.members`.
        epochs: Epochs, one epoch, or None for all.

    Raises:
        ZoojaxError: If an epoch or a column is missing, or no states remain.
    """
    chosen = [_epochs(zoo, epochs) for zoo in zoos]
    tables = [
        _of_zoo(position, zoo, zoos, chosen[position], options, targets)
        for position, zoo in enumerate(zoos)
    ]
    table = pl.concat(tables)
    part = table if options.split is None else table.filter(split=options.split)
    if part.is_empty():
        members = f"{sum(map(len, zoos))} members"
        if options.by:
            members = f"{members}, split by {printable(', '.join(options.by), 200)}"
        raise ZoojaxError(
            f"the split {options.split} has none of the {members}; give other fractions or another "
            "seed, or more members"
        )
    usable = pl.col("_finite")
    for target in targets:
        usable &= pl.col(target).is_not_null() & pl.col(target).is_finite()
    selected = part.filter(usable)
    if selected.is_empty():
        raise ZoojaxError(
            f"none of the {len(part)} states is finite and has the targets "
            f"{', '.join(targets) or '(none)'}"
        )
    training = table.filter(pl.col("_finite"), split="train")
    return SampleTables(selected, training, len(part) - len(selected), chosen)


def _epochs(zoo: Zoo, epochs: Any) -> list[int]:
    if epochs is None:
        zoo.known_epoch(None)
        return zoo.epochs
    if isinstance(epochs, str | bytes) or (
        hasattr(epochs, "__iter__") and not isinstance(epochs, Sequence | range | np.ndarray)
    ):
        raise ZoojaxError(f"epochs are {printable(epochs, 60)}; give a list of epochs")
    listed: list[Any] = list(epochs) if hasattr(epochs, "__iter__") else [epochs]
    if not listed:
        raise ZoojaxError("epochs are an empty list; give at least one, or None for all")
    return sorted({zoo.known_epoch(epoch) for epoch in listed})


def _of_zoo(
    position: int,
    zoo: Zoo,
    zoos: list[Zoo],
    epochs: list[int],
    options: SplitOptions,
    targets: Sequence[str],
) -> pl.DataFrame:
    sides = member_sides(zoo, zoos, options)
    members, count = zoo.members, len(zoo)
    rows = pl.DataFrame(
        {
            "member": members["id"],
            "split": pl.Series(sides, dtype=pl.String),
            "_member_row": range(count),
        }
    )
    places = pl.DataFrame({"epoch": epochs, "_epoch_row": range(len(epochs))})
    full = zoo.metrics.join(members, left_on="member", right_on="id", how="left")
    for target in targets:
        if target not in full.columns:
            known = printable(", ".join(full.columns), 600)
            raise ZoojaxError(
                f"{zoo.path} has no column {printable(target, 40)} to predict; it has {known}"
            )
        if not (full[target].dtype.is_numeric() or full[target].dtype == pl.Boolean):
            raise ZoojaxError(
                f"the target {target} of {zoo.path} has values of type {full[target].dtype}; "
                "targets are numbers"
            )
    named = [pl.col(target).cast(pl.Float64) for target in targets if target not in OWN_COLUMNS]
    epoch = [pl.col("epoch").cast(pl.Int64)]
    joined = (
        full.select("member", *epoch, pl.col("finite").alias("_finite"), *named)
        .join(rows, on="member")
        .join(places, on="epoch")
        .sort("_epoch_row", "_member_row")
    )
    return joined.select(
        pl.lit(printable(zoo.path, 1000)).alias("zoo"),
        *("member", "epoch", "split"),
        *(target for target in targets if target not in OWN_COLUMNS),
        "_finite",
        pl.lit(position).alias("_zoo"),
        (pl.col("_epoch_row") * count + pl.col("_member_row")).alias("_row"),
    )
