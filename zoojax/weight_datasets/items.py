"""The items of datasets: batches of views and targets, with NumPy alone."""

from functools import cached_property
from typing import Any

import numpy as np

from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.declaration import check_whole
from zoojax.weight_datasets.cache import read_arrays
from zoojax.weight_datasets.permuting import random_bits, uniform
from zoojax.weight_datasets.reading import Prepared
from zoojax.weight_datasets.statistics import Statistics
from zoojax.weight_datasets.view import Drawn, View


class Items:
    """Reads the items of a dataset from its files.

    Attributes:
        view: The view.
        seed: Seed of permutations and windows.
        permute: Whether hidden units are permuted.
    """

    def __init__(self, prepared: Prepared, view: View, single: bool, seed: int, permute: bool):
        """Creates the reader; opens no files.

        Args:
            prepared: The files.
            view: The view.
            single: Whether targets are single numbers, of the only target.
            seed: Seed of permutations and windows.
            permute: Whether to permute hidden units.
        """
        self.view, self.seed, self.permute = view, seed, permute
        self._sources, self._samples = prepared.sources, prepared.samples
        self._statistics, self._single = prepared.statistics, single

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out values that are read from files."""
        read = {"static", "statistics"}
        return {name: value for name, value in self.__dict__.items() if name not in read}

    @cached_property
    def static(self) -> dict[str, np.ndarray]:
        """Arrays of the first zoo's view that are the same for all items."""
        return self.view.static(self._sources[0].plan)

    @cached_property
    def statistics(self) -> Statistics | None:
        """Mean and standard deviation of the parameters; None without normalization."""
        return None if self._statistics is None else Statistics(**read_arrays(self._statistics))

    def batch(self, index: np.ndarray, number: int) -> Any:
        """Returns items, with their targets if there are any.

        Args:
            index: Positions of the items, [items].
            number: Number of the pass, for random draws.
        """
        arrays = self._samples.arrays
        sources = arrays["source"][index]
        parts = []
        for position in np.unique(sources) if len(index) else [0]:
            at = np.flatnonzero(sources == position)
            parts.append((at, self._of_source(int(position), index[at], number)))
        items, target = _join(parts, len(index)), arrays["target"][index]
        if not target.shape[1]:
            return items
        return items, target[:, 0] if self._single else target

    def _of_source(self, position: int, index: np.ndarray, number: int) -> Any:
        """The items of one zoo."""
        source, arrays = self._sources[position], self._samples.arrays
        vectors = np.take(source.matrix, arrays["row"][index], axis=0)
        units = source.permuter.units if self.permute else 0
        bits = random_bits(self.seed, number, arrays["key"][index], 1 + units)
        if self.permute:
            vectors = source.permuter.permute(vectors, bits[:, 1:])
        if self.statistics is not None:
            vectors = self.statistics.normalize(vectors)
        return self.view.items(Drawn(vectors, source.layout, uniform(bits[:, 0])), source.plan)

    def parameters(self, items: Any, zoo: int) -> dict[str, Any]:
        """Converts items back to parameters; see `WeightDataset.parameters`."""
        if not 0 <= check_whole("zoo", zoo) < len(self._sources):
            raise ZoojaxError(f"there is no zoo {zoo}; the dataset has {len(self._sources)}")
        source = self._sources[zoo]
        try:
            vectors = self.view.vectors(items, source.plan, source.layout)
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise ZoojaxError(
                f"not items of the view {self.view.name}; give a batch as dataset[[0, 1]] "
                "returns it, without targets"
            ) from error
        if self.statistics is not None:
            vectors = self.statistics.denormalize(vectors)
        return source.layout.unflatten(vectors)["params"]


def positions_of(index: Any, count: int) -> np.ndarray:
    """Returns the positions of items that a user selects.

    Args:
        index: A position, several, or a mask.
        count: Number of items.

    Returns:
        int64 from 0 to count - 1: one position without axes, or [positions].

    Raises:
        IndexError: If the index is none of these, or there is no such item.
    """
    try:
        positions = np.asarray(index)
    except ValueError as error:
        raise IndexError("the index has several dimensions; give a list") from error
    if positions.ndim and not positions.size:
        positions = positions.astype(np.int64)
    if positions.dtype == bool and positions.shape == (count,):
        positions = np.flatnonzero(positions)
    if positions.ndim > 1 or not np.issubdtype(positions.dtype, np.integer):
        raise IndexError(
            f"the index has type {positions.dtype} and shape {positions.shape}; give whole numbers "
            f"or a mask of {count} items"
        )
    wrong = positions[(positions < -count) | (positions >= count)]
    if wrong.size:
        raise IndexError(f"no item {wrong.ravel()[0]}; the dataset has {count}")
    return positions.astype(np.int64) % count


def item_of(batch: Any, position: int) -> Any:
    """Returns one item of a batch: an array, or a nested dict or tuple of arrays."""
    if isinstance(batch, dict):
        return {name: item_of(value, position) for name, value in batch.items()}
    if isinstance(batch, tuple):
        return tuple(item_of(value, position) for value in batch)
    return batch[position]


def _join(parts: list[tuple[np.ndarray, Any]], count: int) -> Any:
    """Joins batches of several sources.

    Args:
        parts: (positions in the joined batch, items) of each source.
        count: Number of items.
    """
    if len(parts) == 1:
        return parts[0][1]
    first = parts[0][1]
    if isinstance(first, dict):
        return {name: _join([(at, items[name]) for at, items in parts], count) for name in first}
    joined = np.empty((count, *first.shape[1:]), first.dtype)
    for at, items in parts:
        joined[at] = items
    return joined


def shapes_of(items: Any) -> Any:
    """Returns the shape of each array of one item, in the structure of the items."""
    if isinstance(items, dict):
        return {name: shapes_of(value) for name, value in items.items()}
    return items.shape[1:], items.dtype.name
