"""Whether sparse twins leave the basins of their parents: barriers over the pruning ratio."""

from pathlib import Path
from typing import Literal

import polars as pl

from zoojax.geometry.lines import barriers, lines
from zoojax.geometry.masks import parents_of, rows_by_ratio
from zoojax.geometry.matched_pairs import member_pairs
from zoojax.geometry.members import Members, Show, members_at
from zoojax.runtime import signals
from zoojax.storage.opening import as_zoo
from zoojax.storage.zoo import Zoo

DENSE, PARENT, TWINS = "two dense members", "parent and twin", "two twins"
LINES = (DENSE, PARENT, TWINS)


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
    groups = rows_by_ratio(pruned)
    total, parts = 2 + 3 * len(groups), []

    def measure(
        line: str,
        ratio: float | None,
        first: Members,
        second: Members,
        pairs: list[tuple[int, int]],
        aligned: bool,
    ) -> None:
        """Adds the barriers of pairs of ids (target, source)."""
        owners = [_owners(zoo if each is parents else twin) for each in (first, second)]
        table = lines(
            zoo if first is parents else twin,
            zoo if second is parents else twin,
            pairs=pairs,
            epoch=first.epoch,
            other_epoch=second.epoch,
            align=aligned,
            points=points,
            split=split,
            data_dir=data_dir,
        )
        found = barriers(table).join(_ends(table), on=("first", "second"), maintain_order="left")
        parts.append(
            found.select(
                pl.lit(line).alias("line"),
                pl.lit(ratio, pl.Float64).alias("ratio"),
                pl.lit(aligned).alias("aligned"),
                pl.col("first").replace_strict(owners[0]).alias("target"),
                pl.col("second").replace_strict(owners[1]).alias("source"),
                pl.exclude("first", "second"),
            )
        )
        signals.check()
        if show is not None:
            show(len(parts), total)

    dense = [(target, source) for source, target in member_pairs(parents.table).iter_rows()]
    for aligned in (False, True):
        measure(DENSE, None, parents, parents, dense, aligned)
    for ratio, rows in groups:
        ids = dict(pruned.table[rows].select("parent_id", "id").iter_rows())
        known = parents.table.filter(pl.col("id").is_in(list(ids)))
        own = [(parent, ids[parent]) for parent in known["id"].to_list()]
        measure(PARENT, ratio, parents, pruned, own, False)
        pairs = member_pairs(known)
        both = [(ids[target], ids[source]) for source, target in pairs.iter_rows()]
        for aligned in (False, True):
            measure(TWINS, ratio, pruned, pruned, both, aligned)
    return pl.concat(parts)


def _owners(zoo: Zoo) -> dict[int, int]:
    """The dense member of each member."""
    table = zoo.members_table
    owner = "id" if zoo.config.is_dense else "parent_id"
    return dict(zip(table["id"].to_list(), table[owner].to_list(), strict=True))


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
