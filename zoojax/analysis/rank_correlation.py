"""Does who is good before sparsification stay good after it?"""

from typing import Any

import numpy as np
import polars as pl
import scipy.stats

from zoojax.analysis.pairing import finite_rows, group_by_population, paired_metrics
from zoojax.storage.zoo import Zoo

RESAMPLES = 1000
_INTERVAL = (2.5, 97.5)
# Fewer say nothing about a correlation.
MIN_MEMBERS = 3


def correlation(zoo: Zoo, twin: Zoo, *, resamples: int = RESAMPLES, seed: int = 0) -> pl.DataFrame:
    """Correlation of test accuracy before and after sparsification (Table 2 of the paper).

    Args:
        zoo: the dense zoo.
        twin: its twin.
        resamples: bootstrap samples of members.
        seed: of the bootstrap.

    Returns:
        A row a pruning ratio (null under variational dropout) and epoch: mean `sparsity`,
        `members`, `diverged`, Pearson's r `pearson` and Kendall's tau-b `kendall`, each
        with the 95 % percentile interval of the bootstrap, `<name>_low` and `<name>_high`.
        Null where fewer than three members are left, or all are equally accurate.

    Raises:
        ZoojaxError: it is no twin of this zoo.
    """
    rows = []
    for ratio, epoch, table in group_by_population(paired_metrics(zoo, twin)):
        good = finite_rows(table)
        before, after = good["dense_acc"].to_numpy(), good["test_acc"].to_numpy()
        rows.append(
            {
                "ratio": ratio,
                "epoch": epoch,
                "sparsity": good["sparsity"].mean(),
                "members": len(table),
                "diverged": len(table) - len(good),
                **coefficients(before, after, resamples, seed),
            }
        )
    numbers = [f"{name}{end}" for name in ("pearson", "kendall") for end in ("", "_low", "_high")]
    schema = {"ratio": pl.Float64, "epoch": pl.Int64, "sparsity": pl.Float64}
    schema |= {"members": pl.Int64, "diverged": pl.Int64} | dict.fromkeys(numbers, pl.Float64)
    return pl.DataFrame(rows, schema=schema)


def coefficients(
    x: np.ndarray, y: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, float | None]:
    """Pearson's r and Kendall's tau-b of paired samples [n], with bootstrap intervals.

    Without resamples the intervals are null.
    """
    names = [f"{name}{end}" for name in ("pearson", "kendall") for end in ("", "_low", "_high")]
    if len(x) < MIN_MEMBERS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return dict.fromkeys(names)
    times = np.random.default_rng(seed).multinomial(len(x), np.full(len(x), 1 / len(x)), resamples)
    found: dict[str, float | None] = {}
    for name, value, samples in (
        ("pearson", _pearson(x, y), resampled_pearson(x, y, times)),
        ("kendall", kendall(x, y), resampled_kendall(x, y, times)),
    ):
        # A sample of one member again and again has no correlation.
        ends = np.nanpercentile(samples, _INTERVAL).tolist() if resamples else (None, None)
        found |= {name: value, f"{name}_low": ends[0], f"{name}_high": ends[1]}
    return found


def kendall(x: np.ndarray, y: np.ndarray) -> float:
    """Kendall's tau-b of paired samples [n]; NaN where either does not vary."""
    result: Any = scipy.stats.kendalltau(x, y)
    return float(result.statistic)


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    result: Any = scipy.stats.pearsonr(x, y)
    return float(result.statistic)


def resampled_pearson(x: np.ndarray, y: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Pearson's r of resamples.

    Args:
        x: [n].
        y: [n].
        times: [resamples, n], how often each pair was drawn.

    Returns:
        [resamples]; NaN where a resample does not vary.
    """
    share = times / times.sum(axis=1, keepdims=True)

    def covariance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        # Around the sample's mean, lest little variance be lost in large squares.
        a, b = a - a.mean(), b - b.mean()
        return share @ (a * b) - (share @ a) * (share @ b)

    # Asked of the numbers themselves: rounding leaves some variance where there is none.
    varies = _varies(x, times) & _varies(y, times)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt(np.maximum(covariance(x, x) * covariance(y, y), 0))
        return np.where(varies, np.clip(covariance(x, y) / spread, -1, 1), np.nan)


def _varies(x: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Which resamples [resamples, n] hold more than one value of x [n]."""
    drawn = times > 0
    return np.where(drawn, x, np.inf).min(axis=1) < np.where(drawn, x, -np.inf).max(axis=1)


def resampled_kendall(x: np.ndarray, y: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of resamples, all in three matrix products.

    With w how often each pair was drawn, the concordant less the discordant pairs of a
    resample are the quadratic form of sign(x_i - x_j) sign(y_i - y_j) in w, and the pairs
    that are not tied in x that of |sign(x_i - x_j)|: copies of one pair are tied.

    Args:
        x: [n].
        y: [n].
        times: [resamples, n], how often each pair was drawn.

    Returns:
        [resamples]; NaN where a resample does not vary.
    """
    sign_x, sign_y = (np.sign(v[:, None] - v[None, :]).astype(np.float32) for v in (x, y))
    drawn = times.astype(np.float32)

    def form(matrix: np.ndarray) -> np.ndarray:
        return np.einsum("rn,rn->r", drawn @ matrix, drawn, dtype=np.float64)

    with np.errstate(invalid="ignore", divide="ignore"):
        pairs_x, pairs_y = form(np.abs(sign_x)), form(np.abs(sign_y))
        return form(sign_x * sign_y) / np.sqrt(pairs_x * pairs_y)
