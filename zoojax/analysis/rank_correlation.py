"""Correlation of accuracy before and after sparsification, with bootstrap intervals."""

from typing import Any

import numpy as np
import polars as pl
import scipy.stats

from zoojax.analysis.pairing import finite_rows, group_by_population, paired_metrics
from zoojax.storage.zoo import Zoo

RESAMPLES = 1000
_INTERVAL = (2.5, 97.5)
# Correlations of fewer members are not reported: their intervals cover most of [-1, 1].
MIN_MEMBERS = 20
# Values of column `remark`, which explains values that are missing.
TOO_FEW = "too few members"
ALL_EQUAL = "all values are equal"
COEFFICIENTS = [f"{name}{end}" for name in ("pearson", "kendall") for end in ("", "_low", "_high")]


def correlation(zoo: Zoo, twin: Zoo, *, resamples: int = RESAMPLES, seed: int = 0) -> pl.DataFrame:
    """Correlation of test accuracy before and after sparsification (Table 2 of the paper).

    Args:
        zoo: the dense zoo.
        twin: its twin.
        resamples: number of bootstrap resamples of the members.
        seed: seed of the bootstrap.

    Returns:
        One row per pruning ratio (null for twins without ratios) and epoch: mean `sparsity`,
        `members`, `diverged`, Pearson's r `pearson` and Kendall's tau-b `kendall`, each with
        its 95 % bootstrap percentile interval, `<name>_low` and `<name>_high`. They are null if
        fewer than 20 members are finite, or all are equally accurate; then `remark` is
        "too few members" or "all values are equal", else it is null.

    Raises:
        ZoojaxError: it is not a twin of this zoo.
    """
    rows = []
    for ratio, epoch, table in group_by_population(paired_metrics(zoo, twin)):
        rows_used = finite_rows(table)
        before, after = rows_used["dense_acc"].to_numpy(), rows_used["test_acc"].to_numpy()
        rows.append(
            {
                "ratio": ratio,
                "epoch": epoch,
                "sparsity": rows_used["sparsity"].mean(),
                "members": len(table),
                "diverged": len(table) - len(rows_used),
                **coefficients(before, after, resamples, seed),
            }
        )
    schema = {"ratio": pl.Float64, "epoch": pl.Int64, "sparsity": pl.Float64}
    schema |= {"members": pl.Int64, "diverged": pl.Int64} | dict.fromkeys(COEFFICIENTS, pl.Float64)
    return pl.DataFrame(rows, schema=schema | {"remark": pl.String})


def coefficients(
    x: np.ndarray,
    y: np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = 0,
    members: np.ndarray | None = None,
) -> dict[str, Any]:
    """Pearson's r and Kendall's tau-b of paired samples, with bootstrap intervals.

    Args:
        x: [n].
        y: [n].
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.
        members: the member of each sample, [n]; members are drawn with all their samples. If None,
            each sample belongs to a separate member.

    Returns:
        The coefficients, the ends of their intervals, and `remark`, by column name, as in
        `correlation`.
    """
    count, member = len(x), np.arange(len(x))
    if members is not None:
        distinct, member = np.unique(members, return_inverse=True)
        count = len(distinct)
    remark = missing_value(count, MIN_MEMBERS, x, y)
    if remark:
        return {**dict.fromkeys(COEFFICIENTS), "remark": remark}
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)
    counts = draws[:, member]
    result: dict[str, Any] = {}
    for name, value, samples in (
        ("pearson", _pearson(x, y), resampled_pearson(x, y, counts)),
        ("kendall", kendall(x, y), resampled_kendall(x, y, counts)),
    ):
        # Degenerate resamples (one distinct member) are NaN.
        low, high = np.nanpercentile(samples, _INTERVAL).tolist()
        result |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return {**result, "remark": None}


def missing_value(members: int, needed: int, *values: np.ndarray) -> str | None:
    """Why a statistic of members is missing: too few members, or equal values.

    Args:
        members: number of members.
        needed: smallest number of members from which it is reported.
        values: the members' values, each [members].

    Returns:
        `TOO_FEW`, `ALL_EQUAL`, or None if nothing is missing.
    """
    if members < needed:
        return TOO_FEW
    return ALL_EQUAL if any(np.ptp(each) == 0 for each in values) else None


def kendall(x: np.ndarray, y: np.ndarray) -> float:
    """Kendall's tau-b of paired samples [n]; NaN if either is constant."""
    result: Any = scipy.stats.kendalltau(x, y)
    return float(result.statistic)


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    result: Any = scipy.stats.pearsonr(x, y)
    return float(result.statistic)


def resampled_pearson(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Pearson's r of resamples.

    Args:
        x: [n].
        y: [n].
        counts: [resamples, n], how often each pair was drawn.

    Returns:
        [resamples]; NaN for constant resamples.
    """
    weights = counts / counts.sum(axis=1, keepdims=True)

    def covariance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        # Centered first, to avoid cancellation between large squares.
        a, b = a - a.mean(), b - b.mean()
        return weights @ (a * b) - (weights @ a) * (weights @ b)

    # Tested on the values themselves: rounding leaves a tiny variance in constant resamples.
    varies = _varies(x, counts) & _varies(y, counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.sqrt(np.maximum(covariance(x, x) * covariance(y, y), 0))
        return np.where(varies, np.clip(covariance(x, y) / scale, -1, 1), np.nan)


def _varies(x: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Which resamples hold more than one distinct value of x [n], [resamples] bool."""
    drawn = counts > 0
    return np.where(drawn, x, np.inf).min(axis=1) < np.where(drawn, x, -np.inf).max(axis=1)


def resampled_kendall(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of all resamples, in three matrix products.

    Let w be how often each pair was drawn. The number of concordant minus discordant pairs of
    a resample is the quadratic form w' S w with S_ij = sign(x_i - x_j) sign(y_i - y_j), and
    the number of pairs not tied in x is that with |sign(x_i - x_j)|; copies of one pair are
    tied.

    Args:
        x: [n].
        y: [n].
        counts: [resamples, n], how often each pair was drawn.

    Returns:
        [resamples]; NaN for constant resamples.
    """
    sign_x, sign_y = (np.sign(v[:, None] - v[None, :]).astype(np.float32) for v in (x, y))
    drawn = counts.astype(np.float32)

    def quadratic_form(matrix: np.ndarray) -> np.ndarray:
        return np.einsum("rn,rn->r", drawn @ matrix, drawn, dtype=np.float64)

    with np.errstate(invalid="ignore", divide="ignore"):
        pairs_x, pairs_y = quadratic_form(np.abs(sign_x)), quadratic_form(np.abs(sign_y))
        return quadratic_form(sign_x * sign_y) / np.sqrt(pairs_x * pairs_y)
