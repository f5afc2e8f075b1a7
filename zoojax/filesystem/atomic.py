"""Atomic file writes: a reader sees the old file or the new one, never a partial one."""

import contextlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import entries, exists, is_folder, resolved

if TYPE_CHECKING:
    import polars as pl


def atomic_write(path: Path, write: Callable[[Path], object], *, durable: bool = True) -> None:
    """Writes a temporary file in the same folder, then renames it to `path`.

    Args:
        path: The file to write.
        write: Writes the content to the path that it is called with.
        durable: Whether to wait until the file is on disk. False for files that can be
            recreated and come in thousands.

    Raises:
        ZoojaxError: If the file cannot be written (disk full, no permission). `path` is then
            unchanged.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    with os_errors(path):
        try:
            write(temporary)
            if durable:
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
            temporary.replace(path)
            if durable:
                sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def os_errors(path: Path) -> Iterator[None]:
    """Converts OSErrors into one-line errors, for code that writes or removes a path.

    Args:
        path: The path named in the error message.

    Raises:
        ZoojaxError: If the body raises an OSError.
    """
    try:
        yield
    except OSError as error:
        raise ZoojaxError(f"cannot write {path}: {error.strerror or error}") from error


def write_table(path: Path, table: "pl.DataFrame", *, durable: bool = True) -> None:
    """Writes a table as Parquet.

    Args:
        path: The file.
        table: The table.
        durable: See `atomic_write`.

    Raises:
        ZoojaxError: If the file cannot be written.
    """
    # Via memory: polars would expand patterns in the path, and does not report a full disk as
    # an OSError.
    memory = io.BytesIO()
    table.write_parquet(memory)
    atomic_write(path, lambda file: file.write_bytes(memory.getbuffer()), durable=durable)


def check_new(path: Path) -> None:
    """Checks that a folder can be created at a path, or exists and is not empty.

    Args:
        path: The output folder.

    Raises:
        ZoojaxError: If the path is a file, or an empty folder that is or contains the
            working directory.
    """
    if exists(path) and not is_folder(path):
        raise ZoojaxError(f"{path} is a file; give --out a new folder")
    # The output is renamed to `path`, which would replace the empty working directory.
    if not entries(path) and resolved(Path.cwd()).is_relative_to(resolved(path)):
        raise ZoojaxError(
            f"{path} is or contains the working directory; give --out a folder inside it"
        )


def make_folder(path: Path, needed_for: Path | None = None) -> None:
    """Creates a folder and its parents if they do not exist.

    Args:
        path: The folder.
        needed_for: Path to name in an error message; `path` if None.

    Raises:
        ZoojaxError: If the folder cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, FileExistsError):
            reason = f"{path} is a file"
        raise ZoojaxError(f"cannot create {needed_for or path}: {reason}") from error


def sync_folder(folder: Path) -> None:
    """Makes renames within a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def ensure_free_space(folder: Path, size: int) -> None:
    """Checks that a file of the given size fits on the disk, on systems that support this.

    Orbax writes from threads that continue, and print, after the first write has failed. With
    this check before the write, a full disk leads to one clear error.

    Args:
        folder: The target folder; created if it does not exist.
        size: Number of bytes.

    Raises:
        OSError: If there is not enough space.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not size or not hasattr(os, "posix_fallocate"):
        return
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, size)


def atomic_rmtree(folder: Path) -> None:
    """Removes a folder if it exists.

    It is renamed to a hidden name first, so that readers never see a partially removed folder.

    Args:
        folder: The folder.

    Raises:
        ZoojaxError: If it cannot be removed.
    """
    with os_errors(folder):
        if folder.is_dir():
            removed = folder.with_name(f".{folder.name}.removed-{os.getpid()}")
            folder.rename(removed)
            shutil.rmtree(removed)


# Names that an interrupted process may leave behind, as given by this module and by Orbax.
_TEMPORARY = re.compile(r"\..+\.tmp-[0-9]+")
_STEP = re.compile(r"(0|[1-9][0-9]{0,8})(\.orbax-checkpoint-tmp.*)?")
_REMOVED = re.compile(r"\.(.+)\.removed-[0-9]+")


def is_temporary(name: str) -> bool:
    """Whether a file name is that of an unfinished `atomic_write`."""
    return _TEMPORARY.fullmatch(name) is not None


def is_step(name: str) -> bool:
    """Whether a folder name is that of a step folder, complete or partial."""
    removed = _REMOVED.fullmatch(name)
    return is_step(removed[1]) if removed else _STEP.fullmatch(name) is not None
