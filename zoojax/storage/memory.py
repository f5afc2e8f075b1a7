"""Zoos in memory: nothing is written until `save`."""

import contextlib
import hashlib
import itertools
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import polars as pl

from zoojax.datasets.specs import ImageSet
from zoojax.errors import ZoojaxError
from zoojax.runtime import distributed
from zoojax.runtime.population import take
from zoojax.storage import states
from zoojax.storage.stores import OPTIMIZER, STATES
from zoojax.storage.timing import Duration
from zoojax.storage.writer import check_valid
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_config import ZooConfig

_numbers = itertools.count(1)
_Checkpoints = dict[int, dict[str, Any]]


class MemoryStore:
    """A zoo in memory.

    Attributes:
        path: Name by which messages refer to the zoo, unique in this process.
        has_images: Whether saving the zoo also saves its images.
    """

    in_memory = True

    def __init__(self, name: str, members: pl.DataFrame, images: ImageSet, has_images: bool):
        self.path = Path(f"{name} (in memory, {next(_numbers)})")
        self.has_images = has_images
        self._members, self._images = members, images
        self._metrics: list[pl.DataFrame] = []
        self._checkpoints: dict[str, _Checkpoints] = {STATES: {}, OPTIMIZER: {}}

    def members(self) -> pl.DataFrame:
        """Returns the members table."""
        return self._members

    def identity(self) -> pl.DataFrame:
        """Returns the members table."""
        return self._members

    def metrics_version(self) -> Hashable:
        """Returns the number of tables added so far."""
        return len(self._metrics) or None

    def metrics(self) -> pl.DataFrame:
        """Returns the metrics table."""
        return pl.concat(self._metrics)

    def has(self, kind: str) -> bool:
        """Whether the zoo has checkpoints of a kind."""
        return bool(self._checkpoints[kind])

    def epochs(self, kind: str) -> list[int]:
        """Lists the checkpoints of a kind."""
        return sorted(self._checkpoints[kind])

    def read(
        self,
        kind: str,
        epoch: int,
        rows: slice | None,
        like: dict[str, Any] | None,
        optional: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """Copies a checkpoint, so that a caller may change the arrays.

        Raises:
            ZoojaxError: If there is no such checkpoint.
        """
        del like, optional  # The arrays were created here.
        saved = self._checkpoints[kind].get(epoch)
        if saved is None:
            raise ZoojaxError(f"{self.path} has no {kind} of epoch {epoch}")
        return jax.tree.map(np.copy, saved if rows is None else take(saved, rows))

    def blocks(self, kind: str, epoch: int, members: int) -> list[slice]:
        """Returns all rows."""
        del kind, epoch
        return [slice(0, members)]

    def digest(self, kind: str, epoch: int) -> str:
        """Returns the digest of the checkpoint's arrays."""
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(self._checkpoints[kind].get(epoch, {})):
            digest.update(np.ascontiguousarray(leaf).tobytes())
        return digest.hexdigest()

    def images(self) -> ImageSet | None:
        """Returns the images that the zoo was trained on."""
        return self._images

    def add(
        self,
        epoch: int,
        state: dict[str, Any],
        optimizer: dict[str, Any] | None,
        metrics: pl.DataFrame,
    ) -> None:
        """Adds an epoch; keeps the optimizer state of the two newest epochs."""
        self._checkpoints[STATES][epoch] = state
        if optimizer is not None:
            moments = self._checkpoints[OPTIMIZER]
            moments[epoch] = optimizer
            for old in sorted(moments)[:-2]:
                del moments[old]
        self._metrics.append(metrics)


class MemoryWriter:
    """Appends epochs to a zoo in memory.

    Attributes:
        zoo: The zoo, for reading.
        last_epoch: The newest epoch; None before the first.
        rows: Rows of the members table that this process trains: all.
    """

    def __init__(self, zoo: Zoo, store: MemoryStore):
        self.zoo, self._store = zoo, store
        self.last_epoch: int | None = None
        self.rows = slice(0, len(zoo))

    def append(
        self,
        epoch: int,
        state: dict[str, Any],
        optimizer: dict[str, Any] | None,
        metrics: pl.DataFrame,
        duration: Duration | None = None,
    ) -> None:
        """Appends one epoch; see `ZooWriter.append`."""
        del duration  # Times are stored in folders only.
        self._store.add(epoch, states.pack(self.zoo.config, state), optimizer, metrics)
        self.last_epoch = epoch


@contextlib.contextmanager
def create_in_memory(
    config: ZooConfig, members: pl.DataFrame, images: ImageSet, has_images: bool
) -> Iterator[MemoryWriter]:
    """Creates a zoo without epochs in memory.

    Args:
        config: Settings that all members share.
        members: One row per member: id and hyperparameters.
        images: Images of the zoo.
        has_images: Whether saving the zoo also saves its images.

    Yields:
        The writer.

    Raises:
        ZoojaxError: If config and members do not fit together, or several processes train
            together.
    """
    if distributed.is_distributed():
        raise ZoojaxError("several processes cannot share a zoo in memory; give out a folder")
    check_valid("the zoo", config, members)
    store = MemoryStore(config.name, members, images, has_images)
    yield MemoryWriter(Zoo(store, config), store)
