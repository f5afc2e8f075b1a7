"""Predicts properties by gradient boosting of trees on statistics of each layer.

As Unterthiner et al., "Predicting Neural Network Accuracy from Weights", 2020, with the histogram
trees of scikit-learn.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from zoojax.hyper_representation.predictors import (
    STATISTICS,
    Floats,
    Prediction,
    Predictor,
    SplitArrays,
)

# Largest trees that are tried.
LEAVES = (4, 12)
_ROUNDS, _LEARNING_RATE = 200, 0.08


@dataclass(frozen=True)
class Boosting(Predictor):
    """Gradient boosting.

    The number of trees and their size are chosen on the validation split, per property.

    Attributes:
        seed: Seed of the trees.
    """

    seed: int
    name = f"{STATISTICS}, gradient boosting"
    inputs = STATISTICS

    def predict(self, inputs: SplitArrays, targets: SplitArrays) -> Prediction:
        """Fits one model per target.

        Args:
            inputs: [n, features] per split.
            targets: [n, targets] per split.
        """
        columns = zip(*(part.T for part in targets[:2]), strict=True)
        return Prediction(np.stack([self._fit(inputs, *each) for each in columns], axis=1))

    def _fit(self, inputs: SplitArrays, train: Floats, val: Floats) -> Floats:
        """Predicts one target of the test split, [n]."""
        # Imported here because importing scikit-learn takes seconds.
        from sklearn.ensemble import HistGradientBoostingRegressor

        lowest, best = np.inf, np.full(len(inputs.test), train.mean())
        for leaves in LEAVES:
            model: Any = HistGradientBoostingRegressor(
                max_iter=_ROUNDS,
                learning_rate=_LEARNING_RATE,
                max_leaf_nodes=leaves,
                early_stopping=cast(Any, False),
                random_state=self.seed,
            ).fit(inputs.train, train)
            stages = zip(
                model.staged_predict(inputs.val), model.staged_predict(inputs.test), strict=True
            )
            for on_val, on_test in stages:
                error = np.square(on_val - val).mean()
                if error < lowest:
                    # The same array changes with every stage.
                    lowest, best = error, on_test.copy()
        return best
