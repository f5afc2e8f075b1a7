"""Wilcoxon's signed-rank test, and Holm's correction of several tests.

Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", 2006, recommends the test
for comparisons of methods: it does not assume normal differences.
"""

import math

import numpy as np
import scipy.stats

# The exact distribution is computed for up to this many differences other than zero.
_MAX_EXACT = 50


def signed_rank_test(differences: np.ndarray) -> float:
    """Tests whether paired differences are symmetric around zero.

    Zeros are ranked, but not counted (Pratt, 1959); equal magnitudes share their mean rank. The
    distribution of the sum of positive ranks is exact for up to 50 differences other than zero,
    else normal.

    Args:
        differences: Paired differences, [n], finite.

    Returns:
        The two-sided p-value; 1 if all differences are zero.

    Example:
        >>> signed_rank_test(np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
        0.0625
        >>> signed_rank_test(np.zeros(5))
        1.0
    """
    ranks = scipy.stats.rankdata(np.abs(differences))
    ranks, positive = ranks[differences != 0], (differences > 0)[differences != 0]
    if not ranks.size:
        return 1.0
    total, half = float(ranks[positive].sum()), float(ranks.sum()) / 2
    if len(ranks) > _MAX_EXACT:
        z = (abs(total - half) - 0.25) / math.sqrt(float((ranks**2).sum()) / 4)
        return float(min(1, 2 * scipy.stats.norm.sf(max(z, 0))))
    # Mean ranks are multiples of a half.
    doubled = np.rint(2 * ranks).astype(int)
    chances = np.zeros(doubled.sum() + 1)
    chances[0] = 1
    for rank in doubled:
        chances[rank:] = (chances[rank:] + chances[: len(chances) - rank]) / 2
        chances[:rank] /= 2
    extreme = np.abs(np.arange(len(chances)) - 2 * half) >= abs(2 * total - 2 * half) - 1e-9
    return float(min(1, chances[extreme].sum()))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Corrects p-values of several tests, so that they control the family-wise error rate.

    Holm, "A simple sequentially rejective multiple test procedure", 1979.

    Args:
        p_values: [n].

    Returns:
        [n]: corrected p-values, in the same order.

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.minimum(1, np.maximum.accumulate(p_values[order] * factors))
    result = np.empty(len(p_values))
    result[order] = corrected
    return result


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """Computes the 95 % interval of a mean, Student's t.

    Args:
        values: [n], finite, n of 2 or more.

    Returns:
        Its ends.

    Example:
        >>> mean_interval(np.array([1.0, 1.0]))
        (1.0, 1.0)
    """
    mean = float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    width = float(scipy.stats.t.ppf(0.975, len(values) - 1)) * error
    return mean - width, mean + width
