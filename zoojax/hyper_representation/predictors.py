"""The interface of predictors of member properties."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

# Names of arrays of features.
WEIGHTS, STATISTICS, BLOCKS = "weights", "layer statistics", "blocks"


class SplitArrays(NamedTuple):
    """Arrays [n, columns] of the training, validation and test split."""

    train: Floats
    val: Floats
    test: Floats


class Prediction(NamedTuple):
    """Predicted properties of the test split.

    Attributes:
        test: Finite predictions, [n, targets].
        penalties: The chosen penalty of each target; None for predictors without one.
    """

    test: Floats
    penalties: list[float] | None = None


class Predictor(ABC):
    """Base class of predictors of the properties of states.

    Predictors are fitted to the training split. Their hyperparameters are chosen on the validation
    split. Results depend on the data and on a seed only.

    Attributes:
        name: Name in tables: the features, and how properties are predicted from them.
        inputs: Name of the features.
        known: Properties that the features contain, which are not predicted.
    """

    name: str
    inputs: str
    known: tuple[str, ...] = ()

    @abstractmethod
    def predict(self, inputs: SplitArrays, targets: SplitArrays) -> Prediction:
        """Predicts the targets of the test split.

        Args:
            inputs: [n, features] per split, finite.
            targets: [n, targets] float64 per split, finite; not constant on the training split.
                Those of the test split must not be used.
        """
