"""Predicts each property by its mean over the training members at the same epoch."""

import numpy as np

from zoojax.hyper_representation.predictors import BLOCKS, Prediction, Predictor, SplitArrays


class BlockMean(Predictor):
    """The mean of the training states of the same block.

    A block is an epoch of the zoo. Predictions that are not better know no more of a member than
    its epoch.
    """

    name = "mean of each epoch"
    inputs = BLOCKS
    known = ("epoch",)

    def predict(self, inputs: SplitArrays, targets: SplitArrays) -> Prediction:
        """Predicts the mean of the training states of each test state's block.

        Args:
            inputs: Number of the block of each state, [n, 1] integers.
            targets: [n, targets] per split.
        """
        result = np.empty_like(targets.test)
        for block in np.unique(inputs.test):
            train = targets.train[inputs.train[:, 0] == block]
            result[inputs.test[:, 0] == block] = train.mean(axis=0)
        return Prediction(result)
