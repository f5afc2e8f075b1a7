"""Files of datasets: arrays that are computed once, and then read without the zoos.

File names are digests of everything that determines the content, so files never change. Any of
them can be deleted; a new dataset recreates it.
"""

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import platformdirs

from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import (
    atomic_write,
    ensure_free_space,
    make_folder,
    os_errors,
    write_table,
)
from zoojax.filesystem.paths import user_path
from zoojax.filesystem.reading import exists

if TYPE_CHECKING:
    import polars as pl

# Part of all digests; changes with the content of the files.
_VERSION = 1


def cache_folder(cache: object) -> Path:
    """Returns the folder of the files, and creates it.

    Args:
        cache: The folder that the user passed; None for the user's cache.

    Raises:
        ZoojaxError: If it cannot be created.
    """
    if cache is None:
        folder = Path(platformdirs.user_cache_dir("zoojax")) / "weights"
    else:
        folder = user_path(cache, "cache").absolute()
    make_folder(folder)
    return folder


def digest(*parts: Any) -> str:
    """Returns a digest of arrays, and of values that JSON can hold."""
    found = hashlib.sha256(str(_VERSION).encode())
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(f"{part.dtype} {part.shape}".encode())
            found.update(np.ascontiguousarray(part).data)
        else:
            found.update(json.dumps(part).encode())
    return found.hexdigest()[:32]


def cached_matrix(
    file: Path, shape: tuple[int, int], write: Callable[[np.ndarray], object]
) -> None:
    """Creates a file of a float32 matrix unless it exists.

    Args:
        file: The file.
        shape: Shape of the matrix.
        write: Fills the matrix, which is on disk.

    Raises:
        ZoojaxError: If the disk is full, or writing failed.
    """
    with contextlib.suppress(ZoojaxError):
        read_matrix(file, shape)
        return

    def create(temporary: Path) -> None:
        matrix = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
        write(matrix)
        matrix.flush()

    with os_errors(file):
        ensure_free_space(file.parent, 4 * shape[0] * shape[1])
    atomic_write(file, create, durable=False)


def read_matrix(file: Path, shape: tuple[int, int]) -> np.ndarray:
    """Maps a file of `cached_matrix` into memory.

    Raises:
        ZoojaxError: If the file is missing or damaged.
    """
    with _readable(file):
        matrix = np.load(file, mmap_mode="r", allow_pickle=False)
        if matrix.shape != shape or matrix.dtype != np.float32:
            raise ValueError("other shape")
        return matrix


def cached_arrays(file: Path, create: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns the arrays of a file, and creates it unless it exists.

    Raises:
        ZoojaxError: If writing failed.
    """
    with contextlib.suppress(ZoojaxError):
        return read_arrays(file)
    arrays = create()

    def save(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            np.savez(stream, **arrays)  # pyright: ignore[reportArgumentType]

    atomic_write(file, save, durable=False)
    return arrays


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """Reads a file of `cached_arrays`.

    Raises:
        ZoojaxError: If the file is missing or damaged.
    """
    # NumPy does not close a damaged file that it has opened itself.
    with _readable(file), file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        return dict(arrays)


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ZoojaxError(
            f"{file} was removed or is damaged; create the WeightDataset again"
        ) from error


def cached_table(file: Path, table: "pl.DataFrame") -> None:
    """Writes a table unless its file exists.

    Raises:
        ZoojaxError: If writing failed.
    """
    if not exists(file):
        write_table(file, table, durable=False)
