"""Batches of indices; each pass has its own order."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.declaration import check_whole


class Draw(NamedTuple):
    """Items of a `WeightDataset` with the augmentation of one pass: `dataset[Draw(3, [0, 7])]`.

    Attributes:
        number: Number of the pass. Another number draws other permutations and windows.
        items: Position of an item, or several.
    """

    number: int
    items: Any


class Batches:
    """Yields batches of indices; each iteration is a pass with its own order.

    It is a sampler for PyTorch's DataLoader, with `batch_size=None`. The order depends only on the
    seed and the number of the pass.

    Attributes:
        number: Number of the next pass; set it to resume.

    Example:
        >>> from zoojax.weight_datasets import Batches
        >>> batches = Batches(items=5, size=2, seed=0)
        >>> len(batches), [len(draw.items) for draw in batches]
        (3, [2, 2, 1])
    """

    def __init__(
        self,
        items: int,
        size: int,
        seed: int = 0,
        *,
        shuffle: bool = True,
        drop_last: bool = False,
    ):
        """Creates the sampler.

        Args:
            items: Number of items.
            size: Items per batch.
            seed: Seed of the order.
            shuffle: Whether to shuffle; False keeps the order of the items.
            drop_last: Whether to leave out the last batch of a pass if it is smaller.

        Raises:
            ZoojaxError: If there are no batches.
        """
        self.number = 0
        self._items, self._size = check_whole("items", items), check_whole("size", size)
        self._seed, self._shuffle, self._drop_last = check_whole("seed", seed), shuffle, drop_last
        if self._seed < 0:
            raise ZoojaxError(f"seed is {seed}; give 0 or more")
        if self._size < 1 or not len(self):
            raise ZoojaxError(f"there are no batches of {size} from {items} items")

    def __len__(self) -> int:
        full, rest = divmod(self._items, self._size)
        return full + (rest > 0 and not self._drop_last)

    def __iter__(self) -> Iterator[Draw]:
        """Yields the batches of the next pass.

        Example:
            >>> from zoojax.weight_datasets import Batches
            >>> [draw.number for draw in Batches(3, 2)]
            [0, 0]
        """
        number, order = self.number, np.arange(self._items)
        self.number += 1
        if self._shuffle:
            order = np.random.default_rng([self._seed, number]).permutation(order)
        for batch in range(len(self)):
            yield Draw(number, order[batch * self._size : (batch + 1) * self._size])
