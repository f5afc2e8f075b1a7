"""Tables that compare all sparsifiers of an analysis: accuracy, differences, crossings, cost.

Members are paired: every method is applied to the same parents.
"""

import itertools

import numpy as np
import polars as pl
import scipy.stats

from zoojax.analysis.added_tables import analysis_table
from zoojax.analysis.measured import (
    MAX_GAP,
    TOLERANCE,
    AccuraciesAt,
    accuracies_at,
    measured_points,
    setting_means,
)
from zoojax.analysis.method_comparison import MIN_MEMBERS
from zoojax.analysis.results import Analysis, Method
from zoojax.analysis.signed_rank import holm, mean_interval, signed_rank_test
from zoojax.storage.timing import read_timing

# Corrected p-values below this are significant.
SIGNIFICANT = 0.05
_AT = (
    f"Accuracy at a sparsity is that of a member measured with at most {TOLERANCE:.0%} more or "
    "fewer weights kept, or interpolated linearly between two sparsities at most "
    f"{100 * MAX_GAP:.0f} percentage points apart"
)
_BUDGET = "Budget: total epochs of training, including those of the dense parent."


def _is_comparable(analysis: Analysis) -> bool:
    return bool(analysis.twins) and not analysis.zoo.config.shape.task.has_own_images


@analysis_table(
    "method_accuracy",
    title="Accuracy of all methods",
    about="Test accuracy at each setting of each method at the sparsity that was measured, and the "
    "change from the last epoch of the dense parents: means over members with 95 % intervals "
    f"(Student's t), and standard deviation of sparsity. {_BUDGET}",
    fractions=("sparsity", "dense_acc"),
)
def method_accuracy(analysis: Analysis) -> pl.DataFrame:
    """Accuracy of every method at every setting.

    Args:
        analysis: The analysis.

    Returns:
        One row per method and setting: `method`, `setting`, `epoch`, `budget`, `members`,
        `sparsity`, `sparsity_std`, `dense_acc`, `test_acc`, `change` = test_acc - dense_acc; means
        over members, the last two with their 95 % intervals (null below three members).
    """
    rows = []
    for points in measured_points(analysis) if _is_comparable(analysis) else []:
        settings = setting_means(points)
        groups = points.rows.partition_by("setting", as_dict=True)
        for setting in settings.iter_rows(named=True):
            group = groups[(setting["setting"],)]
            accuracy = group["test_acc"].to_numpy()
            change = accuracy - group["dense_acc"].to_numpy()
            rows.append(
                {
                    "method": points.method.key,
                    "setting": setting["setting"],
                    "epoch": setting["epoch"],
                    "budget": setting["budget"],
                    "members": setting["members"],
                    "sparsity": setting["mean"],
                    "sparsity_std": setting["std"],
                    "dense_acc": float(group["dense_acc"].to_numpy().mean()),
                    **_estimate("test_acc", accuracy),
                    **_estimate("change", change),
                }
            )
    return pl.DataFrame(rows, infer_schema_length=None)


def _estimate(name: str, values: np.ndarray) -> dict[str, float | None]:
    """Mean and interval of values by column; null intervals below three members."""
    few = len(values) < MIN_MEMBERS
    low, high = (None, None) if few else mean_interval(values)
    mean = float(values.mean()) if len(values) else None
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


@analysis_table(
    "method_differences",
    title="Differences of methods",
    about="Test accuracy of one method minus that of another at the same sparsity, paired by "
    "member: mean with 95 % interval (Student's t); the share of members with which the first is "
    "more accurate (ties count half); p-value of Wilcoxon's signed-rank test, corrected "
    f"over all pairs of methods at this sparsity (Holm); the better method if p is below "
    f"{SIGNIFICANT}. {_AT}.",
    fractions=("sparsity", "wins", "interpolated"),
)
def method_differences(analysis: Analysis) -> pl.DataFrame:
    """Paired differences of all pairs of methods at common sparsities.

    Args:
        analysis: The analysis.

    Returns:
        One row per sparsity and pair of methods that have three members in common: `sparsity`,
        `method`, `other_method`, `budget`, `other_budget`, `members`, `difference`, `low`, `high`,
        `wins`, `p`, `p_holm`, `better` (label of a method, or empty) and `interpolated`, the
        larger share of interpolated accuracies of the two.
    """
    if not _is_comparable(analysis):
        return pl.DataFrame()
    if "differences" not in analysis.cache:
        found, points = accuracies_at(analysis), measured_points(analysis)
        methods = [each.method for each in points]
        budgets = [_budgets(each, found.targets) for each in points]
        parts = [_differences(found, methods, budgets, t) for t in range(len(found.targets))]
        table = pl.concat(parts) if parts else pl.DataFrame()
        analysis.cache["differences"] = table
    return analysis.cache["differences"]


def _budgets(points, targets: np.ndarray) -> list[int]:
    """Total epochs of the setting nearest to each sparsity."""
    settings = setting_means(points)
    means = settings["mean"].to_numpy()
    return [int(settings["budget"][int(np.abs(means - t).argmin())]) for t in targets]


def _differences(
    found: AccuraciesAt, methods: list[Method], budgets: list[list[int]], t: int
) -> pl.DataFrame:
    """Rows of one sparsity."""
    rows, accuracy = [], found.accuracy[:, t]
    for one, other in itertools.combinations(range(len(methods)), 2):
        difference = accuracy[one] - accuracy[other]
        difference = difference[np.isfinite(difference)]
        if len(difference) < MIN_MEMBERS:
            continue
        low, high = mean_interval(difference)
        rows.append(
            {
                "sparsity": float(found.targets[t]),
                "method": methods[one].key,
                "other_method": methods[other].key,
                "budget": budgets[one][t],
                "other_budget": budgets[other][t],
                "members": len(difference),
                "difference": float(difference.mean()),
                "low": low,
                "high": high,
                "wins": float(((difference > 0) + 0.5 * (difference == 0)).mean()),
                "p": signed_rank_test(difference),
                "interpolated": float(found.interpolated[[one, other], t].max()),
            }
        )
    schema = dict.fromkeys(("sparsity", "difference", "low", "high"), pl.Float64)
    schema |= dict.fromkeys(("wins", "p", "interpolated"), pl.Float64)
    schema |= {"method": pl.String, "other_method": pl.String}
    schema |= dict.fromkeys(("members", "budget", "other_budget"), pl.Int64)
    table = pl.DataFrame(rows, schema=schema)
    table = table.with_columns(pl.Series("p_holm", holm(table["p"].to_numpy()), pl.Float64))
    short = {method.key: method.short for method in methods}
    better = (
        pl.when(pl.col("p_holm") >= SIGNIFICANT)
        .then(pl.lit(""))
        .when(pl.col("difference") > 0)
        .then(pl.col("method").replace(short))
        .otherwise(pl.col("other_method").replace(short))
    )
    return table.select(
        *("sparsity", "method", "other_method", "budget", "other_budget", "members"),
        *("difference", "low", "high", "wins", "p", "p_holm"),
        better.alias("better"),
        "interpolated",
    )


@analysis_table(
    "method_ranking",
    title="Ranking of methods",
    about="Methods at the same sparsity, the most accurate first: mean test accuracy with 95 % "
    "interval; mean rank over the members that all methods of this sparsity share (1: most "
    "accurate); and how many methods are significantly better or worse (see the differences of "
    f"methods). {_AT}. {_BUDGET}",
    fractions=("sparsity", "interpolated"),
)
def method_ranking(analysis: Analysis) -> pl.DataFrame:
    """Ranks all methods at common sparsities.

    Args:
        analysis: The analysis.

    Returns:
        One row per sparsity and method with three members: `sparsity`, `method`, `budget`,
        `members`, `test_acc` with its interval, `rank` (null without three common members),
        `better` and `worse`: the numbers of methods that are significantly better and worse;
        `interpolated`.
    """
    differences = method_differences(analysis)
    if differences.is_empty():
        return pl.DataFrame()
    found, points = accuracies_at(analysis), measured_points(analysis)
    budgets = [_budgets(each, found.targets) for each in points]
    parts = []
    for t, target in enumerate(found.targets.tolist()):
        accuracy = found.accuracy[:, t]
        enough = np.flatnonzero(np.isfinite(accuracy).sum(1) >= MIN_MEMBERS)
        shared = accuracy[enough][:, np.isfinite(accuracy[enough]).all(0)]
        ranks = [None] * len(enough)
        if shared.shape[1] >= MIN_MEMBERS:
            ranks = scipy.stats.rankdata(-shared, axis=0).mean(1).tolist()
        here = differences.filter((pl.col("sparsity") - target).abs() < 1e-9)
        rows = []
        for i, rank in zip(enough.tolist(), ranks, strict=True):
            method, values = points[i].method, accuracy[i][np.isfinite(accuracy[i])]
            decided = here.filter(
                (pl.col("better") != "")
                & ((pl.col("method") == method.key) | (pl.col("other_method") == method.key))
            )
            worse = int((decided["better"] == method.short).sum())
            rows.append(
                {
                    "sparsity": target,
                    "method": method.key,
                    "budget": budgets[i][t],
                    "members": len(values),
                    **_estimate("test_acc", values),
                    "rank": rank,
                    "better": len(decided) - worse,
                    "worse": worse,
                    "interpolated": float(found.interpolated[i, t]),
                }
            )
        parts.append(pl.DataFrame(rows, schema_overrides={"rank": pl.Float64}))
    table = pl.concat(parts)
    return table.sort(["sparsity", "test_acc"], descending=[False, True])


@analysis_table(
    "method_crossings",
    title="Crossings of methods",
    about="Pairs of methods of which one is significantly better at a lower sparsity and the other "
    "at a higher one, and the measured sparsities between which the ranking changes (see the "
    "differences of methods). Nothing is known between them.",
    fractions=("above", "below"),
)
def method_crossings(analysis: Analysis) -> pl.DataFrame:
    """Pairs of sparsities between which the ranking of two methods changes.

    Args:
        analysis: The analysis.

    Returns:
        One row per change: `method`, the better one at lower sparsity; `other_method`, the better
        one at higher sparsity; `budget` and `other_budget`, their total epochs at `below`;
        `above`, the last compared sparsity at which the first is significantly better; `below`,
        the first at which the other is; `above_difference` and `below_difference`: accuracy of the
        first minus that of the other there; `members`, the smaller number of the two.
    """
    differences, rows = method_differences(analysis), []
    if differences.is_empty():
        return pl.DataFrame()
    decided = differences.filter(pl.col("better") != "")
    for (one, other), group in decided.partition_by(
        "method", "other_method", as_dict=True, maintain_order=True
    ).items():
        steps = group.sort("sparsity").rows(named=True)
        for before, after in itertools.pairwise(steps):
            if before["better"] == after["better"]:
                continue
            sign = 1 if before["difference"] > 0 else -1
            rows.append(
                {
                    "method": one if sign > 0 else other,
                    "other_method": other if sign > 0 else one,
                    "budget": after["budget" if sign > 0 else "other_budget"],
                    "other_budget": after["other_budget" if sign > 0 else "budget"],
                    "above": before["sparsity"],
                    "below": after["sparsity"],
                    "above_difference": sign * before["difference"],
                    "below_difference": sign * after["difference"],
                    "members": min(before["members"], after["members"]),
                }
            )
    return pl.DataFrame(rows)


@analysis_table(
    "method_cost",
    title="Cost of methods",
    about="Epochs of each twin, those of its parents, and their sum (the budget); members; seconds "
    "of training, in total and per member, and CPU seconds per member, as recorded while "
    "training, compilation included. Times of converted zoos are not known.",
)
def method_cost(analysis: Analysis) -> pl.DataFrame:
    """Training cost of each zoo.

    Args:
        analysis: The analysis.

    Returns:
        One row per zoo if there are twins, the dense one first: `method`, `parent_epochs`,
        `epochs`, `budget`, `members`, `seconds`, `seconds_per_member`, `cpu_seconds_per_member`;
        times are null if they are unknown.
    """
    rows = []
    for method in (analysis.methods[0], *analysis.whole_methods) if analysis.twins else ():
        zoo, parent = method.zoo, method.zoo.config.parent
        timing = read_timing(zoo.path)
        complete = set(zoo.epochs) <= set(timing["epoch"].to_list())
        seconds, cpu = (
            float(timing[name].sum()) if complete and len(timing) else None
            for name in ("seconds", "cpu_seconds")
        )
        start = 0 if parent is None else parent.epoch
        rows.append(
            {
                "method": method.key,
                "parent_epochs": start,
                "epochs": zoo.epochs[-1],
                "budget": start + zoo.epochs[-1],
                "members": len(zoo),
                "seconds": seconds,
                "seconds_per_member": None if seconds is None else seconds / len(zoo),
                "cpu_seconds_per_member": None if cpu is None else cpu / len(zoo),
            }
        )
    times = ("seconds", "seconds_per_member", "cpu_seconds_per_member")
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(times, pl.Float64))
