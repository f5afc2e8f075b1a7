"""Predicts properties by gradient boosting of trees on statistics of each layer.

As Unterthiner et al., "Predicting Neural Network Accuracy from Weights", 2020, with the histogram
trees of scikit-learn.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

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
        # Imported here because importing scikit-learn takes seconds; its threads can be limited
        # only after it was loaded.
        from sklearn.ensemble import HistGradientBoostingRegressor as Model

        columns = zip(*(part.T for part in targets[:2]), strict=True)
        # Several threads would wait for each other most of the time: the trees are small.
        with threadpool_limits(1, user_api="openmp"):
            fitted = [self._fit(Model, inputs, *each) for each in columns]
        return Prediction(np.stack(fitted, axis=1))

    def _fit(
        self, create: Callable[..., Any], inputs: SplitArrays, train: Floats, val: Floats
    ) -> Floats:
        """Predicts one target of the test split, [n]."""
        lowest, best = np.inf, np.full(len(inputs.test), train.mean())
        for leaves in LEAVES:
            model = create(
                max_iter=_ROUNDS,
                learning_rate=_LEARNING_RATE,
                max_leaf_nodes=leaves,
                early_stopping=False,
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
