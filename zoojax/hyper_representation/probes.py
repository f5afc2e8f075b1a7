"""Ridge probes that predict member properties from features, in float64.

The penalty is selected on the validation split. One eigendecomposition of the smaller Gram matrix
(of features or of samples) is shared by all penalties and properties.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from zoojax.hyper_representation.predictors import Floats, Prediction, Predictor, SplitArrays

# Ridge penalties, relative to a mean squared error on standardized features.
PENALTIES = np.logspace(-8, 6, 29)
# Rows or columns converted to float64 at a time.
_BLOCK = 1024


class Ridge(Predictor):
    """Ridge regression."""

    def __init__(self, features: str):
        """Names the features.

        Args:
            features: Name of the features, also in tables.
        """
        self.name = self.inputs = features

    def predict(self, inputs: SplitArrays, targets: SplitArrays) -> Prediction:
        """Fits a ridge regression of each target on the features.

        Args:
            inputs: [n, features] per split, of any float type. They are standardized with the
                statistics of the training split; features that are constant there are dropped.
            targets: [n, targets] float64 per split.

        Returns:
            Predictions with the element of PENALTIES that has the lowest validation error.
        """
        standardizer = _Standardizer.fit(inputs.train)
        center = targets.train.mean(axis=0)
        coefficients = _coefficients(standardizer, inputs.train, targets.train - center)
        val, test = (
            standardizer.matmul(x, coefficients) + center for x in (inputs.val, inputs.test)
        )
        best = np.square(val - targets.val[:, None]).mean(axis=0).argmin(axis=0)
        chosen = np.stack([test[:, i, column] for column, i in enumerate(best)], axis=1)
        return Prediction(chosen, PENALTIES[best].tolist())


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
