"""Paths given by users."""

import os
from pathlib import Path

from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import resolved
from zoojax.text import printable


def expand_user(path: str | Path) -> Path:
    """Replaces a leading `~` or `~user` with the home folder.

    Args:
        path: The path.

    Raises:
        ZoojaxError: If the home folder cannot be determined, or the path contains a null character.
    """
    if "\0" in str(path):
        raise ZoojaxError(f"{printable(path)} is not a path: it contains a null character")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ZoojaxError(f"{printable(path)}: {error}") from error


def user_path(path: object, argument: str) -> Path:
    """Returns the path that a user gave for an argument, with `~` expanded.

    Args:
        path: A str or an `os.PathLike`.
        argument: Name of the argument, for the message.

    Raises:
        ZoojaxError: If it is neither, is bytes, or `expand_user` cannot expand it.

    Example:
        >>> user_path("zoos/usps", "out").parts
        ('zoos', 'usps')
    """
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise ZoojaxError(f"{argument} is {printable(path, 80)}; give the path of a file or folder")
    return expand_user(Path(path))


def optional_path(path: object, argument: str) -> Path | None:
    """Returns `user_path`, or None for None."""
    return None if path is None else user_path(path, argument)


def output_folder(path: object, argument: str = "out") -> Path:
    """Returns the path of a folder to write, which ends in a name: not in `.` or `..`.

    Args:
        path: A str or an `os.PathLike`; `~` is expanded.
        argument: Name of the argument, for the message.

    Raises:
        ZoojaxError: If it is neither, or is the root folder.
    """
    folder = user_path(path, argument)
    if folder.name not in ("", ".."):
        return folder
    named = resolved(folder)
    if not named.name:
        raise ZoojaxError(f"--{argument} {folder} is the root folder; name a new one")
    return named
