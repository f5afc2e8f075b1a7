"""Some members of a zoo, read as a zoo of their own."""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from zoojax.datasets.specs import ImageSet
from zoojax.runtime.population import take
from zoojax.storage.states import optional_like, state_like
from zoojax.storage.stores import STATES
from zoojax.storage.zoo import Zoo


class SubsetStore:
    """Some members of a zoo, as a store.

    Attributes:
        path: Path of the whole zoo.
        in_memory: Whether the whole zoo is in memory.
    """

    def __init__(self, zoo: Zoo, rows: np.ndarray):
        self._zoo, self._rows = zoo, rows
        self.path: Path = zoo.path
        self.in_memory = zoo.store.in_memory

    @property
    def has_images(self) -> bool:
        """Whether the whole zoo stores its images."""
        return self._zoo.store.has_images

    def members(self) -> pl.DataFrame:
        """Returns the rows of the members table."""
        return self._zoo.members_table[self._rows]

    def metrics_version(self) -> Hashable:
        """Returns the version of the whole table."""
        return self._zoo.store.metrics_version()

    def metrics(self) -> pl.DataFrame:
        """Returns the rows of the metrics table."""
        ids = self.members()["id"].to_list()
        return self._zoo.metrics_history.filter(pl.col("member").is_in(ids))

    def has(self, kind: str) -> bool:
        """Whether the whole zoo has checkpoints of a kind."""
        return self._zoo.store.has(kind)

    def epochs(self, kind: str) -> list[int]:
        """Lists the checkpoints of the whole zoo."""
        return self._zoo.store.epochs(kind)

    def read(
        self,
        kind: str,
        epoch: int,
        rows: slice | None,
        like: dict[str, Any] | None,
        optional: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """Reads a checkpoint of the whole zoo, and selects the members."""
        del like, optional  # Those of the subset.
        config, count = self._zoo.config, len(self._zoo)
        shapes = None, None
        if kind == STATES:
            shapes = state_like(config, count), optional_like(config, count)
        content = self._zoo.store.read(kind, epoch, None, *shapes)
        return take(content, self._rows if rows is None else self._rows[rows])

    def images(self) -> ImageSet | None:
        """Returns the images of the whole zoo."""
        return self._zoo.store.images()


def subset(zoo: Zoo, rows: Sequence[int] | np.ndarray) -> Zoo:
    """Returns some members of a zoo as a zoo, for reading.

    Args:
        zoo: The zoo.
        rows: Rows of its members table.

    Example:
        >>> from zoojax.storage.subset import subset
        >>> part = subset(zoo, [2, 0])
        >>> len(part), part.members_table["id"].to_list()
        (2, [2, 0])
    """
    return Zoo(SubsetStore(zoo, np.asarray(rows, int)), zoo.config)
