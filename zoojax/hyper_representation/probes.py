"""Ridge probes that predict member properties from features, in float64.

The penalty is selected on the validation split and R2 is measured on the test split. One
eigendecomposition of the smaller Gram matrix (of features or of samples) is shared by all
penalties and properties.
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

# Ridge penalties, relative to a mean squared error on standardized features.
PENALTIES = np.logspace(-8, 6, 29)
# Rows or columns converted to float64 at a time.
_BLOCK = 1024


class SplitArrays(NamedTuple):
    """Arrays [n, columns] of the training, validation and test split."""

    train: Floats
    val: Floats
    test: Floats


class Probe(NamedTuple):
    """Quality of the probe of one property.

    Attributes:
        r2: 1 - SSE/SST on the test split, with SST about the mean of the test split.
        tau: Kendall's tau-b between predictions and targets on the test split; None if either
            is constant.
        penalty: The selected element of PENALTIES.
    """

    r2: float
    tau: float | None
    penalty: float


def fit_probes(features: SplitArrays, targets: SplitArrays) -> list[Probe | None]:
    """Fits a ridge regression of each target on the features.

    Args:
        features: [n, features] per split, of any float type. They are standardized with the
            statistics of the training split; features that are constant there are dropped.
        targets: [n, targets] per split.

    Returns:
        One probe per target; None for targets that are not finite, or are constant on the
        training or the test split.
    """
    y = SplitArrays(*(np.asarray(part, np.float64) for part in targets))
    valid = np.all([np.isfinite(part).all(axis=0) for part in y], axis=0)
    valid &= (np.ptp(y.train, axis=0) > 0) & (np.ptp(y.test, axis=0) > 0)
    if not valid.any():
        return [None] * len(valid)
    standardizer = _Standardizer.fit(features.train)
    center = y.train[:, valid].mean(axis=0)
    coefficients = _coefficients(standardizer, features.train, y.train[:, valid] - center)
    val, test = (
        standardizer.matmul(x, coefficients) + center for x in (features.val, features.test)
    )
    probes = iter(
        _select_penalty(val[..., i], test[..., i], y.val[:, column], y.test[:, column])
        for i, column in enumerate(np.flatnonzero(valid))
    )
    return [next(probes) if ok else None for ok in valid]


def _select_penalty(
    val_predictions: Floats, test_predictions: Floats, val: Floats, test: Floats
) -> Probe:
    """Returns the probe of the penalty with the lowest validation error.

    Args:
        val_predictions: [n, penalties].
        test_predictions: [n, penalties].
        val: Targets, [n].
        test: Targets, [n].
    """
    best = int(np.argmin(np.square(val_predictions - val[:, None]).mean(axis=0)))
    predicted = test_predictions[:, best]
    r2 = 1 - np.square(predicted - test).sum() / np.square(test - test.mean()).sum()
    tau = kendall(test, predicted) if np.ptp(predicted) > 0 else None
    return Probe(float(r2), tau, float(PENALTIES[best]))


def probe_table(features: dict[str, SplitArrays], targets: SplitArrays) -> pl.DataFrame:
    """Fits probes of all properties on each kind of features.

    Args:
        features: Features by name.
        targets: [n, properties], with the columns of PROPERTIES.

    Returns:
        One row per kind of features and property: `features`, `property`, `r2`, `tau` and
        `lambda` (the penalty); null if the property is constant.
    """
    rows = []
    for name, parts in features.items():
        for target, result in zip(PROPERTIES, fit_probes(parts, targets), strict=True):
            rows.append((name, target, *(result or (None, None, None))))
    schema = {"features": pl.String, "property": pl.String}
    schema |= dict.fromkeys(("r2", "tau", "lambda"), pl.Float64)
    return pl.DataFrame(rows, schema=schema, orient="row")


class _Standardizer(NamedTuple):
    """Standardizes features and drops constant ones.

    Attributes:
        mean: Means of the varying features, [varying].
        std: Standard deviations of the varying features, [varying].
        varying: Mask of the varying features, [features].
    """

    mean: Floats
    std: Floats
    varying: NDArray[np.bool_]

    @staticmethod
    def fit(x: Floats) -> "_Standardizer":
        mean, std = np.empty(x.shape[1]), np.empty(x.shape[1])
        for columns in _slices(x.shape[1]):
            part = x[:, columns].astype(np.float64)
            mean[columns], std[columns] = part.mean(axis=0), part.std(axis=0)
        # Rounding can leave a constant feature with a tiny standard deviation.
        varying = std > 1e-12 * np.abs(mean)
        return _Standardizer(mean[varying], std[varying], varying)

    def apply(self, x: Floats) -> Floats:
        """Returns standardized rows in float64."""
        return (x[:, self.varying].astype(np.float64) - self.mean) / self.std

    def columns(self, x: Floats) -> Iterator[Floats]:
        """Yields blocks of standardized columns in float64."""
        index = np.flatnonzero(self.varying)
        for block in _slices(len(index)):
            part = x[:, index[block]].astype(np.float64)
            yield (part - self.mean[block]) / self.std[block]

    def matmul(self, x: Floats, coefficients: Floats) -> Floats:
        """Multiplies standardized rows by coefficients [varying, penalties, targets]."""
        flat = coefficients.reshape(len(coefficients), PENALTIES.size * coefficients.shape[2])
        parts = [self.apply(x[rows]) @ flat for rows in _slices(len(x))]
        return np.concatenate(parts).reshape(len(x), *coefficients.shape[1:])


def _coefficients(standardizer: _Standardizer, x: Floats, y: Floats) -> Floats:
    """Computes the ridge coefficients for all penalties.

    Args:
        standardizer: Fitted to x.
        x: Features, [n, features].
        y: Centered targets, [n, targets].

    Returns:
        [varying, penalties, targets].
    """
    n, varying = len(x), len(standardizer.mean)
    if varying <= n:
        gram, moments = np.zeros((varying, varying)), np.zeros((varying, y.shape[1]))
        for rows in _slices(n):
            part = standardizer.apply(x[rows])
            gram += part.T @ part / n
            moments += part.T @ y[rows] / n
        return _ridge_solve(gram, moments)
    # With fewer samples than features, the coefficients are linear combinations of samples.
    gram = np.zeros((n, n))
    for part in standardizer.columns(x):
        gram += part @ part.T / n
    weights = _ridge_solve(gram, y / n)
    flat = weights.reshape(n, -1)
    coefficients = np.concatenate([part.T @ flat for part in standardizer.columns(x)])
    return coefficients.reshape(-1, *weights.shape[1:])


def _ridge_solve(gram: Floats, y: Floats) -> Floats:
    """Computes (gram + penalty)^-1 y for all penalties: [n, penalties, targets]."""
    values, vectors = scipy.linalg.eigh(gram, driver="evd", overwrite_a=True, check_finite=False)
    shrunk = (vectors.T @ y)[:, None] / (values[:, None, None] + PENALTIES[:, None])
    return (vectors @ shrunk.reshape(len(y), PENALTIES.size * y.shape[1])).reshape(shrunk.shape)


def _slices(size: int) -> Iterator[slice]:
    for first in range(0, size, _BLOCK):
        yield slice(first, first + _BLOCK)
