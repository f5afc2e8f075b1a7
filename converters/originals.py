"""The original dialects of a converted zoo's states, in the folder `dialects` of the zoo.

If a state was not in the plain form, there is one safetensors file per epoch and process. Its
metadata has the records that undo the dialects; its tensors are those that the zoo does not hold.
"""

import json
from pathlib import Path

import numpy as np

from zoojax.converters import export
from zoojax.converters.dialects.base import Record
from zoojax.converters.dialects.chain import records_from_json
from zoojax.converters.safe_load import MIB, guarded, read_file
from zoojax.converters.safe_tensors import parse_safetensors
from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import make_folder
from zoojax.filesystem.reading import entries, parse_json

FOLDER = "dialects"
_MAX_BYTES = 8192 * MIB

# Records and kept arrays of a state.
Kept = tuple[tuple[Record, ...], dict[str, np.ndarray]]


def write(zoo: Path, epoch: int, process: int, states: dict[int, Kept]) -> None:
    """Writes the original dialects of one epoch.

    Args:
        zoo: The folder of the zoo.
        epoch: The epoch.
        process: The index of this process.
        states: Records and kept arrays by member, of the states that were not plain.

    Raises:
        ZoojaxError: If the file cannot be written.
    """
    if not states:
        return
    distinct: dict[str, int] = {}
    members = {}
    for member, (records, _) in states.items():
        text = json.dumps(records)
        members[str(member)] = distinct.setdefault(text, len(distinct))
    arrays = {f"{m}/{n}": a for m, (_, kept) in states.items() for n, a in kept.items()}
    about = {
        "records": "[" + ", ".join(distinct) + "]",
        "members": json.dumps(members),
    }
    make_folder(zoo / FOLDER)
    file = zoo / FOLDER / f"{epoch:06d}-{process}.safetensors"
    export.write_safetensors(file, {n: np.array(a, order="C") for n, a in arrays.items()}, about)


def read(zoo: Path, epoch: int) -> dict[int, Kept]:
    """Reads the original dialects of one epoch.

    Args:
        zoo: The folder of the zoo.
        epoch: The epoch.

    Returns:
        Records and kept arrays by member; members whose state was plain are missing.

    Raises:
        ZoojaxError: If a file is damaged.
    """
    states: dict[int, Kept] = {}
    for name in entries(zoo / FOLDER):
        if name.startswith(f"{epoch:06d}-") and name.endswith(".safetensors"):
            states |= _read_file(zoo / FOLDER / name)
    return states


def _read_file(path: Path) -> dict[int, Kept]:
    file = guarded(path, lambda: parse_safetensors(read_file(path, _MAX_BYTES)))
    try:
        records = [records_from_json(each) for each in parse_json(file.about["records"])]
        members = {int(m): int(i) for m, i in parse_json(file.about["members"]).items()}
        states: dict[int, Kept] = {m: (records[i], {}) for m, i in members.items()}
        tensors = file.tensors.content
        assert isinstance(tensors, dict)
        for name, tensor in tensors.items():
            member, _, own = name.partition("/")
            states[int(member)][1][own] = file.tensors.array(tensor)
    except (ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise ZoojaxError(f"{path} is damaged; omit --dialect, or convert the zoo again") from error
    return states
