"""Writing so that a reader sees the old file or the new one, never half of one."""

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
    """Calls `write` with a temporary name next to `path`, makes it durable, renames it.

    Args:
        path: the file.
        write: writes a file of the name it is given.
        durable: wait for the disk; False for what can be made again, in thousands.

    Raises:
        ZoojaxError: the file cannot be written (disk full, no permission); `path` is as it was.
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
    """Turns what a disk refuses into one line: for what writes, makes or removes `path`.

    Raises:
        ZoojaxError: an OSError was raised in here.
    """
    try:
        yield
    except OSError as error:
        raise ZoojaxError(f"cannot write {path}: {error.strerror or error}") from error


def write_table(path: Path, table: "pl.DataFrame", *, durable: bool = True) -> None:
    """Writes a frame as Parquet; raises as `write_beside` does."""

    # Through memory: polars takes a path for a pattern, and names a full disk otherwise.
    memory = io.BytesIO()
    table.write_parquet(memory)
    atomic_write(path, lambda file: file.write_bytes(memory.getbuffer()), durable=durable)


def check_new(path: Path) -> None:
    """Raises ZoojaxError unless a folder of this name can be made, or is there and has files."""
    if exists(path) and not is_folder(path):
        raise ZoojaxError(f"{path} is a file; give --out a new folder")
    # What is written appears by renaming, which would replace an empty folder under our feet.
    if not entries(path) and resolved(Path.cwd()).is_relative_to(resolved(path)):
        raise ZoojaxError(
            f"{path} is the folder that this command runs in, or holds it; give --out a folder "
            "in it"
        )


def make_folder(path: Path, needed_for: Path | None = None) -> None:
    """Makes a folder and those above it, where they are not there.

    Args:
        path: the folder.
        needed_for: what to name in an error; the folder itself if None.

    Raises:
        ZoojaxError: it cannot be made.
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
    """Raises OSError unless a folder has room for a file, on systems that can tell.

    Orbax writes from threads that continue, and print, after the disk has refused the first
    of them; asked beforehand, a full disk is one clear error.

    Args:
        folder: made if it is not there.
        size: bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not size or not hasattr(os, "posix_fallocate"):
        return
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, size)


def atomic_rmtree(folder: Path) -> None:
    """Removes a folder if it is there: renamed out of sight first, so never seen by half.

    Raises:
        ZoojaxError: it cannot be removed.
    """
    with os_errors(folder):
        if folder.is_dir():
            doomed = folder.with_name(f".{folder.name}.removed-{os.getpid()}")
            folder.rename(doomed)
            shutil.rmtree(doomed)


# What an interruption leaves, by the names that this module and Orbax give.
_TEMPORARY = re.compile(r"\..+\.tmp-[0-9]+")
_STEP = re.compile(r"(0|[1-9][0-9]{0,8})(\.orbax-checkpoint-tmp.*)?")
_REMOVED = re.compile(r"\.(.+)\.removed-[0-9]+")


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one that `write_beside` did not finish."""
    return _TEMPORARY.fullmatch(name) is not None


def is_step(name: str) -> bool:
    """Whether a folder of this name is a step, whole or left by an interruption."""
    removed = _REMOVED.fullmatch(name)
    return is_step(removed[1]) if removed else _STEP.fullmatch(name) is not None
