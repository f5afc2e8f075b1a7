"""How a twin identifies its parent."""

import os
from pathlib import Path

from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_config import Parent
from zoojax.text import is_printable


def parent_of(parent: Zoo, epoch: int, twin: Path | None) -> Parent:
    """Creates the parent entry of a twin's config.

    Args:
        parent: The dense zoo.
        epoch: Epoch of the parent that the twin starts from.
        twin: Folder of the twin; None for one in memory.

    Returns:
        The entry.
    """
    if parent.store.in_memory or twin is None:
        return Parent("unknown", parent.config.name, parent.fingerprint, epoch)
    try:
        path = os.path.relpath(parent.path.resolve(), twin.resolve())
    except ValueError:  # On another drive.
        path = str(parent.path.resolve())
    # JSON cannot store undecodable paths; the fingerprint identifies the parent anyway.
    path = path if is_printable(path) else "unknown"
    return Parent(path, parent.config.name, parent.fingerprint, epoch)
