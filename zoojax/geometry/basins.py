"""Whether sparse twins leave the basins of their parents: barriers over the pruning ratio."""

from pathlib import Path
from typing import Literal

import polars as pl

from zoojax.geometry.lines import barriers, lines
from zoojax.geometry.masks import parents_of, rows_by_ratio
from zoojax.geometry.matched_pairs import member_pairs
from zoojax.geometry.members import Show, members_at
from zoojax.runtime import signals
from zoojax.storage.opening import as_zoo
from zoojax.storage.zoo import Zoo

DENSE, PARENT, TWINS = "two dense members", "parent and twin", "two twins"
_KEYS = ("ratio", "target", "source")


def basins(
    zoo: Zoo | str | Path,
    twin: Zoo | str | Path,
    *,
    epoch: int | None = None,
    points: int = 11,
    split: Literal["train", "val", "test"] = "test",
    data_dir: str | Path | None = None,
    show: Show = None,
) -> pl.DataFrame:
    """Measures barriers between parents and twins, and between members, by pruning ratio.

    Two dense members, and the twins of two members at the same ratio, are those of
    `member_pairs`; their barriers are measured before and after the source is aligned to the
    target by weights, the twins by their own weights.

    Args:
        zoo: The dense zoo, or its folder.
        twin: Its twin, or its folder.
        epoch: Epoch of the twin; None for the newest.
        points: Number of evenly spaced points on each line, with its ends.
        split: Images to evaluate on: "train", "val" or "test".
        data_dir: Folder of image sets.
        show: Called with the numbers of completed and of all sets of lines.

    Returns:
        One row per line: `line` ("two dense members", "parent and twin" or "two twins"), `ratio`
        (null for dense members, and for twins without ratios), `aligned`, ids of the dense
        members `target` and `source` (the same for parent and twin), `loss_barrier` and
        `acc_barrier` (see `barriers`), and loss and accuracy at the ends, `target_loss`,
        `target_acc`, `source_loss` and `source_acc` (the twin's for parent and twin). Lines with
        an end that is not finite are left out.

    Raises:
        ZoojaxError: If it is not a twin of the zoo, the zoo lacks the epoch of the parents, or
            images are missing.

    Example:
        >>> twin = zoojax.sparsify(zoo, zoojax.MagnitudePruning((0.5,)), epochs=0, quiet=True)
        >>> table = zoojax.geometry.basins(zoo, twin, points=3)
        >>> table.filter(line="parent and twin").select("ratio", "target", "source").rows()
        [(0.5, 0, 0), (0.5, 1, 1), (0.5, 2, 2)]
    """
    zoo, twin = as_zoo(zoo), as_zoo(twin, "a twin")
    parents, pruned = parents_of(zoo, twin), members_at(twin, epoch)
    dense = [(target, source) for source, target in member_pairs(parents.table).iter_rows()]
    own, both = [], []
    for _, rows in rows_by_ratio(pruned):
        ids = dict(pruned.table[rows].select("parent_id", "id").iter_rows())
        known = parents.table.filter(pl.col("id").is_in(list(ids)))
        own += [(parent, ids[parent]) for parent in known["id"].to_list()]
        pairs = member_pairs(known).iter_rows()
        both += [(ids[target], ids[source]) for source, target in pairs]
    parts: list[pl.DataFrame] = []
    sets = (
        *((DENSE, zoo, zoo, dense, aligned) for aligned in (False, True)),
        (PARENT, zoo, twin, own, False),
        *((TWINS, twin, twin, both, aligned) for aligned in (False, True)),
    )
    epochs = {zoo.path: parents.epoch, twin.path: pruned.epoch}
    for line, first, second, pairs, aligned in sets:
        table = lines(
            first,
            second,
            pairs=pairs,
            epoch=epochs[first.path],
            other_epoch=epochs[second.path],
            align=aligned,
            points=points,
            split=split,
            data_dir=data_dir,
        )
        found = barriers(table).join(_ends(table), on=("first", "second"), maintain_order="left")
        for owners, end in (
            (_dense_members(first, "first", "target"), "first"),
            (_dense_members(second, "second", "source", "ratio"), "second"),
        ):
            found = found.join(owners, on=end, maintain_order="left")
        names = pl.lit(line).alias("line"), "ratio", pl.lit(aligned).alias("aligned")
        parts.append(
            found.select(*names, "target", "source", pl.exclude("first", "second", *_KEYS))
        )
        signals.check()
        if show is not None:
            show(len(parts), len(sets))
    return pl.concat(parts).sort("ratio", maintain_order=True, nulls_last=False)


def _dense_members(zoo: Zoo, end: str, name: str, *columns: str) -> pl.DataFrame:
    """The dense member of each member, and columns that are null in tables without them."""
    table = zoo.members_table
    owner = "id" if zoo.config.is_dense else "parent_id"
    missing = [pl.lit(None, pl.Float64).alias(c) for c in columns if c not in table.columns]
    table = table.with_columns(*missing)
    return table.select(pl.col("id").alias(end), pl.col(owner).alias(name), *columns)


def _ends(points: pl.DataFrame) -> pl.DataFrame:
    """Loss and accuracy at both ends of each line."""
    ordered = points.sort("position", maintain_order=True)
    groups = ordered.group_by("first", "second", maintain_order=True)
    return groups.agg(
        pl.col("loss").first().cast(pl.Float64).alias("target_loss"),
        pl.col("acc").first().cast(pl.Float64).alias("target_acc"),
        pl.col("loss").last().cast(pl.Float64).alias("source_loss"),
        pl.col("acc").last().cast(pl.Float64).alias("source_acc"),
    )
