"""The file rejects.csv of a converted zoo: which states were rejected, and why."""

import csv
import io
from pathlib import Path

from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import atomic_write
from zoojax.filesystem.reading import MIB, NotFoundError, read_bytes
from zoojax.text import for_csv, printable

NAME = "rejects.csv"
_HEADER = ("state", "reason")
_MAX_BYTES = 256 * MIB


def write(file: Path, rejected: dict[str, str]) -> None:
    """Writes reasons by place, escaped so that no spreadsheet reads them as formulas.

    Args:
        file: The file to write.
        rejected: Reasons by the place of each rejected state.

    Raises:
        ZoojaxError: If the file cannot be written.
    """
    content = io.StringIO(newline="")
    rows = csv.writer(content)
    rows.writerow(_HEADER)
    rows.writerows((_escape(place), _escape(rejected[place])) for place in sorted(rejected))
    atomic_write(file, lambda path: path.write_bytes(content.getvalue().encode()))


def read(file: Path) -> dict[str, str] | None:
    """Reads a file that `write` has written.

    Returns:
        Reasons by place; None if the file does not exist.

    Raises:
        ZoojaxError: If `write` cannot have written the file.
    """
    try:
        lines = csv.reader(io.StringIO(read_bytes(file, _MAX_BYTES).decode(), newline=""))
        if tuple(next(lines, ())) != _HEADER:
            raise ValueError(f"its columns are not {' and '.join(_HEADER)}")
        return {_unescape(place): _unescape(reason) for place, reason in lines}
    except NotFoundError:
        return None
    except (ValueError, csv.Error) as error:
        raise ZoojaxError(f"{file} is damaged, remove it: {printable(error)}") from error


def _escape(text: str) -> str:
    return for_csv(printable(text))


def _unescape(text: str) -> str:
    """Inverts `for_csv`."""
    text = printable(text)
    return text[1:] if text[:1] == "'" and for_csv(text[1:]) != text[1:] else text
