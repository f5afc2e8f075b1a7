"""Compares magnitude pruning with variational dropout at equal sparsity."""

import numpy as np
import polars as pl
import scipy.stats

from zoojax.analysis.pairing import finite_rows, last_epoch, paired_metrics
from zoojax.errors import ZoojaxError
from zoojax.storage.zoo import Zoo

_RESAMPLES = 1000
# Differences between fewer members are not reported.
MIN_MEMBERS = 3


def _check(mp: Zoo, vd: Zoo) -> None:
    for twin, kind in ((mp, "mp"), (vd, "vd")):
        if twin.config.kind != kind:
            raise ZoojaxError(f"{twin.path} is of kind {twin.config.kind}, not {kind}")


def _accuracies(zoo: Zoo, mp: Zoo, vd: Zoo) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Test accuracies of both twins of each parent, by pruning ratio.

    Returns:
        The pruning ratios [R]; test accuracy of magnitude pruning at its last epoch,
        [parents, R]; test accuracy of variational dropout at the same sparsities,
        interpolated between epochs, [parents, R]. NaN if a twin is missing, has diverged, or
        does not reach the sparsity.
    """
    _check(mp, vd)
    mp_rows = paired_metrics(zoo, mp)
    mp_rows = finite_rows(mp_rows.filter(pl.col("epoch") == last_epoch(mp_rows)))
    vd_rows = finite_rows(paired_metrics(zoo, vd)).drop_nulls("sparsity").sort("epoch")
    vd_by_parent = vd_rows.partition_by("parent_id", as_dict=True)
    ratios = mp.members_table["ratio"].unique().sort().to_list()
    parents = sorted({key[0] for key in vd_by_parent} & set(mp_rows["parent_id"].to_list()))
    mp_acc = np.full((len(parents), len(ratios)), np.nan)
    for parent, ratio, accuracy in mp_rows.select("parent_id", "ratio", "test_acc").iter_rows():
        if parent in parents:
            mp_acc[parents.index(parent), ratios.index(ratio)] = accuracy
    vd_acc = np.full_like(mp_acc, np.nan)
    for i, parent in enumerate(parents):
        rows = vd_by_parent[(parent,)]
        sparsity, accuracy = rows["sparsity"].to_numpy(), rows["test_acc"].to_numpy()
        vd_acc[i] = at_sparsity(sparsity, accuracy, ratios)
    return np.array(ratios), mp_acc, vd_acc


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


def compare_methods(zoo: Zoo, mp: Zoo, vd: Zoo, seed: int = 0) -> pl.DataFrame:
    """Accuracy of magnitude pruning minus that of variational dropout at equal sparsity.

    Args:
        zoo: the dense zoo.
        mp: its magnitude-pruned twin, compared at its last epoch.
        vd: its variational-dropout twin. Each member's accuracy is taken where it first
            reaches the sparsity, interpolated linearly between epochs.
        seed: seed of the bootstrap.

    Returns:
        One row per pruning ratio: `sparsity`, `members` (parents whose twins are both finite
        and reach that sparsity), mean `mp_acc` and `vd_acc`, mean `difference` and its 95 %
        bootstrap interval over members (BCa), `low` and `high`. Null if fewer than three
        members are left.

    Raises:
        ZoojaxError: they are not a zoo and its two twins.
    """
    ratios, mp_acc, vd_acc = _accuracies(zoo, mp, vd)
    rows = []
    for i, ratio in enumerate(ratios):
        both = np.isfinite(mp_acc[:, i] - vd_acc[:, i])
        a, b = mp_acc[both, i], vd_acc[both, i]
        row = [float(ratio), len(a)] + [None] * 5
        if len(a) >= MIN_MEMBERS:
            low, high = _interval(a - b, seed)
            row = [float(ratio), len(a), a.mean(), b.mean(), (a - b).mean(), low, high]
        rows.append(row)
    columns = ("mp_acc", "vd_acc", "difference", "low", "high")
    schema = {"sparsity": pl.Float64, "members": pl.Int64} | dict.fromkeys(columns, pl.Float64)
    return pl.DataFrame(rows, schema=schema, orient="row")


def _interval(values: np.ndarray, seed: int) -> tuple[float, float]:
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    interval = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=_RESAMPLES, rng=np.random.default_rng(seed)
    ).confidence_interval
    return float(interval.low), float(interval.high)


def crossover(zoo: Zoo, mp: Zoo, vd: Zoo) -> pl.DataFrame:
    """The measured sparsities between which variational dropout becomes more accurate.

    Nothing is measured between pruning ratios, so the crossover is only bracketed.

    Args:
        zoo: the dense zoo.
        mp: its magnitude-pruned twin.
        vd: its variational-dropout twin.

    Returns:
        One row: `above` and `below`, the neighboring pruning ratios between which the mean
        difference of `compare_methods` last falls from positive to zero or less;
        `above_difference` and `below_difference`, the mean differences there. Null if it
        never does. Ratios with fewer than three members are skipped.

    Raises:
        ZoojaxError: they are not a zoo and its two twins.
    """
    ratios, mp_acc, vd_acc = _accuracies(zoo, mp, vd)
    difference = mp_acc - vd_acc
    known = np.isfinite(difference).sum(axis=0) >= MIN_MEMBERS
    at, mean = ratios[known], np.nanmean(difference[:, known], axis=0)
    falls = np.flatnonzero((mean[:-1] > 0) & (mean[1:] <= 0))
    names = ("above", "below", "above_difference", "below_difference")
    row: list[float | None] = [None] * len(names)
    if falls.size:
        first, second = falls[-1], falls[-1] + 1
        row = [float(x) for x in (at[first], at[second], mean[first], mean[second])]
    return pl.DataFrame([row], schema=dict.fromkeys(names, pl.Float64), orient="row")
