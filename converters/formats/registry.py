"""All source formats, and the choice of one for a path."""

from pathlib import Path
from typing import NamedTuple

from zoojax.converters.formats.base import SourceFormat
from zoojax.converters.formats.checkpoint_folders import CheckpointFolders
from zoojax.converters.formats.flat_matrix import FlatMatrix
from zoojax.converters.formats.haiku import Haiku
from zoojax.converters.formats.image_networks import ImageNetworks
from zoojax.converters.formats.member_file import MemberFile
from zoojax.converters.formats.model_dataset import ModelDataset
from zoojax.converters.formats.stacked import StackedTensors
from zoojax.converters.formats.trials import Trials
from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import exists
from zoojax.hyperparameters.declaration import check_name
from zoojax.text import printable

# In the order in which they are tried: more specific ones first.
FORMATS: dict[str, SourceFormat] = {
    each.name: each
    for each in (
        FlatMatrix(),
        Haiku(),
        StackedTensors(),
        Trials(),
        ModelDataset(),
        ImageNetworks(),
        CheckpointFolders(),
        MemberFile(),
    )
}


class Recognized(NamedTuple):
    """The format of a path.

    Attributes:
        format: The format.
        reason: The reason, to complete "because ...".
    """

    format: SourceFormat
    reason: str


def recognize(path: Path, name: str | None = None) -> Recognized:
    """Finds the format of a path.

    Args:
        path: A file or folder.
        name: Name of the format, if the user gives it.

    Returns:
        The format and the reason for it.

    Raises:
        ZoojaxError: If the path does not exist, or its format is unknown.
    """
    if not exists(path):
        raise ZoojaxError(f"{printable(path)} does not exist")
    if name is not None:
        check_name("source format", name, FORMATS)
        return Recognized(FORMATS[name], "--format says so")
    for each in FORMATS.values():
        reason = each.recognize(path)
        if reason is not None:
            return Recognized(each, reason)
    raise ZoojaxError(
        f"{printable(path)} is in no known format; give a folder of trials or checkpoints, a file "
        f"of states, or --format ({', '.join(FORMATS)})"
    )
