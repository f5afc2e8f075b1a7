"""Zoos as arguments: opened already, or given by their folder."""

import os

from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import user_path
from zoojax.storage import hub
from zoojax.storage.zoo import Zoo, open_zoo
from zoojax.text import printable


def as_zoo(zoo: object, argument: str = "zoo") -> Zoo:
    """Returns a zoo itself, or opens the one in a folder.

    Args:
        zoo: A zoo, or the path of its folder as a str or an `os.PathLike`; `~` is expanded.
        argument: Name of the argument, for the message.

    Raises:
        ZoojaxError: If it is neither, or the folder is not a zoo.

    Example (with a zoo in zoos/usps):
        as_zoo("~/zoos/usps"), as_zoo(zoo) is zoo
    """
    if isinstance(zoo, Zoo):
        return zoo
    if not isinstance(zoo, str | os.PathLike):
        raise ZoojaxError(f"{argument} is {printable(zoo, 80)}; give a zoo or the folder of one")
    if hub.is_address(zoo):
        return open_zoo(os.fspath(zoo))
    return open_zoo(user_path(zoo, argument))
