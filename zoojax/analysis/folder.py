"""The output folder of an analysis: ownership marker and cleanup."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import atomic_write, is_temporary, make_folder, os_errors
from zoojax.filesystem.reading import NotFoundError, entries, exists, is_folder, read_json
from zoojax.json_fields import Sha256, check_names
from zoojax.storage.parent import is_version
from zoojax.storage.zoo import Zoo
from zoojax.text import printable

MARKER = "analysis.json"
REPORT, TABLES, FIGURES = "report.html", "tables", "figures"
SCHEMA = 1
FORMAT = "zoojax-analysis"


@dataclass(frozen=True)
class _Owner:
    """Fingerprints of the zoo and the twins that an analysis belongs to."""

    zoo: Sha256
    twins: list[Sha256]


def check_folder(folder: Path, zoo: Zoo | None = None, twins: Sequence[Zoo] = ()) -> None:
    """Checks that an analysis can be written to a folder, without writing anything.

    A zoo may be analyzed again into the same folder, with the same twins or with more.

    Args:
        folder: the folder; it need not exist.
        zoo: the dense zoo; None if it is not trained yet.
        twins: its twins.

    Raises:
        ZoojaxError: the folder is a file, holds a report, tables or figures without an
            analysis marker, or holds an analysis of another zoo or of other twins.
    """
    if exists(folder) and not is_folder(folder):
        raise ZoojaxError(f"{folder} is a file; give --out a new folder")
    owner = _read_owner(folder)
    if owner is None:
        for name in (REPORT, TABLES, FIGURES):
            if exists(folder / name):
                raise ZoojaxError(
                    f"{folder} holds {name} but no {MARKER}, so it is not an analysis of this zoo; "
                    f"give --out another folder, or move {name} away"
                )
        return
    if zoo is not None and not is_version(zoo, owner.zoo):
        raise ZoojaxError(
            f"{folder} holds the analysis of another zoo than {zoo.path}; give --out another folder"
        )
    if zoo is not None and not set(owner.twins) <= {twin.fingerprint for twin in twins}:
        raise ZoojaxError(
            f"{folder} holds an analysis of {zoo.path} with other twins; give --out another "
            "folder, or the twins it was created with"
        )


def claim_folder(folder: Path, zoo: Zoo, twins: Sequence[Zoo]) -> None:
    """Marks a folder as that of an analysis, and removes temporary files of an interrupted one.

    Args:
        folder: the folder; created if it does not exist.
        zoo: the dense zoo.
        twins: its twins.

    Raises:
        ZoojaxError: the folder fails `check_folder`, or cannot be written.
    """
    check_folder(folder, zoo, twins)
    make_folder(folder)
    for each in (folder, folder / TABLES, folder / FIGURES):
        with os_errors(each):
            for name in entries(each):
                # At the top level, other temporary files may be the user's.
                ours = each != folder or name.startswith((f".{REPORT}.", f".{MARKER}."))
                if ours and is_temporary(name):
                    (each / name).unlink()
    owner = _Owner(zoo.fingerprint, sorted(twin.fingerprint for twin in twins))
    text = json.dumps({"format": FORMAT, "schema": SCHEMA, **asdict(owner)}, indent=2) + "\n"
    atomic_write(folder / MARKER, lambda file: file.write_text(text, "utf-8"))


def _read_owner(folder: Path) -> _Owner | None:
    """Reads the marker of a folder; None if it has none.

    Raises:
        ZoojaxError: the marker is damaged, or was written by a newer zoojax.
    """
    file = folder / MARKER
    try:
        content = read_json(file)
    except NotFoundError:
        return None
    try:
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise ValueError("it is not the marker of an analysis")
        schema = content.pop("schema", None)
        if type(schema) is not int or schema != SCHEMA:
            raise ValueError(f"schema {printable(schema, 20)}, but this zoojax reads {SCHEMA}")
        check_names(content, {"zoo", "twins"}, set(), "the analysis")
        return msgspec.convert(content, _Owner)
    except ValueError as error:
        raise ZoojaxError(
            f"{file} is damaged: {printable(error)}; give --out another folder"
        ) from error
