"""The folder of an analysis: whose it is, and what an earlier one left in it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import atomic_write, is_temporary, make_folder, os_errors
from zoojax.filesystem.reading import NotFoundError, entries, exists, is_folder, read_json
from zoojax.json_fields import Sha256, check_names
from zoojax.storage.zoo import Zoo
from zoojax.text import printable

MARKER = "analysis.json"
REPORT, TABLES, FIGURES = "report.html", "tables", "figures"
SCHEMA = 1
FORMAT = "zoojax-analysis"


@dataclass(frozen=True)
class _Owner:
    """Whose an analysis is, by fingerprints."""

    zoo: Sha256
    twins: list[Sha256]


def check_folder(folder: Path, zoo: Zoo | None = None, twins: Sequence[Zoo] = ()) -> None:
    """Checks that a folder can be that of an analysis; nothing is written.

    The same zoo may be analysed again into its folder: with the same twins, or with more.

    Args:
        folder: the folder; it need not be there.
        zoo: the dense zoo; None if it is not made yet.
        twins: its twins.

    Raises:
        ZoojaxError: it is a file; or holds a page, tables or figures that no analysis marked
            as its own; or the analysis of another zoo, or of other twins.
    """
    if exists(folder) and not is_folder(folder):
        raise ZoojaxError(f"{folder} is a file; give --out a new folder")
    found = _owner(folder)
    if found is None:
        for name in (REPORT, TABLES, FIGURES):
            if exists(folder / name):
                raise ZoojaxError(
                    f"{folder} holds {name} but no {MARKER}, so it is no analysis of this zoo; "
                    f"give --out another folder, or move {name} away"
                )
        return
    if zoo is not None and found.zoo != zoo.fingerprint:
        raise ZoojaxError(
            f"{folder} holds the analysis of another zoo than {zoo.path}; give --out another folder"
        )
    if zoo is not None and not set(found.twins) <= {twin.fingerprint for twin in twins}:
        raise ZoojaxError(
            f"{folder} holds an analysis of {zoo.path} with other twins; give --out another "
            "folder, or the twins it was made with"
        )


def claim_folder(folder: Path, zoo: Zoo, twins: Sequence[Zoo]) -> None:
    """Makes a folder that of an analysis, and removes what an interruption left half written.

    Raises:
        ZoojaxError: as `check_folder`, or it cannot be written.
    """
    check_folder(folder, zoo, twins)
    make_folder(folder)
    for each in (folder, folder / TABLES, folder / FIGURES):
        with os_errors(each):
            for name in entries(each):
                # In the folder itself a user may have others.
                ours = each != folder or name.startswith((f".{REPORT}.", f".{MARKER}."))
                if ours and is_temporary(name):
                    (each / name).unlink()
    owner = _Owner(zoo.fingerprint, sorted(twin.fingerprint for twin in twins))
    text = json.dumps({"format": FORMAT, "schema": SCHEMA, **asdict(owner)}, indent=2) + "\n"
    atomic_write(folder / MARKER, lambda file: file.write_text(text, "utf-8"))


def _owner(folder: Path) -> _Owner | None:
    """Whose analysis a folder says that it holds; None if it says nothing.

    Raises:
        ZoojaxError: what it says is damaged, or of a newer zoojax.
    """
    file = folder / MARKER
    try:
        content = read_json(file)
    except NotFoundError:
        return None
    try:
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise ValueError("it is not of an analysis")
        schema = content.pop("schema", None)
        if type(schema) is not int or schema != SCHEMA:
            raise ValueError(f"schema {printable(schema, 20)}, where this zoojax reads {SCHEMA}")
        check_names(content, {"zoo", "twins"}, set(), "the analysis")
        return msgspec.convert(content, _Owner)
    except ValueError as error:
        raise ZoojaxError(
            f"{file} is damaged: {printable(error)}; give --out another folder"
        ) from error
