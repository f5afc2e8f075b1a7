"""rejects.csv of a converted zoo: which states were not converted, and why."""

import csv
import io
from pathlib import Path

from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import atomic_write
from zoojax.filesystem.reading import MIB, NotFoundError, read_bytes
from zoojax.text import for_csv, printable

NAME = "rejects.csv"
_HEADER = ("state", "reason")
_LIMIT = 256 * MIB


def write(file: Path, rejected: dict[str, str]) -> None:
    """Writes reasons by place, in visible characters that no spreadsheet takes for formulas.

    Raises:
        ZoojaxError: the file cannot be written.
    """
    content = io.StringIO(newline="")
    rows = csv.writer(content)
    rows.writerow(_HEADER)
    rows.writerows((_escaped(place), _escaped(rejected[place])) for place in sorted(rejected))
    atomic_write(file, lambda path: path.write_bytes(content.getvalue().encode()))


def read(file: Path) -> dict[str, str] | None:
    """What `write` has written; None if there is no such file.

    Raises:
        ZoojaxError: the file is none of `write`.
    """
    try:
        lines = csv.reader(io.StringIO(read_bytes(file, _LIMIT).decode(), newline=""))
        if tuple(next(lines, ())) != _HEADER:
            raise ValueError(f"its columns are not {' and '.join(_HEADER)}")
        return {_plain(place): _plain(reason) for place, reason in lines}
    except NotFoundError:
        return None
    except (ValueError, csv.Error) as error:
        raise ZoojaxError(f"{file} is damaged, remove it: {printable(error)}") from error


def _escaped(text: str) -> str:
    return for_csv(printable(text))


def _plain(text: str) -> str:
    """The inverse of `for_csv`."""
    text = printable(text)
    return text[1:] if text[:1] == "'" and for_csv(text[1:]) != text[1:] else text
