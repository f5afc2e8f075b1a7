"""What was found beside what the paper prints of the same zoo."""

import polars as pl

from zoojax import presets
from zoojax.analysis.pairing import last_epoch, matched
from zoojax.analysis.paper import paper_results
from zoojax.analysis.results import Analysis
from zoojax.storage.zoo import Zoo

# How near a mean sparsity must be to be compared with one that the paper gives.
SPARSITY_TOLERANCE = 0.03


def published_of(zoo: Zoo) -> pl.DataFrame:
    """`published` of a dense zoo's preset; empty unless the zoo was made as the preset says."""
    comparable = presets.difference(zoo) is None
    return paper_results((comparable and zoo.config.preset) or "")


def not_compared(found: Analysis) -> list[str]:
    """Why a zoo or a twin that records one of the paper's presets is not compared with it."""
    zoo, preset = found.zoo, found.zoo.config.preset or ""
    if paper_results(preset).is_empty():
        return []
    reason = presets.difference(zoo)
    if reason is not None:
        return [f"{zoo.path} is not compared with the paper's {preset}: {reason}."]
    reasons = {twin.path: presets.twin_difference(zoo, twin) for twin in found.twins}
    return [
        f"{path} is not compared with the twins of the paper's {preset}: {reason}."
        for path, reason in reasons.items()
        if reason is not None
    ]


def compare_with_paper(found: Analysis) -> pl.DataFrame:
    """What the paper prints of this zoo beside what was found.

    Where the paper gives variational dropout's sparsity in place of an epoch, the epoch of
    the nearest mean sparsity is taken, if it is within three points; pruned twins are taken
    at their last epoch.

    Returns:
        `published` with the epoch filled in, renamed `paper_mean` and `paper_std`;
        and `members`, `ours_mean`, `ours_std`, `difference` = ours - paper. Without rows of
        twins that were made differently; empty if the zoo was (see `zoojax.presets`).
    """
    printed = published_of(found.zoo)
    if len(printed):
        same = [t.config.kind for t in found.twins if not presets.twin_difference(found.zoo, t)]
        printed = printed.filter(pl.col("method").is_in(same))
    mp, vd = found.twin("mp"), found.twin("vd")
    epochs = []
    for row in printed.iter_rows(named=True):
        epoch = row["epoch"]
        if epoch is None and row["method"] == "mp" and mp is not None:
            epoch = last_epoch(mp.metrics_history)
        elif epoch is None and vd is not None and row["sparsity"] is not None:
            nearest, distance = matched(vd, row["sparsity"])
            epoch = nearest if distance <= SPARSITY_TOLERANCE else None
        epochs.append(epoch)
    printed = printed.with_columns(pl.Series("epoch", epochs, pl.Int64))
    keys = ["method", "ratio", "epoch", "quantity"]
    ours = _long(found)
    joined = printed.join(ours, on=keys, how="inner", nulls_equal=True, maintain_order="left")
    return joined.select(
        "table",
        *keys,
        "sparsity",
        pl.col("mean").alias("paper_mean"),
        pl.col("std").alias("paper_std"),
        "members",
        "ours_mean",
        "ours_std",
        (pl.col("ours_mean") - pl.col("mean")).alias("difference"),
    )


def _long(found: Analysis) -> pl.DataFrame:
    """Every mean that was found: method, ratio, epoch, quantity, members, ours_mean, ours_std."""
    keys, parts = ["method", "ratio", "epoch"], []
    for name in ("trajectories", "agreement_summary"):
        table = found.tables.get(name, pl.DataFrame())
        for column in table.columns:
            quantity = column.removesuffix("_mean")
            if quantity == column or (name == "agreement_summary" and quantity != "agreement"):
                continue
            parts.append(_quantity(table, keys, quantity, column, pl.col(f"{quantity}_std")))
    table = found.tables.get("correlation", pl.DataFrame())
    parts += [
        _quantity(table, keys, quantity, quantity, pl.lit(None))
        for quantity in ("pearson", "kendall")
        if quantity in table.columns
    ]
    return pl.concat(parts)


def _quantity(
    table: pl.DataFrame, keys: list[str], quantity: str, mean: str, std: pl.Expr
) -> pl.DataFrame:
    return table.select(
        *keys,
        pl.lit(quantity).alias("quantity"),
        pl.col("members").cast(pl.Int64),
        pl.col(mean).cast(pl.Float64).alias("ours_mean"),
        std.cast(pl.Float64).alias("ours_std"),
    )
