"""Mean and standard deviation of parameters over training states."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from zoojax.architectures.vectors import VectorLayout
from zoojax.errors import ZoojaxError
from zoojax.text import printable

NORMALIZATIONS = ("layer", "parameter")
# Returns the training states in blocks, [states, parameters].
Blocks = Callable[[], Iterator[np.ndarray]]


class Statistics(NamedTuple):
    """Mean and standard deviation of each parameter, in Flax's order.

    Attributes:
        mean: [parameters] float32.
        std: [parameters] float32; 1 where the parameter is constant.
    """

    mean: np.ndarray
    std: np.ndarray

    def normalize(self, vectors: np.ndarray) -> np.ndarray:
        """Standardizes the parameters of states; other values stay the same.

        Args:
            vectors: [states, size].
        """
        count, result = len(self.mean), vectors.copy()
        result[:, :count] -= self.mean
        result[:, :count] /= self.std
        return result

    def denormalize(self, vectors: np.ndarray) -> np.ndarray:
        """Inverts `normalize`, except for rounding."""
        count, result = len(self.mean), vectors.copy()
        result[:, :count] *= self.std
        result[:, :count] += self.mean
        return result


def check_normalization(name: object) -> None:
    """Checks the name of a normalization; None normalizes nothing.

    Raises:
        ZoojaxError: If it is unknown.
    """
    if name is not None and name not in NORMALIZATIONS:
        known = ", ".join(NORMALIZATIONS)
        raise ZoojaxError(f"no normalization {printable(name, 40)}; there are: {known}, None")


def compute_statistics(blocks: Blocks, layout: VectorLayout, normalization: str) -> Statistics:
    """Computes the statistics of states, in float64.

    Args:
        blocks: The states.
        layout: Where the parameters are.
        normalization: "layer" for one mean and deviation per layer, or "parameter".
    """
    count = sum(len(block) for block in blocks())
    mean, square = np.zeros(layout.parameters), np.zeros(layout.parameters)
    for block in blocks():
        mean += block.sum(0, dtype=np.float64) / count
    for block in blocks():
        square += np.square(block - mean).sum(0) / count
    if normalization == "layer":
        for leaves in layout.layers().values():
            index = np.concatenate([layout.index(leaf).ravel() for leaf in leaves])
            center = mean[index].mean()
            square[index] = (square[index] + np.square(mean[index] - center)).mean()
            mean[index] = center
    std = np.sqrt(square)
    std[std.astype(np.float32) == 0] = 1
    return Statistics(mean.astype(np.float32), std.astype(np.float32))
