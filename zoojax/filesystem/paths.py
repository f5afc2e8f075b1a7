"""Paths as users write them."""

from pathlib import Path

from zoojax.errors import ZoojaxError
from zoojax.text import printable


def expand_user(path: str | Path) -> Path:
    """A path with `~` and `~user` at its start replaced by the home folder.

    Raises:
        ZoojaxError: nobody knows that home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ZoojaxError(f"{printable(path)}: {error}") from error
