"""Compares methods pruned by ratio with methods that become sparse by epoch, at equal sparsity."""

from collections.abc import Callable

import numpy as np
import polars as pl

from zoojax.analysis.pairing import finite_rows, last_epoch, paired_metrics, ratio_sparsities
from zoojax.analysis.results import Analysis
from zoojax.errors import ZoojaxError
from zoojax.intervals import mean_interval
from zoojax.storage.zoo import Zoo

# Differences between fewer members are not reported.
MIN_MEMBERS = 3
# A crossover needs as many members at both ratios as a correlation does.
MIN_CROSSOVER = 20
# Largest distance of two ratios between which the crossing is interpolated.
MAX_BRACKET = 0.05


def _check(by_ratio: Zoo, by_epoch: Zoo) -> None:
    for twin, sweep in ((by_ratio, "ratio"), (by_epoch, "epoch")):
        sparsifier = twin.config.sparsifier
        if sparsifier.sweep != sweep:
            raise ZoojaxError(
                f"{twin.path}: sparsity by {sparsifier.label} varies with the {sparsifier.sweep}, "
                f"not with the {sweep}"
            )


def _accuracies(
    zoo: Zoo, by_ratio: Zoo, by_epoch: Zoo
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Test accuracies of both twins of each parent, by pruning ratio.

    If a parent has several twins in one population, their mean is used.

    Returns:
        The sparsities measured at the pruning ratios, [R], see `ratio_sparsities`; test accuracy
        of the first twin at its last epoch, [parents, R]; test accuracy of the other at the same
        sparsities, interpolated between epochs, [parents, R]. NaN if a twin is missing, has
        diverged, or does not reach the sparsity.
    """
    _check(by_ratio, by_epoch)
    first_rows = paired_metrics(zoo, by_ratio)
    first_rows = finite_rows(first_rows.filter(pl.col("epoch") == last_epoch(first_rows)))
    first_rows = _means(first_rows, "parent_id", "ratio")
    other_rows = finite_rows(paired_metrics(zoo, by_epoch)).drop_nulls("sparsity")
    other_rows = _means(other_rows, "parent_id", "epoch").sort("epoch")
    other_by_parent = other_rows.partition_by("parent_id", as_dict=True)
    sparsities = ratio_sparsities(by_ratio)
    ratios = list(sparsities)
    parents = sorted({key[0] for key in other_by_parent} & set(first_rows["parent_id"].to_list()))
    first = np.full((len(parents), len(ratios)), np.nan)
    for parent, ratio, accuracy in first_rows.select("parent_id", "ratio", "test_acc").iter_rows():
        if parent in parents:
            first[parents.index(parent), ratios.index(ratio)] = accuracy
    other = np.full_like(first, np.nan)
    for i, parent in enumerate(parents):
        rows = other_by_parent[(parent,)]
        sparsity, accuracy = rows["sparsity"].to_numpy(), rows["test_acc"].to_numpy()
        other[i] = at_sparsity(sparsity, accuracy, list(sparsities.values()))
    return np.array(list(sparsities.values())), first, other


def _means(table: pl.DataFrame, *keys: str) -> pl.DataFrame:
    return table.group_by(keys, maintain_order=True).agg(pl.col("sparsity", "test_acc").mean())


def at_sparsity(sparsity: np.ndarray, accuracy: np.ndarray, targets: list[float]) -> np.ndarray:
    """A member's accuracy when it first reaches each of several sparsities.

    Args:
        sparsity: sparsity by epoch, [epochs].
        accuracy: accuracy by epoch, [epochs].
        targets: sparsities in [0, 1].

    Returns:
        [targets]: interpolated linearly between the first epoch that reaches the target and
        the one before it; NaN if no epoch does, or the first one already exceeds it.
    """
    result = np.full(len(targets), np.nan)
    for i, target in enumerate(targets):
        reached = np.flatnonzero(sparsity >= target)
        if not reached.size:
            continue
        after = reached[0]
        if sparsity[after] == target:
            result[i] = accuracy[after]
        elif after > 0:
            part = (target - sparsity[after - 1]) / (sparsity[after] - sparsity[after - 1])
            result[i] = accuracy[after - 1] + part * (accuracy[after] - accuracy[after - 1])
    return result


def compare_methods(zoo: Zoo, by_ratio: Zoo, by_epoch: Zoo, seed: int = 0) -> pl.DataFrame:
    """Accuracy of one method minus that of another at equal sparsity.

    Args:
        zoo: The dense zoo.
        by_ratio: Its twin whose sparsity varies with the pruning ratio, such as a
            magnitude-pruned one; compared at its last epoch.
        by_epoch: Its twin whose sparsity varies with the epoch, such as one trained with
            variational dropout. Each member's accuracy is taken when it first reaches the
            sparsity, interpolated linearly between epochs.
        seed: Seed of the bootstrap.

    Returns:
        One row per pruning ratio: `sparsity`, `members` (parents whose twins are both finite
        and reach that sparsity), mean accuracies in one column per twin (`mp_acc` and `vd_acc`
        for magnitude pruning and variational dropout), mean `difference` and its 95 %
        interval over members, `low` and `high`: a bootstrap (BCa) of 20 members or more, else
        Student's t. Null if fewer than three members are left.

    Raises:
        ZoojaxError: If they are not a zoo and two such twins of it.
    """
    ratios, first, other = _accuracies(zoo, by_ratio, by_epoch)
    rows = []
    for i, ratio in enumerate(ratios):
        both = np.isfinite(first[:, i] - other[:, i])
        a, b = first[both, i], other[both, i]
        row = [float(ratio), len(a)] + [None] * 5
        if len(a) >= MIN_MEMBERS:
            low, high = mean_interval(a - b, seed)
            row = [float(ratio), len(a), a.mean(), b.mean(), (a - b).mean(), low, high]
        rows.append(row)
    accuracies = (f"{twin.config.sparsifier.method}_acc" for twin in (by_ratio, by_epoch))
    columns = (*accuracies, "difference", "low", "high")
    schema = {"sparsity": pl.Float64, "members": pl.Int64} | dict.fromkeys(columns, pl.Float64)
    return pl.DataFrame(rows, schema=schema, orient="row")


def compare_pairs(
    analysis: Analysis, compare: Callable[[Zoo, Zoo, Zoo], pl.DataFrame]
) -> pl.DataFrame:
    """Applies `compare_methods` or `crossover` to every pair of methods of an analysis.

    Args:
        analysis: The analysis.
        compare: The function.

    Returns:
        The rows of all pairs; with `method` and `other_method` in front if there is more than
        one pair. Empty without pairs.
    """
    pairs, parts = analysis.pairs(), []
    for one, other in pairs:
        table = compare(analysis.zoo, one.zoo, other.zoo)
        if len(pairs) > 1:
            names = (pl.lit(one.key).alias("method"), pl.lit(other.key).alias("other_method"))
            columns = {f"{m.sparsifier.method}_acc": m.acc_column for m in (one, other)}
            table = table.rename(columns, strict=False).select(*names, pl.all())
        parts.append(table)
    return pl.concat(parts, how="diagonal") if parts else pl.DataFrame()


def crossover(zoo: Zoo, by_ratio: Zoo, by_epoch: Zoo) -> pl.DataFrame:
    """The measured sparsities between which the second method becomes more accurate.

    Nothing is measured between pruning ratios: the crossover is bracketed by two of them, and
    interpolated linearly only if they are at most 0.05 apart.

    Args:
        zoo: The dense zoo.
        by_ratio: Its twin whose sparsity varies with the pruning ratio.
        by_epoch: Its twin whose sparsity varies with the epoch.

    Returns:
        One row: `above` and `below`, the neighboring pruning ratios between which the mean
        difference of `compare_methods` last falls from positive to zero or less;
        `above_difference` and `below_difference`, the mean differences there; `sparsity`, the
        interpolated crossover (null if the ratios are further apart); and `members`, the
        smaller number of members at the two ratios. Null if it never does. Ratios with fewer
        than 20 members are skipped.

    Raises:
        ZoojaxError: If they are not a zoo and two such twins of it.
    """
    ratios, first, other = _accuracies(zoo, by_ratio, by_epoch)
    difference = first - other
    count = np.isfinite(difference).sum(axis=0)
    known = count >= MIN_CROSSOVER
    at, mean, count = ratios[known], np.nanmean(difference[:, known], axis=0), count[known]
    falls = np.flatnonzero((mean[:-1] > 0) & (mean[1:] <= 0))
    names = ("above", "below", "above_difference", "below_difference", "sparsity")
    schema = dict.fromkeys(names, pl.Float64) | {"members": pl.Int64}
    row: list[float | None] = [None] * len(schema)
    if falls.size:
        ends = [falls[-1], falls[-1] + 1]
        row = [*at[ends].tolist(), *mean[ends].tolist(), None, int(count[ends].min())]
        # 0.9 - 0.85 exceeds 0.05 by rounding.
        if np.diff(at[ends])[0] <= MAX_BRACKET + 1e-9:
            row[4] = float(np.interp(0, mean[ends][::-1], at[ends][::-1]))
    return pl.DataFrame([row], schema=schema, orient="row")
