"""What features of members tell of their properties: ridge probes, in float64.

The penalty is chosen on the validation split and the result measured on the test split.
One eigendecomposition of the smaller Gram matrix, of features or of samples, serves every
penalty and every property.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl
import scipy.linalg
from numpy.typing import NDArray

from zoojax.analysis.rank_correlation import kendall
from zoojax.hyper_representation.dataset import PROPERTIES

Floats = NDArray[np.floating]

# Weights of the squared coefficients beside a mean squared error, the features standardised.
PENALTIES = np.logspace(-8, 6, 29)
# Rows or columns that are in float64 at once.
_BLOCK = 1024


class Parts(NamedTuple):
    """Arrays [n, columns] by part of the split."""

    train: Floats
    val: Floats
    test: Floats


class Probe(NamedTuple):
    """How well a property is told.

    Attributes:
        r2: on the test split, 1 - SSE/SST about its own mean.
        tau: Kendall's tau-b of prediction and truth there; None where either is constant.
        penalty: the chosen one of PENALTIES.
    """

    r2: float
    tau: float | None
    penalty: float


def probe(features: Parts, targets: Parts) -> list[Probe | None]:
    """Ridge regression of every target on the features.

    Args:
        features: [n, features] each, of any float type; standardised as the training split
            is, what does not vary there left out.
        targets: [n, targets] each.

    Returns:
        One for each target; None for a target that is not finite, or does not vary in the
        training or the test split.
    """
    y = Parts(*(np.asarray(part, np.float64) for part in targets))
    told = np.all([np.isfinite(part).all(axis=0) for part in y], axis=0)
    told &= (np.ptp(y.train, axis=0) > 0) & (np.ptp(y.test, axis=0) > 0)
    if not told.any():
        return [None] * len(told)
    scale = _Scale.of(features.train)
    center = y.train[:, told].mean(axis=0)
    coefficients = _coefficients(scale, features.train, y.train[:, told] - center)
    guesses = [scale.times(x, coefficients) + center for x in (features.val, features.test)]
    found = iter(
        _chosen(guesses[0][..., i], guesses[1][..., i], y.val[:, j], y.test[:, j])
        for i, j in enumerate(np.flatnonzero(told))
    )
    return [next(found) if one else None for one in told]


def _chosen(of_val: Floats, of_test: Floats, val: Floats, test: Floats) -> Probe:
    """The probe of the penalty that errs least on validation; guesses are [n, penalties]."""
    best = int(np.argmin(np.square(of_val - val[:, None]).mean(axis=0)))
    guess = of_test[:, best]
    r2 = 1 - np.square(guess - test).sum() / np.square(test - test.mean()).sum()
    tau = kendall(test, guess) if np.ptp(guess) > 0 else None
    return Probe(float(r2), tau, float(PENALTIES[best]))


def probe_table(features: dict[str, Parts], targets: Parts) -> pl.DataFrame:
    """Probes of every property from every kind of features.

    Args:
        features: by their name.
        targets: [n, properties] each, columns as in PROPERTIES.

    Returns:
        A row a kind of features and property: `features`, `property`, `r2`, `tau` and
        `lambda` (the penalty); null where the property does not vary.
    """
    rows = []
    for name, parts in features.items():
        for what, found in zip(PROPERTIES, probe(parts, targets), strict=True):
            rows.append((name, what, *(found or (None, None, None))))
    schema = {"features": pl.String, "property": pl.String}
    schema |= dict.fromkeys(("r2", "tau", "lambda"), pl.Float64)
    return pl.DataFrame(rows, schema=schema, orient="row")


class _Scale(NamedTuple):
    """Mean and deviation of the features that vary, [varying]; which do, [features]."""

    mean: Floats
    deviation: Floats
    varying: NDArray[np.bool_]

    @staticmethod
    def of(x: Floats) -> "_Scale":
        mean, deviation = np.empty(x.shape[1]), np.empty(x.shape[1])
        for columns in _slices(x.shape[1]):
            part = x[:, columns].astype(np.float64)
            mean[columns], deviation[columns] = part.mean(axis=0), part.std(axis=0)
        # What rounding leaves of a constant is no variance.
        varying = deviation > 1e-12 * np.abs(mean)
        return _Scale(mean[varying], deviation[varying], varying)

    def apply(self, x: Floats) -> Floats:
        """Rows, standardised, in float64."""
        return (x[:, self.varying].astype(np.float64) - self.mean) / self.deviation

    def columns(self, x: Floats) -> Iterator[Floats]:
        """Blocks of columns, standardised, in float64."""
        index = np.flatnonzero(self.varying)
        for some in _slices(len(index)):
            part = x[:, index[some]].astype(np.float64)
            yield (part - self.mean[some]) / self.deviation[some]

    def times(self, x: Floats, coefficients: Floats) -> Floats:
        """Standardised rows times coefficients [varying, penalties, targets]: [n, ...]."""
        flat = coefficients.reshape(len(coefficients), PENALTIES.size * coefficients.shape[2])
        parts = [self.apply(x[rows]) @ flat for rows in _slices(len(x))]
        return np.concatenate(parts).reshape(len(x), *coefficients.shape[1:])


def _coefficients(scale: _Scale, x: Floats, y: Floats) -> Floats:
    """Of all penalties: [varying, penalties, targets] of features [n, d], targets [n, t]."""
    n, varying = len(x), len(scale.mean)
    if varying <= n:
        gram, moments = np.zeros((varying, varying)), np.zeros((varying, y.shape[1]))
        for rows in _slices(n):
            part = scale.apply(x[rows])
            gram += part.T @ part / n
            moments += part.T @ y[rows] / n
        return _solved(gram, moments)
    # Fewer samples than features: the coefficients are combinations of samples.
    gram = np.zeros((n, n))
    for part in scale.columns(x):
        gram += part @ part.T / n
    weights = _solved(gram, y / n)
    flat = weights.reshape(n, -1)
    whole = np.concatenate([part.T @ flat for part in scale.columns(x)])
    return whole.reshape(-1, *weights.shape[1:])


def _solved(gram: Floats, y: Floats) -> Floats:
    """(gram + penalty)^-1 y of every penalty: [n, penalties, targets]."""
    values, vectors = scipy.linalg.eigh(gram, driver="evd", overwrite_a=True, check_finite=False)
    shrunk = (vectors.T @ y)[:, None] / (values[:, None, None] + PENALTIES[:, None])
    return (vectors @ shrunk.reshape(len(y), PENALTIES.size * y.shape[1])).reshape(shrunk.shape)


def _slices(size: int) -> Iterator[slice]:
    for first in range(0, size, _BLOCK):
        yield slice(first, first + _BLOCK)
