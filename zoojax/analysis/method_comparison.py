"""Magnitude pruning against variational dropout at equal sparsity."""

import numpy as np
import polars as pl
import scipy.stats

from zoojax.analysis.pairing import finite_rows, last_epoch, paired_metrics
from zoojax.errors import ZoojaxError
from zoojax.storage.zoo import Zoo

_RESAMPLES = 1000
# Fewer members say nothing about a difference.
MIN_MEMBERS = 3


def _check(mp: Zoo, vd: Zoo) -> None:
    for twin, kind in ((mp, "mp"), (vd, "vd")):
        if twin.config.kind != kind:
            raise ZoojaxError(f"{twin.path} is of kind {twin.config.kind}, not {kind}")


def _accuracies(zoo: Zoo, mp: Zoo, vd: Zoo) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every parent with a twin of both kinds.

    Returns:
        ratios [R]; test accuracy of the pruned at their last epoch [parents, R]; that of
        the dropped out at the same sparsities, between their epochs [parents, R]. NaN where
        a twin is missing, not finite (from its divergence on), or not that sparse.
    """
    _check(mp, vd)
    pruned = paired_metrics(zoo, mp)
    pruned = finite_rows(pruned.filter(pl.col("epoch") == last_epoch(pruned)))
    dropped = finite_rows(paired_metrics(zoo, vd)).drop_nulls("sparsity").sort("epoch")
    dropped = dropped.partition_by("parent_id", as_dict=True)
    ratios = mp.members_table["ratio"].unique().sort().to_list()
    parents = sorted({key[0] for key in dropped} & set(pruned["parent_id"].to_list()))
    mine = np.full((len(parents), len(ratios)), np.nan)
    for parent, ratio, accuracy in pruned.select("parent_id", "ratio", "test_acc").iter_rows():
        if parent in parents:
            mine[parents.index(parent), ratios.index(ratio)] = accuracy
    theirs = np.full_like(mine, np.nan)
    for row, parent in enumerate(parents):
        rows = dropped[(parent,)]
        sparsity, accuracy = rows["sparsity"].to_numpy(), rows["test_acc"].to_numpy()
        theirs[row] = at_sparsity(sparsity, accuracy, ratios)
    return np.array(ratios), mine, theirs


def at_sparsity(sparsity: np.ndarray, accuracy: np.ndarray, wanted: list[float]) -> np.ndarray:
    """A member's accuracy when it first reaches a sparsity.

    Args:
        sparsity: by epoch, [epochs].
        accuracy: by epoch, [epochs].
        wanted: sparsities.

    Returns:
        [wanted]: linear between the epoch that reaches it first and the one before; NaN
        where none does, or the member begins beyond it.
    """
    found = np.full(len(wanted), np.nan)
    for i, goal in enumerate(wanted):
        reached = np.flatnonzero(sparsity >= goal)
        if not reached.size:
            continue
        after = reached[0]
        if sparsity[after] == goal:
            found[i] = accuracy[after]
        elif after > 0:
            part = (goal - sparsity[after - 1]) / (sparsity[after] - sparsity[after - 1])
            found[i] = accuracy[after - 1] + part * (accuracy[after] - accuracy[after - 1])
    return found


def compare_methods(zoo: Zoo, mp: Zoo, vd: Zoo, seed: int = 0) -> pl.DataFrame:
    """Accuracy of magnitude pruning less that of variational dropout at equal sparsity.

    Args:
        zoo: the dense zoo.
        mp: its magnitude-pruned twin, compared at its last epoch.
        vd: its variational-dropout twin; each member's accuracy is taken where its
            training first reached the sparsity, linear between epochs.
        seed: of the bootstrap.

    Returns:
        One row per pruning ratio: `sparsity`, `members` (parents with both twins sound and that
        sparsity reached), mean `mp_acc` and `vd_acc`, mean `difference` with its 95 %
        bootstrap interval over members (BCa), `low` and `high`; null where fewer than
        three are left.

    Raises:
        ZoojaxError: they are not a zoo and its two twins.
    """
    ratios, mine, theirs = _accuracies(zoo, mp, vd)
    rows = []
    for i, ratio in enumerate(ratios):
        both = np.isfinite(mine[:, i] - theirs[:, i])
        a, b = mine[both, i], theirs[both, i]
        row = [float(ratio), len(a)] + [None] * 5
        if len(a) >= MIN_MEMBERS:
            low, high = _interval(a - b, seed)
            row = [float(ratio), len(a), a.mean(), b.mean(), (a - b).mean(), low, high]
        rows.append(row)
    numbers = ("mp_acc", "vd_acc", "difference", "low", "high")
    schema = {"sparsity": pl.Float64, "members": pl.Int64} | dict.fromkeys(numbers, pl.Float64)
    return pl.DataFrame(rows, schema=schema, orient="row")


def _interval(values: np.ndarray, seed: int) -> tuple[float, float]:
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    found = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=_RESAMPLES, rng=np.random.default_rng(seed)
    ).confidence_interval
    return float(found.low), float(found.high)


def crossover(zoo: Zoo, mp: Zoo, vd: Zoo) -> pl.DataFrame:
    """The measured sparsities between which variational dropout becomes the more accurate.

    Between pruning ratios nothing is measured, so no sparsity within the bracket is named.

    Args:
        zoo: the dense zoo.
        mp: its magnitude-pruned twin.
        vd: its variational-dropout twin.

    Returns:
        One row: `above` and `below`, the neighbouring pruning ratios between which the mean
        difference of `compare_methods` falls from positive to zero or less, the last time
        that it does; `above_difference` and `below_difference`, the mean differences there.
        Null where it never does. Ratios with fewer than three members are passed over.

    Raises:
        ZoojaxError: they are not a zoo and its two twins.
    """
    ratios, mine, theirs = _accuracies(zoo, mp, vd)
    difference = mine - theirs
    known = np.isfinite(difference).sum(axis=0) >= MIN_MEMBERS
    at, mean = ratios[known], np.nanmean(difference[:, known], axis=0)
    falls = np.flatnonzero((mean[:-1] > 0) & (mean[1:] <= 0))
    names = ("above", "below", "above_difference", "below_difference")
    found: list[float | None] = [None] * len(names)
    if falls.size:
        first, second = falls[-1], falls[-1] + 1
        found = [float(x) for x in (at[first], at[second], mean[first], mean[second])]
    return pl.DataFrame([found], schema=dict.fromkeys(names, pl.Float64), orient="row")
