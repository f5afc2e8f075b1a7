"""Writing so that a reader sees the old file or the new one, never half of one."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from zoojax.errors import ZoojaxError


def write_beside(path: Path, write: Callable[[Path], object], *, durable: bool = True) -> None:
    """Calls `write` with a temporary name beside `path`, makes it durable, renames it.

    Args:
        path: the file.
        write: writes a file of the name it is given.
        durable: wait for the disk; False for what can be made again, in thousands.

    Raises:
        ZoojaxError: the disk refused (full, read-only, gone); `path` is as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        write(temporary)
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        raise ZoojaxError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes renames within a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reserve(folder: Path, size: int) -> None:
    """Raises OSError unless a folder has room for a file, on systems that can tell.

    Orbax writes from threads that go on, and print, after the disk has refused the first
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


def remove(folder: Path) -> None:
    """Removes a folder if it is there: renamed out of sight first, so never seen by half."""
    if folder.exists():
        doomed = folder.with_name(f".{folder.name}.removed-{os.getpid()}")
        folder.rename(doomed)
        shutil.rmtree(doomed)
