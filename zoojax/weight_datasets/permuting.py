"""Random permutations of hidden units, of many states at once, in NumPy.

The order of the units of a state depends only on the seed, the number of the pass and the state.
"""

import numpy as np

from zoojax.architectures.permuted_axes import PermutedAxis, group_units
from zoojax.architectures.vectors import Leaf, VectorLayout

# Constants of splitmix64 (Steele et al., "Fast Splittable Pseudorandom Number Generators", 2014).
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
# Largest index that is computed at once, in values.
_BLOCK = 2**22


def random_bits(seed: int, number: int, states: np.ndarray, count: int) -> np.ndarray:
    """Draws random bits that depend on the arguments alone.

    Args:
        seed: Seed of the dataset.
        number: Number of the pass.
        states: Identifiers of the states, [states] uint64.
        count: Numbers per state.

    Returns:
        [states, count] uint64.
    """
    start = _mix(_mix(np.array([seed], np.uint64) + _STEP) + np.array([number], np.uint64))
    base = _mix(states ^ start)
    return _mix(base[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _STEP)


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * _MIX[0]
    x = (x ^ (x >> np.uint64(27))) * _MIX[1]
    return x ^ (x >> np.uint64(31))


def uniform(bits: np.ndarray) -> np.ndarray:
    """Converts random bits to numbers in [0, 1)."""
    return (bits >> np.uint64(11)) * 2.0**-53


class Permuter:
    """Permutes the hidden units of states; the function of each network stays the same.

    Attributes:
        units: Number of units of all groups.
    """

    def __init__(self, layout: VectorLayout):
        """Prepares the permutation.

        Args:
            layout: Where the values of a state are.
        """
        self._layout = layout
        shapes = {leaf.path: leaf.shape for leaf in layout.leaves}
        self._sizes = [group_units(group, shapes) for group in layout.groups]
        self.units = sum(self._sizes)
        self._axes: dict[str, dict[int, tuple[int, PermutedAxis]]] = {}
        for number, group in enumerate(layout.groups):
            for axis in group:
                self._axes.setdefault(axis.path, {})[axis.axis] = number, axis

    def permute(self, vectors: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """Permutes the units of each state.

        Args:
            vectors: [states, size].
            bits: Random bits, [states, units].

        Returns:
            [states, size].
        """
        if not self.units:
            return vectors
        size = max(1, _BLOCK // vectors.shape[1])
        result = np.empty_like(vectors)
        for start in range(0, len(vectors), size):
            block = slice(start, start + size)
            self._permute(vectors[block], bits[block], result[block])
        return result

    def _permute(self, vectors: np.ndarray, bits: np.ndarray, result: np.ndarray) -> None:
        parts = np.split(bits, np.cumsum(self._sizes)[:-1], axis=1)
        orders = [np.argsort(part, axis=1, kind="stable") for part in parts]
        for leaf in self._layout.leaves:
            place = slice(leaf.start, leaf.start + leaf.size)
            if leaf.path not in self._axes:
                result[:, place] = vectors[:, place]
                continue
            index = self._index(leaf, orders).reshape(len(vectors), leaf.size)
            result[:, place] = np.take_along_axis(vectors[:, place], index, axis=1)

    def _index(self, leaf: Leaf, orders: list[np.ndarray]) -> np.ndarray:
        """Position in the array of each value of the permuted array, [states, *shape]."""
        index, stride = np.zeros((1,) * (len(leaf.shape) + 1), np.int64), 1
        for axis in range(-1, -len(leaf.shape) - 1, -1):
            size = leaf.shape[axis]
            found = self._axes[leaf.path].get(axis)
            places = np.arange(size)[None] if found is None else _places(orders, *found)
            shape = (len(places), *(size if a == axis else 1 for a in range(-len(leaf.shape), 0)))
            index = index + (places * stride).reshape(shape)
            stride *= size
        return index


def _places(orders: list[np.ndarray], number: int, axis: PermutedAxis) -> np.ndarray:
    """Index along an axis of each of its permuted values, [states, values]."""
    order = orders[number]
    units = order.shape[1]
    at = np.arange(axis.positions)[:, None, None] * units + order[:, None, :, None]
    return (at * axis.width + np.arange(axis.width)).reshape(len(order), -1)
