"""A zoo and its twins, side by side: who belongs to whom, and who is left out."""

import numpy as np
import polars as pl

from zoojax.errors import ZoojaxError
from zoojax.storage.zoo import Zoo, with_states

# Columns of a members table that are hyper-parameters; those of converted zoos have more.
HYPERPARAMETERS = ("activation", "init", "optimizer", "learning_rate", "weight_decay", "dropout")


def hyperparameters(zoo: Zoo) -> list[str]:
    """The hyper-parameters in which members of a zoo differ, by column of its roster."""
    known = [name for name in HYPERPARAMETERS if name in zoo.members_table.columns]
    return [name for name in known if zoo.members_table[name].n_unique() > 1]


def check(zoo: Zoo, twin: Zoo) -> None:
    """Raises ZoojaxError unless the second is a twin of the first, on the same images."""
    if zoo.config.kind != "dense":
        raise ZoojaxError(f"{zoo.path} is itself a twin; give the dense zoo first")
    parent = twin.config.parent
    if twin.config.kind == "dense":
        raise ZoojaxError(f"{twin.path} is a dense zoo, not a twin of {zoo.path}")
    if parent is None:
        raise ZoojaxError(
            f"{twin.path} does not name the zoo that it was made from; convert it again with "
            f"--parent {zoo.path}"
        )
    if parent.fingerprint != zoo.fingerprint:
        raise ZoojaxError(
            f"{twin.path} is a twin of another zoo ({parent.name}, {parent.path}) than {zoo.path}"
        )
    if twin.config.data_hash != zoo.config.data_hash:
        raise ZoojaxError(f"{twin.path} was measured on other images than {zoo.path}")
    unknown = set(twin.members_table["parent_id"].to_list()) - set(
        zoo.members_table["id"].to_list()
    )
    if unknown:
        raise ZoojaxError(f"{twin.path} has twins of member {min(unknown)}, which {zoo.path} lacks")


def member_metrics(zoo: Zoo) -> pl.DataFrame:
    """The zoo's metrics with what the roster knows of each member.

    Returns:
        A row a member and epoch: `member`, `epoch`, the metrics, `parent_id` and `ratio`
        (null where the kind of zoo has none), `seed` and the hyper-parameters that vary.
    """
    roster = zoo.members_table.rename({"id": "member"})
    for name, kind in (("parent_id", pl.Int64), ("ratio", pl.Float64)):
        if name not in roster.columns:
            roster = roster.with_columns(pl.lit(None, kind).alias(name))
    known = ["member", "parent_id", "ratio", "seed", *hyperparameters(zoo)]
    # Not `zoo.metrics`: an epoch without a state still has its place in a trajectory.
    table = roster.select(*dict.fromkeys(known)).join(
        zoo.metrics_history, on="member", how="inner", maintain_order="left"
    )
    return table.sort("epoch", "member", maintain_order=True)


def paired_metrics(zoo: Zoo, twin: Zoo) -> pl.DataFrame:
    """Every member and epoch of a twin beside the member that it was made from.

    Args:
        zoo: the dense zoo.
        twin: its twin.

    Returns:
        `measurements` of the twin, with `dense_acc` and `dense_ggap`: test accuracy and gap
        of the parent at the epoch that the twin began with; `finite` holds of both.

    Raises:
        ZoojaxError: it is no twin of this zoo, or the parent was not measured at that epoch.
    """
    check(zoo, twin)
    assert twin.config.parent is not None
    epoch = twin.config.parent.epoch
    before = with_states(zoo.metrics_history.filter(pl.col("epoch") == epoch))
    if before.is_empty():
        raise ZoojaxError(
            f"{zoo.path} has no metrics of epoch {epoch}, which {twin.path} began with"
        )
    before = before.select(
        pl.col("member").alias("parent_id"),
        pl.col("test_acc").alias("dense_acc"),
        pl.col("ggap").alias("dense_ggap"),
        pl.col("finite").alias("_finite"),
    )
    table = member_metrics(twin).join(before, on="parent_id", how="inner", maintain_order="left")
    return table.with_columns(pl.col("finite") & pl.col("_finite")).drop("_finite")


def last_epoch(table: pl.DataFrame) -> int:
    """The newest epoch of `measurements` or `pairs`."""
    return int(table["epoch"].to_numpy().max())


def finite_rows(table: pl.DataFrame) -> pl.DataFrame:
    """The rows of members whose numbers are finite, and whose accuracies are known.

    Converted zoos may lack what their trials did not report.
    """
    known = [pl.col(name).is_finite() for name in ("test_acc", "dense_acc") if name in table]
    return table.filter(pl.col("finite"), *known)


def finite(zoo: Zoo, epoch: int) -> np.ndarray:
    """Which members are finite at an epoch, [members] bool; those without a state are not."""
    rows = with_states(zoo.metrics_history.filter((pl.col("epoch") == epoch) & pl.col("finite")))
    return zoo.members_table["id"].is_in(rows["member"].to_list()).to_numpy()


def group_by_population(table: pl.DataFrame) -> list[tuple[float | None, int, pl.DataFrame]]:
    """(ratio, epoch, rows) of `measurements` or `pairs`, in order."""
    parts = table.partition_by("ratio", "epoch", as_dict=True, maintain_order=True)
    found = [(key[0], key[1], rows) for key, rows in parts.items()]
    return sorted(found, key=lambda part: (part[0] is not None, part[0] or 0.0, part[1]))


def matched(twin: Zoo, sparsity: float) -> tuple[int, float]:
    """The epoch at which a twin's mean sparsity is nearest to one asked for, and how near.

    Epochs whose states were never there are passed over: what is compared needs states.

    Raises:
        ZoojaxError: no member is finite.
    """
    means = (
        with_states(finite_rows(member_metrics(twin)))
        .group_by("epoch", maintain_order=True)
        .agg((pl.col("sparsity").mean() - sparsity).abs().alias("distance"))
        .sort("distance", "epoch")
    )
    if means.is_empty():
        raise ZoojaxError(f"{twin.path} has no member with finite numbers")
    return int(means["epoch"][0]), float(means["distance"][0])


def nearest_sparsity_epoch(twin: Zoo, sparsity: float) -> int:
    """The epoch at which a variational-dropout twin's mean sparsity is nearest to one asked for."""
    return matched(twin, sparsity)[0]
