"""Confidence intervals of means over members or pairs of members."""

import numpy as np
import scipy.stats

# Fewer values have Student's intervals, since bootstrap intervals would be too narrow.
MIN_BOOTSTRAP = 20
_RESAMPLES = 1000


def mean_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Computes the 95 % interval of a mean.

    Args:
        values: Two or more finite values, [n].
        seed: Seed of the bootstrap.

    Returns:
        (low, high): bootstrap (BCa) for 20 values or more, else Student's t. Both are the value
        itself if all values are equal.
    """
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    if len(values) < MIN_BOOTSTRAP:
        error = scipy.stats.sem(values)
        low, high = scipy.stats.t.interval(0.95, len(values) - 1, values.mean(), error)
        return float(low), float(high)
    interval = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=_RESAMPLES, rng=np.random.default_rng(seed)
    ).confidence_interval
    return float(interval.low), float(interval.high)
