"""Pairs a zoo with its twins: matches members with their parents, filters diverged members."""

import numpy as np
import polars as pl

from zoojax.errors import ZoojaxError
from zoojax.hyperparameters import grid
from zoojax.storage.parent import is_version, paired
from zoojax.storage.zoo import Zoo, with_states

# Largest number of distinct values of a number that are compared one by one.
MAX_VALUES = 12
# Largest difference between a ratio of weights and the resulting sparsity.
ROUNDING = 0.005
# Columns of the members table that are hyperparameters; converted zoos have more columns.
HYPERPARAMETERS = tuple(each.name for each in grid.HYPERPARAMETERS)


def hyperparameters(zoo: Zoo) -> list[str]:
    """The hyperparameters that vary across a zoo's members, as columns of its members table."""
    known = [name for name in HYPERPARAMETERS if name in zoo.members_table.columns]
    return [name for name in known if zoo.members_table[name].n_unique() > 1]


def value_groups(values: pl.Series) -> pl.Series:
    """Names the groups in which members are compared by one hyperparameter.

    Args:
        values: its values, one per member and row.

    Returns:
        The values as text. Numbers with more than MAX_VALUES distinct values, such as those of a
        random search, are named by four ranges with a quarter of these values each, such as "0.001
        to 0.004".
    """
    known = values.drop_nulls().drop_nans() if values.dtype.is_float() else values.drop_nulls()
    known = known.unique().sort()
    if not values.dtype.is_numeric() or len(known) <= MAX_VALUES:
        return values.cast(pl.String)
    parts = np.array_split(known.to_numpy(), 4)
    names = [f"{part[0]:.2g} to {part[-1]:.2g}" for part in parts]
    group = np.searchsorted([part[-1] for part in parts[:-1]], values.to_numpy())
    named = pl.Series(values.name, [names[i] for i in group])
    return pl.select(pl.when(values.is_in(known.implode())).then(named)).to_series()


def check(zoo: Zoo, twin: Zoo) -> None:
    """Checks that one zoo is a twin of another and was evaluated on the same images.

    Args:
        zoo: the dense zoo.
        twin: its twin.

    Raises:
        ZoojaxError: it is not.
    """
    if not zoo.config.is_dense:
        raise ZoojaxError(f"{zoo.path} is itself a twin; give the dense zoo first")
    parent = twin.config.parent
    if twin.config.is_dense:
        raise ZoojaxError(f"{twin.path} is a dense zoo, not a twin of {zoo.path}")
    if parent is None:
        raise ZoojaxError(
            f"{twin.path} does not name its parent zoo; convert it again with --parent {zoo.path}"
        )
    if not is_version(zoo, parent.fingerprint):
        raise ZoojaxError(
            f"{twin.path} is a twin of another zoo ({parent.name}, {parent.path}) than {zoo.path}"
        )
    if twin.config.data_hash != zoo.config.data_hash:
        raise ZoojaxError(f"{twin.path} was evaluated on other images than {zoo.path}")
    unknown = set(paired(zoo, twin).members_table["parent_id"].to_list()) - set(
        zoo.members_table["id"].to_list()
    )
    if unknown:
        raise ZoojaxError(f"{twin.path} has twins of member {min(unknown)}, which {zoo.path} lacks")


def member_metrics(zoo: Zoo) -> pl.DataFrame:
    """The zoo's metrics joined with its members table.

    Args:
        zoo: the zoo.

    Returns:
        One row per member and epoch: `member`, `epoch`, the metrics, `parent_id` and `ratio`
        (null if the zoo has none), other options of the sparsifier that vary, such as `penalty`,
        `seed` and the hyperparameters that vary.
    """
    members = zoo.members_table.rename({"id": "member"})
    for name, dtype in (("parent_id", pl.Int64), ("ratio", pl.Float64)):
        if name not in members.columns:
            members = members.with_columns(pl.lit(None, dtype).alias(name))
    options = zoo.config.sparsifier.per_member.values()
    columns = ["member", "parent_id", "ratio", *options, "seed", *hyperparameters(zoo)]
    # Not `zoo.metrics`: trajectories include epochs without a stored state.
    table = members.select(*dict.fromkeys(columns)).join(
        zoo.metrics_history, on="member", how="inner", maintain_order="left"
    )
    return table.sort("epoch", "member", maintain_order=True)


def paired_metrics(zoo: Zoo, twin: Zoo) -> pl.DataFrame:
    """Metrics of every member and epoch of a twin, with those of the member's parent.

    Args:
        zoo: the dense zoo.
        twin: its twin.

    Returns:
        `member_metrics` of the twin, with `dense_acc` and `dense_ggap`: test accuracy and
        generalization gap of the parent at the epoch from which the twin was created.
        `finite` is true if both are finite.

    Raises:
        ZoojaxError: it is not a twin of this zoo, or the zoo has no metrics of that epoch.
    """
    check(zoo, twin)
    twin = paired(zoo, twin)
    assert twin.config.parent is not None
    epoch = twin.config.parent.epoch
    parents = with_states(zoo.metrics_history.filter(pl.col("epoch") == epoch))
    if parents.is_empty():
        raise ZoojaxError(
            f"{zoo.path} has no metrics of epoch {epoch}, from which {twin.path} was created"
        )
    parents = parents.select(
        pl.col("member").alias("parent_id"),
        pl.col("test_acc").alias("dense_acc"),
        pl.col("ggap").alias("dense_ggap"),
        pl.col("finite").alias("_finite"),
    )
    table = member_metrics(twin).join(parents, on="parent_id", how="inner", maintain_order="left")
    return table.with_columns(pl.col("finite") & pl.col("_finite")).drop("_finite")


def last_epoch(table: pl.DataFrame) -> int:
    """The last epoch of a table of `member_metrics` or `paired_metrics`."""
    return int(table["epoch"].to_numpy().max())


def finite_rows(table: pl.DataFrame) -> pl.DataFrame:
    """The rows with finite values and known accuracies.

    Converted zoos may lack accuracies that their trials did not report.
    """
    known = [pl.col(n).is_finite() for n in ("test_acc", "dense_acc") if n in table.columns]
    return table.filter(pl.col("finite"), *known)


def finite(zoo: Zoo, epoch: int) -> np.ndarray:
    """Mask of the members that are finite at an epoch and have a state there, [members] bool."""
    rows = with_states(zoo.metrics_history.filter((pl.col("epoch") == epoch) & pl.col("finite")))
    return zoo.members_table["id"].is_in(rows["member"].to_list()).to_numpy()


def group_by_population(table: pl.DataFrame) -> list[tuple[float | None, int, pl.DataFrame]]:
    """Groups `member_metrics` or `paired_metrics` as sorted (ratio, epoch, rows)."""
    parts = table.partition_by("ratio", "epoch", as_dict=True, maintain_order=True)
    groups = [(key[0], key[1], rows) for key, rows in parts.items()]
    return sorted(groups, key=lambda group: (group[0] is not None, group[0] or 0.0, group[1]))


def nearest_sparsity(twin: Zoo, sparsity: float) -> tuple[int, float]:
    """The epoch that represents a sparsity, and the distance of its mean sparsity from it.

    It is the epoch at which the smoothed mean sparsity (see `smoothed`) is nearest to the
    requested one. Epochs without stored states are skipped, since comparisons need states, and
    so are epochs at which members are not finished networks (`Sparsifier.measured_epochs`).

    Args:
        twin: the twin.
        sparsity: requested sparsity in [0, 1].

    Returns:
        The epoch, and the absolute difference of its own mean sparsity from the requested one.

    Raises:
        ZoojaxError: no member is finite.
    """
    means = (
        with_states(finite_rows(member_metrics(twin)))
        .group_by("epoch")
        .agg(pl.col("sparsity").cast(pl.Float64).mean())
        .drop_nulls()
        .sort("epoch")
    )
    if means.is_empty():
        raise ZoojaxError(f"{twin.path} has no member with finite values")
    measured = twin.config.sparsifier.measured_epochs(twin.config.epochs)
    finished = means.filter(pl.col("epoch").is_in(measured))
    # A twin may end before its last epoch.
    means = means.tail(1) if finished.is_empty() else finished
    curve = means["sparsity"].to_numpy()
    is_curve = len(measured) == twin.config.epochs + 1
    nearest = int(np.argmin(np.abs((smoothed(curve) if is_curve else curve) - sparsity)))
    return int(means["epoch"][nearest]), float(abs(curve[nearest] - sparsity))


def ratio_sparsities(twin: Zoo) -> dict[float, float]:
    """Mean sparsity that was measured at each pruning ratio, at the last epoch.

    Args:
        twin: A twin whose sparsity varies with the ratio.

    Returns:
        Sparsities by ratio, ascending by ratio: the ratio itself if it differs from the mean only
        by rounding, and for ratios without finite members.
    """
    table = finite_rows(member_metrics(twin))
    table = table.filter(pl.col("epoch") == pl.col("epoch").max())
    grouped = table.group_by("ratio").agg(pl.col("sparsity").cast(pl.Float64).mean())
    means: dict[float, float] = dict(grouped.iter_rows())
    ratios = twin.members_table["ratio"].unique().sort().to_list()
    result = {}
    for ratio in ratios:
        mean = means.get(ratio, ratio)
        result[ratio] = ratio if abs(mean - ratio) <= ROUNDING else mean
    return result


def nearest_ratio(twin: Zoo, sparsity: float) -> float:
    """The pruning ratio whose measured sparsity is nearest to the requested one.

    Args:
        twin: A twin whose sparsity varies with the ratio.
        sparsity: Requested sparsity in [0, 1].
    """
    known = ratio_sparsities(twin)
    return min(known, key=lambda ratio: abs(known[ratio] - sparsity))


def smoothed(curve: np.ndarray) -> np.ndarray:
    """Averages each value of a curve over epochs with its two neighbors.

    A single epoch may be unusual. The ends stay as they are: averaging them with their only
    neighbor would shift them.

    Args:
        curve: values by epoch, [epochs].

    Returns:
        [epochs].

    Example:
        >>> smoothed(np.array([0.0, 0.3, 0.3, 0.6])).tolist()
        [0.0, 0.2, 0.4, 0.6]
    """
    padded = np.pad(curve, 1, mode="edge")
    result = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    result[[0, -1]] = curve[[0, -1]]
    return result


def nearest_sparsity_epoch(twin: Zoo, sparsity: float) -> int:
    """The epoch that represents a sparsity: see `nearest_sparsity`.

    Args:
        twin: a twin whose sparsity varies with the epoch.
        sparsity: requested sparsity in [0, 1].

    Raises:
        ZoojaxError: no member is finite.
    """
    return nearest_sparsity(twin, sparsity)[0]
