"""The output folder of an export: its owner, and safe names for its files and folders.

Nothing is written outside the folder, whatever names a zoo contains, and nothing that another
export or program has written is overwritten.
"""

import contextlib
import json
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import atomic_write, make_folder
from zoojax.filesystem.locks import locked
from zoojax.filesystem.reading import NotFoundError, exists, is_folder, read_json
from zoojax.storage.zoo import Zoo
from zoojax.text import is_printable, printable

MARKER = "zoojax.json"
_FORMAT = "zoojax-export"
_MAX_NAME_BYTES = 255  # The limit of most file systems.
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.I)
# Separators on any system; and characters that Windows reserves.
_FORBIDDEN = frozenset('/\\<>:"|?*' if os.name == "nt" else "/\\")


def is_safe_name(name: object) -> bool:
    """Whether a name is valid for a folder here, not a path on any system, and printable."""
    return (
        isinstance(name, str)
        and bool(name)
        and is_printable(name)
        and len(name.encode()) <= _MAX_NAME_BYTES
        and _FORBIDDEN.isdisjoint(name)
        and not name.startswith(" ")
        and not name.endswith((".", " "))
        and _RESERVED.fullmatch(name) is None
        and _normalize(name) != _normalize(MARKER)
    )


def _normalize(name: str) -> str:
    """Maps names that some file system does not distinguish to the same text."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def folder_names(zoo: Zoo) -> tuple[list[str], list[str]]:
    """Chooses a folder name for each member: that of its trial if it is safe and unique.

    Args:
        zoo: The zoo.

    Returns:
        Names in the order of the members table, distinct on any file system; and notes for
        the user if some are not the names of the trials.
    """
    used = [n for n in ("id", "seed", "ratio", "trial") if n in zoo.members_table.columns]
    rows = zoo.members_table.select(used).to_dicts()
    stored = [row.get("trial", default_name(row)) for row in rows]
    names: dict[int, str] = {}
    taken: set[str] = set()
    for i, name in enumerate(stored):
        if is_safe_name(name) and _normalize(name) not in taken:
            names[i] = name
            taken.add(_normalize(name))
    renamed = [i for i in range(len(rows)) if i not in names]
    for i in renamed:
        base = name = default_name(rows[i])
        count = 1
        while _normalize(name) in taken:
            count += 1
            name = f"{base}_{count}"
        names[i] = name
        taken.add(_normalize(name))
    notes = []
    if renamed:
        first = renamed[0]
        notes.append(
            f"{len(renamed)} trial name(s) cannot name a folder or are duplicates; the first, "
            f"'{printable(stored[first], 60)}' of member {rows[first]['id']}, is written to "
            f"{names[first]}"
        )
    return [names[i] for i in range(len(rows))], notes


def member_names(zoo: Zoo) -> list[str]:
    """Returns the names of the members' trials if they are distinct, otherwise `folder_names`."""
    if "trial" in zoo.members_table.columns:
        trials = zoo.members_table["trial"]
        if not trials.has_nulls() and not trials.is_duplicated().any() and (trials != "").all():
            return trials.to_list()
    return folder_names(zoo)[0]


def default_name(row: dict[str, Any]) -> str:
    """Returns a name in the style of the original zoos for a row of the members table."""
    name = f"NN_tune_trainable_{row['id']:05d}_seed={row['seed']}"
    return name + (f"_amount={100 * row['ratio']:g}" if "ratio" in row else "")


@contextlib.contextmanager
def claim_folder(zoo: Zoo, out: Path, layout: str, names: Iterable[str]) -> Iterator[None]:
    """Marks a folder as that of an export, and locks it against other commands.

    Args:
        zoo: The exported zoo.
        out: The folder: a new one, that of the same export, interrupted, or one without any
            of the names.
        layout: The layout of the export, which the marker stores.
        names: Names of the files and folders that the export will write.

    Raises:
        ZoojaxError: If the folder is that of another export or contains one of the names,
            another command is writing to it, or it cannot be written.
    """
    about = {
        "format": _FORMAT,
        "layout": layout,
        "zoo": zoo.config.name,
        "fingerprint": zoo.fingerprint,
    }
    if exists(out) and not is_folder(out):
        raise ZoojaxError(f"cannot create {printable(out)}: it is a file; give --out a new folder")
    make_folder(out)
    with locked(out):
        try:
            marker = read_json(out / MARKER)
        except NotFoundError:
            for name in names:
                if exists(out / name):
                    raise ZoojaxError(
                        f"{printable(out / name)} exists and is not part of this export; give "
                        "--out a new folder"
                    ) from None
            text = json.dumps(about, indent=2) + "\n"
            atomic_write(out / MARKER, lambda file: file.write_text(text, "utf-8"))
        else:
            _check_marker(out, marker, about)
        yield


def _check_marker(out: Path, content: object, about: dict[str, str]) -> None:
    marker = content if isinstance(content, dict) and content.get("format") == _FORMAT else {}
    if marker.get("fingerprint") != about["fingerprint"]:
        raise ZoojaxError(
            f"{printable(out)} contains the export of another zoo; give --out a new folder"
        )
    if marker.get("layout") != about["layout"]:
        raise ZoojaxError(
            f"{printable(out)} was exported as {printable(marker.get('layout'), 40)}, not "
            f"{about['layout']}; give --out a new folder"
        )


def make_subfolder(parent: Path, name: str) -> Path:
    """Creates a folder within another if it does not exist, and never anywhere else.

    Args:
        parent: The folder to create it in.
        name: Its name.

    Raises:
        ZoojaxError: If it is a link or a file, or cannot be created.
    """
    path = parent / name
    if path.parent != parent or path.name != name:
        raise ZoojaxError(f"{printable(path)} is not within {printable(parent)}")
    try:
        path.mkdir()
    except FileExistsError:
        # It may be a link that leads out of the export.
        if not stat.S_ISDIR(_mode(path)):
            raise ZoojaxError(f"{printable(path)} is not a folder; move it elsewhere") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ZoojaxError(f"cannot create {printable(path)}: {reason}") from error
    return path


def is_written(file: Path) -> bool:
    """Whether a regular file exists; a link does not count."""
    return stat.S_ISREG(_mode(file))


def _mode(path: Path) -> int:
    """The file mode, without following links; 0 if the file does not exist."""
    try:
        return path.lstat().st_mode
    except OSError:
        return 0


def write_safetensors(file: Path, arrays: dict[str, np.ndarray], about: dict[str, str]) -> None:
    """Writes arrays by name, and metadata, with the usual file permissions.

    Args:
        file: The file to write.
        arrays: Arrays by name.
        about: The metadata.

    Raises:
        ZoojaxError: If the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    def write(path: Path) -> None:
        # safetensors itself creates files that only their owner can read.
        path.touch()
        mode = path.stat().st_mode
        save_file(arrays, path, about)
        path.chmod(mode)

    try:
        atomic_write(file, write)
    except SafetensorError as error:
        raise ZoojaxError(f"cannot write {printable(file)}: {printable(error)}") from error
