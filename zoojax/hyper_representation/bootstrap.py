"""Bootstrap over members: intervals of R2 and Kendall's tau, paired between predictions.

States of one member are not independent, so members are resampled with all of their states. All
figures of the same members use the same resamples, so their differences are paired. Resamples of
R2 and tau are computed from sums per member and per pair of members.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zoojax.analysis.rank_correlation import kendall

Floats = NDArray[np.floating]

RESAMPLES = 1000
# Intervals of fewer members are not reported: resamples of a few members vary too little.
MIN_MEMBERS = 10
_SEED = 0
_INTERVAL = (2.5, 97.5)
# Smaller relative differences are rounding errors.
_ROUNDING = 1e-12


class Estimate(NamedTuple):
    """A figure of members, with its resamples.

    Attributes:
        value: The figure of all members; None if it is undefined.
        samples: Of each resample, NaN where it is undefined, [RESAMPLES]; empty for fewer than
            MIN_MEMBERS members.
    """

    value: float | None
    samples: Floats

    @property
    def interval(self) -> tuple[float | None, float | None]:
        """The 95 % percentile interval; (None, None) if it is unknown."""
        samples = self.samples[np.isfinite(self.samples)]
        if self.value is None or not len(samples):
            return None, None
        low, high = np.percentile(samples, _INTERVAL)
        return float(low), float(high)

    def minus(self, other: "Estimate") -> "Estimate":
        """The difference to a figure of the same members and resamples."""
        if self.value is None or other.value is None:
            return UNKNOWN
        return Estimate(self.value - other.value, self.samples - other.samples)

    def columns(self, name: str) -> dict[str, float | None]:
        """The figure and the ends of its interval, by the names of `interval_columns`."""
        return dict(zip(interval_columns(name), (self.value, *self.interval), strict=True))


UNKNOWN = Estimate(None, np.empty(0))


def interval_columns(name: str) -> tuple[str, str, str]:
    """Returns the names of the columns of a figure and the ends of its interval."""
    return name, f"{name}_low", f"{name}_high"


class MemberBootstrap:
    """Resamples of some members, the same for every figure of them.

    Attributes:
        counts: How often each member is in each resample, [RESAMPLES, members]; no rows for fewer
            than MIN_MEMBERS members.

    Example:
        >>> bootstrap = MemberBootstrap([0, 0, 1, 1])  # two states of two members
        >>> bootstrap.r2(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0, 2.0])).value
        0.8
    """

    def __init__(self, members: Sequence[int] | np.ndarray):
        """Draws the resamples.

        Args:
            members: Member of each state, [n]. States with the same member are resampled together.
        """
        distinct, self._member = np.unique(np.asarray(members), return_inverse=True)
        size = len(distinct)
        resamples = RESAMPLES if size >= MIN_MEMBERS else 0
        rng = np.random.default_rng(_SEED)
        self.counts = rng.multinomial(size, np.full(size, 1 / size), resamples).astype(np.float64)
        # States by member, and where each member's begin.
        self._order = np.argsort(self._member, kind="stable")
        self._starts = np.searchsorted(self._member[self._order], np.arange(size))

    def sums(self, values: Floats) -> Floats:
        """Adds the rows of each member's states: [n, columns] to [members, columns]."""
        return np.add.reduceat(values[self._order], self._starts, axis=0)

    def r2(self, true: Floats, predicted: Floats) -> Estimate:
        """R2 of predictions: 1 - SSE/SST, with SST about the mean of the resampled states.

        Args:
            true: [n].
            predicted: [n].
        """
        # Centered, to avoid cancellation between large squares.
        values, errors = true - true.mean(), predicted - true
        return self.r2_of_sums([self.sums(squares(values[:, None], errors[:, None]))])

    def r2_of_sums(self, sums: Sequence[Floats]) -> Estimate:
        """R2 of values in groups that each have their own mean, such as layers.

        Args:
            sums: For each group the columns of `squares`, summed by member, [members, 4].
        """
        value = _r2(sums, np.ones((1, len(self._starts))))[0]
        return Estimate(float(value) if np.isfinite(value) else None, _r2(sums, self.counts))

    def kendall(self, true: Floats, predicted: Floats) -> Estimate:
        """Kendall's tau-b; undefined if either is constant, except for rounding.

        With w the number of times that each state was drawn, the pairs of a resample are the
        quadratic form w' S w of a sign matrix S (see `rank_correlation.resampled_kendall`). Since w
        is the same for all states of a member, S is first summed over pairs of members.

        Args:
            true: [n].
            predicted: [n].
        """
        largest = max(np.ptp(true), np.abs(predicted).max())
        if np.ptp(true) == 0 or np.ptp(predicted) <= _ROUNDING * largest:
            return UNKNOWN
        concordant, pairs, predicted_pairs = (
            np.einsum("rm,rm->r", self.counts @ each, self.counts)
            for each in self._pairs(true, predicted)
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            samples = concordant / np.sqrt(pairs * predicted_pairs)
        return Estimate(kendall(true, predicted), samples)

    def _pairs(self, true: Floats, predicted: Floats) -> tuple[Floats, Floats, Floats]:
        """Sums over the states of two members, [members, members] each: concordant minus
        discordant pairs, and pairs that are not tied in the true and in the predicted values.
        """
        size = len(self._starts)
        result = np.zeros((3, size, size))
        x, y = true[self._order], predicted[self._order]
        for row, rows in enumerate(np.split(np.arange(len(x)), self._starts[1:])):
            sign_x, sign_y = _signs(x[rows], x), _signs(y[rows], y)
            for out, signs in zip(
                result, (sign_x * sign_y, np.abs(sign_x), np.abs(sign_y)), strict=True
            ):
                out[row] = np.add.reduceat(signs.sum(axis=0, dtype=np.int64), self._starts)
        return result[0], result[1], result[2]


def _signs(x: Floats, y: Floats) -> NDArray[np.int8]:
    """The sign of all differences: [n] and [m] to [n, m]."""
    return (x[:, None] > y).view(np.int8) - (x[:, None] < y).view(np.int8)


def squares(values: Floats, errors: Floats) -> Floats:
    """Computes sums from which R2 follows.

    Args:
        values: True values, [n, values].
        errors: Errors of their predictions, [n, values].

    Returns:
        [n, 4] float64: count, sum, sum of squares, and sum of squared errors.
    """
    wide, errors = values.astype(np.float64), errors.astype(np.float64)
    count = np.full(len(wide), float(wide.shape[1]))
    sums = [count, wide.sum(axis=1), np.square(wide).sum(axis=1), np.square(errors).sum(axis=1)]
    return np.stack(sums, axis=1)


def _r2(sums: Sequence[Floats], counts: Floats) -> Floats:
    """R2 of each resample; NaN for constant values."""
    variation, error = np.zeros(len(counts)), np.zeros(len(counts))
    for each in sums:
        number, total, square, squared_errors = (counts @ each).T
        about_mean = square - total**2 / number
        # Rounding can leave a constant with a tiny sum of squares.
        variation += np.where(about_mean > _ROUNDING * square, about_mean, 0)
        error += squared_errors
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(variation > 0, 1 - error / variation, np.nan)
