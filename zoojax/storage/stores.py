"""Where the tables and states of a zoo are stored: in a folder, or in memory."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from zoojax.datasets.loading import load_saved
from zoojax.datasets.specs import ImageSet
from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import exists, is_folder, numbered, read_json, read_table
from zoojax.storage import parts

CONFIG, MEMBERS, METRICS = "zoo.json", "members.parquet", "metrics.parquet"
# The kinds of checkpoints of an epoch, which are also the names of their folders.
STATES, OPTIMIZER = "states", "optimizer"
IMAGES = "images.npz"


class Store(Protocol):
    """The tables, states and images of a zoo, unvalidated.

    Attributes:
        path: Folder of the zoo; for a zoo in memory, the name by which messages refer to it.
        in_memory: Whether there is no folder.
        has_images: Whether the images are part of the zoo, so that it can be moved without
            their source.
    """

    path: Path
    in_memory: bool

    @property
    def has_images(self) -> bool: ...

    def members(self) -> pl.DataFrame:
        """Returns the members table."""
        ...

    def identity(self) -> pl.DataFrame:
        """Returns the members table that identifies the zoo: for a view, that of the whole zoo."""
        ...

    def metrics_version(self) -> Hashable:
        """Returns a value that changes with the metrics table; None if there is no table."""
        ...

    def metrics(self) -> pl.DataFrame:
        """Returns the metrics table."""
        ...

    def has(self, kind: str) -> bool:
        """Whether the zoo has checkpoints of a kind, STATES or OPTIMIZER."""
        ...

    def epochs(self, kind: str) -> list[int]:
        """Returns the epochs with a checkpoint of a kind, ascending."""
        ...

    def read(
        self,
        kind: str,
        epoch: int,
        rows: slice | None,
        like: dict[str, Any] | None,
        optional: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """Reads a checkpoint; see `zoojax.storage.checkpoints.read`."""
        ...

    def blocks(self, kind: str, epoch: int, members: int) -> list[slice]:
        """Lists the rows of a checkpoint that are stored together."""
        ...

    def digest(self, kind: str, epoch: int) -> str:
        """Returns a text that identifies the content of a checkpoint."""
        ...

    def images(self) -> ImageSet | None:
        """Returns the stored images; None if there are none."""
        ...


class FolderStore:
    """A zoo in a folder.

    Attributes:
        path: The folder.
    """

    in_memory = False

    def __init__(self, path: Path):
        self.path = path

    @property
    def has_images(self) -> bool:
        """Whether the folder contains the images."""
        return exists(self.path / IMAGES)

    def config(self) -> Any:
        """Reads the content of zoo.json."""
        return read_json(self.path / CONFIG)

    def members(self) -> pl.DataFrame:
        """Reads the members table."""
        return read_table(self.path / MEMBERS)

    def identity(self) -> pl.DataFrame:
        """Reads the members table."""
        return self.members()

    def metrics_version(self) -> Hashable:
        """Returns time, size and inode of the metrics table, which is always replaced."""
        path = self.path / METRICS
        if not exists(path):
            return None
        try:
            status = path.stat()
        except OSError as error:
            raise ZoojaxError(f"{path} cannot be read: {error.strerror or error}") from error
        return status.st_mtime_ns, status.st_size, status.st_ino

    def metrics(self) -> pl.DataFrame:
        """Reads the metrics table."""
        return read_table(self.path / METRICS)

    def has(self, kind: str) -> bool:
        """Whether the zoo has checkpoints of a kind."""
        return is_folder(self.path / kind)

    def epochs(self, kind: str) -> list[int]:
        """Lists the checkpoints of a kind."""
        return numbered(self.path / kind)

    def read(
        self,
        kind: str,
        epoch: int,
        rows: slice | None,
        like: dict[str, Any] | None,
        optional: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """Reads a checkpoint."""
        step = self.path / kind / str(epoch)
        return parts.read(step, rows, like, optional)

    def blocks(self, kind: str, epoch: int, members: int) -> list[slice]:
        """Lists the rows that are stored together."""
        return parts.slices_of(self.path / kind / str(epoch), members)

    def digest(self, kind: str, epoch: int) -> str:
        """Returns the digest of the checkpoint's checksums."""
        return parts.digest(self.path / kind / str(epoch))

    def images(self) -> ImageSet | None:
        """Reads the stored images."""
        return load_saved(self.path / IMAGES) if self.has_images else None
