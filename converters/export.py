"""The folder that a zoo is exported to: whose it is, and safe names for what is in it.

Nothing is written outside the folder, whatever names a zoo holds, and nothing that another
export or another program has written is overwritten.
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
_LONGEST_NAME = 255  # bytes, of most file systems
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.I)
# A separator somewhere, though not here; and what Windows has other uses for.
_FORBIDDEN = frozenset('/\\<>:"|?*' if os.name == "nt" else "/\\")


def is_safe_name(name: object) -> bool:
    """Whether text names something in a folder here, is no path anywhere, and shows as it is."""
    return (
        isinstance(name, str)
        and bool(name)
        and is_printable(name)
        and len(name.encode()) <= _LONGEST_NAME
        and _FORBIDDEN.isdisjoint(name)
        and not name.startswith(" ")
        and not name.endswith((".", " "))
        and _RESERVED.fullmatch(name) is None
        and _key(name) != _key(MARKER)
    )


def _key(name: str) -> str:
    """Equal for names that some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def folder_names(zoo: Zoo) -> tuple[list[str], list[str]]:
    """A folder name for each member: its trial's where that is safe and its own.

    Returns:
        Names in the order of the members table, different on any file system; and a sentence
        for the user where some are not the trials' names.
    """
    rows = zoo.members_table.to_dicts()
    stored = [row.get("trial", _original(row)) for row in rows]
    names: dict[int, str] = {}
    taken: set[str] = set()
    for i, name in enumerate(stored):
        if is_safe_name(name) and _key(name) not in taken:
            names[i] = name
            taken.add(_key(name))
    renamed = [i for i in range(len(rows)) if i not in names]
    for i in renamed:
        base = name = _original(rows[i])
        count = 1
        while _key(name) in taken:
            count += 1
            name = f"{base}_{count}"
        names[i] = name
        taken.add(_key(name))
    notes = []
    if renamed:
        first = renamed[0]
        notes.append(
            f"{len(renamed)} trial name(s) cannot name a folder or are there twice; the first, "
            f"'{printable(stored[first], 60)}' of member {rows[first]['id']}, is in {names[first]}"
        )
    return [names[i] for i in range(len(rows))], notes


def _original(row: dict[str, Any]) -> str:
    """A name in the manner of the original zoos."""
    name = f"NN_tune_trainable_{row['id']:05d}_seed={row['seed']}"
    return name + (f"_amount={100 * row['ratio']:g}" if "ratio" in row else "")


@contextlib.contextmanager
def claimed(zoo: Zoo, out: Path, layout: str, names: Iterable[str]) -> Iterator[None]:
    """Makes a folder that of an export, and keeps other commands from writing it.

    Args:
        zoo: the zoo.
        out: the folder: new, of the same export interrupted, or without any of the names.
        layout: what is written to it.
        names: of the files and folders that are to be written there.

    Raises:
        ZoojaxError: it is that of another export, or holds something of one of the names;
            another command is writing it; it cannot be written.
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
            found = read_json(out / MARKER)
        except NotFoundError:
            for name in names:
                if exists(out / name):
                    raise ZoojaxError(
                        f"{printable(out / name)} is there, and not of this export; give --out a "
                        "new folder"
                    ) from None
            text = json.dumps(about, indent=2) + "\n"
            atomic_write(out / MARKER, lambda file: file.write_text(text, "utf-8"))
        else:
            _check(out, found, about)
        yield


def _check(out: Path, found: object, about: dict[str, str]) -> None:
    there = found if isinstance(found, dict) and found.get("format") == _FORMAT else {}
    if there.get("fingerprint") != about["fingerprint"]:
        raise ZoojaxError(f"{printable(out)} holds the export of another zoo; give --out a new one")
    if there.get("layout") != about["layout"]:
        raise ZoojaxError(
            f"{printable(out)} was exported as {printable(there.get('layout'), 40)}, not "
            f"{about['layout']}; give --out a new folder"
        )


def folder_in(parent: Path, name: str) -> Path:
    """A folder of a name within another, made if it is not there; never one elsewhere.

    Raises:
        ZoojaxError: it is a link or a file, or cannot be made.
    """
    path = parent / name
    if path.parent != parent or path.name != name:
        raise ZoojaxError(f"{printable(path)} is not within {printable(parent)}")
    try:
        path.mkdir()
    except FileExistsError:
        # What is there may be a link that leads out of the export.
        if not stat.S_ISDIR(_mode(path)):
            raise ZoojaxError(f"{printable(path)} is not a folder; move it away") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ZoojaxError(f"cannot create {printable(path)}: {reason}") from error
    return path


def is_written(file: Path) -> bool:
    """Whether a file is there as such, and not as a link."""
    return stat.S_ISREG(_mode(file))


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except OSError:
        return 0


def write_safetensors(file: Path, arrays: dict[str, np.ndarray], about: dict[str, str]) -> None:
    """Writes arrays by name and texts about them, readable as any other file is.

    Raises:
        ZoojaxError: the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    def write(path: Path) -> None:
        # safetensors makes files that nobody else may read.
        path.touch()
        mode = path.stat().st_mode
        save_file(arrays, path, about)
        path.chmod(mode)

    try:
        atomic_write(file, write)
    except SafetensorError as error:
        raise ZoojaxError(f"cannot write {printable(file)}: {printable(error)}") from error
