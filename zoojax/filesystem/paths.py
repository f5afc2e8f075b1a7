"""Paths given by users."""

from pathlib import Path

from zoojax.errors import ZoojaxError
from zoojax.text import printable


def expand_user(path: str | Path) -> Path:
    """Replaces a leading `~` or `~user` with the home folder.

    Args:
        path: The path.

    Raises:
        ZoojaxError: If the home folder cannot be determined.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ZoojaxError(f"{printable(path)}: {error}") from error
