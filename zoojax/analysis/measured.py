"""Sparsities at which each method was measured, and accuracies at common sparsities.

A setting determines the sparsity: a ratio, a penalty, a round of iterative pruning, or an epoch of
a method that becomes sparser over the epochs. Sparsities are measured: the fraction of
weights that are zero.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from zoojax.analysis.method_comparison import MIN_MEMBERS, at_sparsity
from zoojax.analysis.pairing import ROUNDING, finite_rows, paired_metrics
from zoojax.analysis.results import Analysis, Method

# A setting represents a sparsity if it keeps at most this fraction more or fewer weights.
TOLERANCE = 0.06
# Between two settings of a member, accuracy is interpolated if they are no further apart.
MAX_GAP = 0.1
# Sparsities with only one method are left out if they are at most this far from others.
_CROWDED = 0.05
# Members below this sparsity are not sparse.
_MIN_SPARSITY = 0.05
# Sparsities of a comparison if all methods become sparser over the epochs.
_DEFAULT_TARGETS = (0.5, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class MethodPoints:
    """The measurements of one method.

    Attributes:
        method: The method.
        rows: One row per parent and setting with a finite twin: `parent_id`, `member` (the first
            of several), `setting` (text), `ratio`, `epoch`, `budget` (total epochs of training,
            including those of the parent), `sparsity`, `test_acc`, `dense_acc` (of the parent's
            last epoch) and the sparsities of layers.
    """

    method: Method
    rows: pl.DataFrame


@dataclass(frozen=True)
class AccuraciesAt:
    """Accuracies of all methods at common sparsities.

    Attributes:
        targets: The sparsities, [T], ascending.
        parents: Ids of the parents, [P].
        accuracy: Test accuracy, [methods, T, P]; NaN where a member was not measured nearby.
        interpolated: Share of the accuracies that are interpolated, [methods, T].
    """

    targets: np.ndarray
    parents: np.ndarray
    accuracy: np.ndarray
    interpolated: np.ndarray


def is_near(sparsity: np.ndarray | float, target: np.ndarray | float) -> np.ndarray:
    """Whether sparsities represent others: their kept weights differ by 6 % or less.

    Args:
        sparsity: Measured sparsities.
        target: Requested sparsities, which are broadcast against them.

    Example:
        >>> is_near(np.array([0.473, 0.49, 0.46]), 0.5).tolist()
        [True, True, False]
    """
    difference = np.abs(np.subtract(sparsity, target))
    return difference <= TOLERANCE * (1 - np.asarray(target)) + 1e-9


def measured_points(analysis: Analysis) -> list[MethodPoints]:
    """Returns the measurements of all twins that have any.

    Args:
        analysis: The analysis.
    """
    if "points" not in analysis.cache:
        found = [MethodPoints(m, _rows(analysis, m)) for m in analysis.whole_methods]
        analysis.cache["points"] = [each for each in found if len(each.rows)]
    return analysis.cache["points"]


def _rows(analysis: Analysis, method: Method) -> pl.DataFrame:
    zoo, config = analysis.zoo, method.zoo.config
    assert config.parent is not None
    table = finite_rows(paired_metrics(zoo, method.zoo)).drop_nulls("sparsity")
    if table.is_empty():
        return table
    last = zoo.metrics_history.filter(pl.col("epoch") == pl.col("epoch").max())
    dense = last.select(pl.col("member").alias("parent_id"), pl.col("test_acc").alias("dense_acc"))
    options = list(config.sparsifier.per_member.values())
    parts = [pl.format(f"{name} {{}}", pl.col(name).round(6)) for name in options]
    setting = pl.concat_str(parts, separator=", ") if parts else pl.format("epoch {}", "epoch")
    layers = [name for name in table.columns if name.startswith("sparsity_")]
    values = ["sparsity", "test_acc", "dense_acc", *layers]
    return (
        method.measured(table)
        .drop("dense_acc")
        .join(dense, on="parent_id", how="inner", maintain_order="left")
        .filter(pl.col("dense_acc").is_finite())
        .with_columns(
            setting.alias("setting"), (pl.col("epoch") + config.parent.epoch).alias("budget")
        )
        # Several twins of one parent count as one.
        .group_by("parent_id", "setting", "ratio", "epoch", "budget", maintain_order=True)
        .agg(pl.col("member").first(), pl.col(values).cast(pl.Float64).mean())
    )


def setting_means(points: MethodPoints) -> pl.DataFrame:
    """Computes the mean sparsity of each setting.

    Args:
        points: Measurements of a method.

    Returns:
        One row per setting, ascending by sparsity: `setting`, `ratio`, `epoch`, `budget`,
        `members`, `mean` and `std` of sparsity.
    """
    keys = ["setting", "ratio", "epoch", "budget"]
    statistics = [
        pl.len().cast(pl.Int64).alias("members"),
        pl.col("sparsity").mean().alias("mean"),
        pl.col("sparsity").std(ddof=0).alias("std"),
    ]
    return points.rows.group_by(keys, maintain_order=True).agg(*statistics).sort("mean", "epoch")


def common_sparsities(points: list[MethodPoints]) -> np.ndarray:
    """Returns the sparsities at which methods are compared.

    These are the mean sparsities of all settings whose members have the same sparsity. Sparsities
    within half a percentage point are merged; a ratio represents those that near. Sparsities of a
    single method are left out near those of several methods.

    Args:
        points: Measurements of all methods.

    Returns:
        Ascending fractions, [T].
    """
    found: list[tuple[float, float, str]] = []
    for each in points:
        if each.method.is_trajectory:
            continue
        for mean, std, ratio in setting_means(each).select("mean", "std", "ratio").iter_rows():
            near = mean if ratio is None or abs(ratio - mean) > ROUNDING else ratio
            if std <= TOLERANCE * (1 - mean) and mean >= _MIN_SPARSITY:
                found.append((mean, near, each.method.key))
    groups: list[list[tuple[float, float, str]]] = []
    for mean, target, key in sorted(found):
        if groups and mean - groups[-1][0][0] <= ROUNDING:
            groups[-1].append((mean, target, key))
        else:
            groups.append([(mean, target, key)])
    # Of the sparsities of a group, ratios have the fewest digits.
    targets = [min((t for _, t, _ in group), key=lambda t: len(repr(t))) for group in groups]
    is_shared = [len({key for *_, key in group}) > 1 for group in groups]
    shared = [target for target, several in zip(targets, is_shared, strict=True) if several]
    kept = [
        target
        for target, several in zip(targets, is_shared, strict=True)
        if several or all(abs(target - other) > _CROWDED for other in shared)
    ]
    return np.array(kept or _DEFAULT_TARGETS)


def accuracies_at(analysis: Analysis) -> AccuraciesAt:
    """Returns the accuracies of all methods at common sparsities.

    Args:
        analysis: The analysis.
    """
    if "accuracies" not in analysis.cache:
        points = measured_points(analysis)
        targets = common_sparsities(points)
        parents = np.array(analysis.zoo.members_table["id"].to_list())
        tables = [_at_targets(each, targets, parents) for each in points]
        shape = (len(points), len(targets))
        accuracy = np.array([a for a, _ in tables]).reshape(*shape, len(parents))
        interpolated = np.array([i for _, i in tables]).reshape(shape)
        # A sparsity with only one method compares nothing.
        several = (np.isfinite(accuracy).sum(2) >= MIN_MEMBERS).sum(0) >= min(2, len(points))
        analysis.cache["accuracies"] = AccuraciesAt(
            targets[several], parents, accuracy[:, several], interpolated[:, several]
        )
    return analysis.cache["accuracies"]


def _at_targets(
    points: MethodPoints, targets: np.ndarray, parents: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies [T, parents] at sparsities [T], and the share [T] that is interpolated."""
    accuracy = np.full((len(targets), len(parents)), np.nan)
    direct = np.zeros(accuracy.shape, bool)
    position = {parent: i for i, parent in enumerate(parents.tolist())}
    order = ["epoch"] if points.method.is_trajectory else ["sparsity"]
    for (parent,), rows in points.rows.partition_by("parent_id", as_dict=True).items():
        rows, at = rows.sort(order), position[parent]
        sparsity, measured = rows["sparsity"].to_numpy(), rows["test_acc"].to_numpy()
        if points.method.is_trajectory:
            accuracy[:, at] = at_sparsity(sparsity, measured, targets.tolist())
            continue
        accuracy[:, at], direct[:, at] = interpolate(sparsity, measured, targets)
    known = np.isfinite(accuracy)
    with np.errstate(invalid="ignore"):
        return accuracy, 1 - (direct & known).sum(1) / np.maximum(known.sum(1), 1)


def interpolate(
    sparsity: np.ndarray, accuracy: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Estimates a member's accuracy at sparsities near those that were measured.

    Args:
        sparsity: Measured sparsities, ascending, [n].
        accuracy: Accuracies there, [n].
        targets: Sparsities, [T].

    Returns:
        Accuracies [T]: at the nearest measured sparsity if it is near (see `is_near`), else
        interpolated linearly between two that are at most ten points apart, else NaN; and
        which ones are measured, [T] bool.

    Example:
        >>> accuracy, measured = interpolate(
        ...     np.array([0.5, 0.8, 0.9]), np.array([0.9, 0.8, 0.6]), np.array([0.5, 0.7, 0.85])
        ... )
        >>> accuracy.round(2).tolist(), measured.tolist()
        ([0.9, nan, 0.7], [True, False, False])
    """
    distance = np.abs(sparsity[None, :] - targets[:, None])
    nearest = distance.argmin(1)
    measured = is_near(sparsity[nearest], targets)
    after = np.searchsorted(sparsity, targets).clip(1, max(len(sparsity) - 1, 1))
    result = np.full(len(targets), np.nan)
    if len(sparsity) > 1:
        gap = sparsity[after] - sparsity[after - 1]
        inside = (targets >= sparsity[after - 1]) & (targets <= sparsity[after])
        near = inside & (gap <= MAX_GAP + 1e-9)
        result[near] = np.interp(targets[near], sparsity, accuracy)
    result[measured] = accuracy[nearest[measured]]
    return result, measured
