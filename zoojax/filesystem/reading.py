"""Reading files that anybody may have made: nothing hangs, nothing absurd is allocated.

Only regular files are read, of a limited size; whatever else is wrong with one is a
`ZoojaxError` that names it. Parquet is read by Apache Arrow, whose reader turns every damage into
an error (that of polars ends the process on some).
"""

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from zoojax.errors import ZoojaxError
from zoojax.text import printable

if TYPE_CHECKING:
    import polars as pl

MIB = 2**20
_JSON_LIMIT = 16 * MIB
# Rows of 50,000 members at 200 epochs each.
_MOST_ROWS = 10_000_000
_MOST_COLUMNS = 10_000
_TABLE_LIMIT = 4096 * MIB
_NUMBER = re.compile("0|[1-9][0-9]{0,8}")


class NotFoundError(ZoojaxError):
    """There is no such file."""


def exists(path: Path) -> bool:
    """Whether anything has this name, a broken or circular link included; never raises."""
    return os.path.lexists(path)


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; never raises."""
    try:
        return path.is_dir()
    except OSError:
        return False


def resolved(path: Path) -> Path:
    """A path without links, circular ones left as they are; never raises."""
    return Path(os.path.realpath(path))


def number(name: str) -> int | None:
    """The number that a folder's name is, as zoojax writes it; None of any other name."""
    return int(name) if _NUMBER.fullmatch(name) else None


def numbered(folder: Path) -> list[int]:
    """The folders in a folder whose names are numbers, ascending; empty if it is not there.

    Raises:
        ZoojaxError: the folder cannot be read.
    """
    return sorted(n for n in map(number, entries(folder)) if n is not None)


def entries(folder: Path) -> list[str]:
    """Names of what is in a folder, sorted; empty if it is not there.

    Raises:
        ZoojaxError: it is not a folder, or cannot be read.
    """
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(folder, error) from error


@contextlib.contextmanager
def opened(path: Path, limit: int) -> Iterator[IO[bytes]]:
    """Opens a regular file for reading; a pipe or device is refused without waiting for it.

    Args:
        path: the file; a symbolic link is followed.
        limit: the most bytes that it may have.

    Raises:
        NotThere: there is none.
        ZoojaxError: it is something else, larger, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} is missing") from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    try:
        file = os.fdopen(descriptor, "rb")
    except OSError as error:  # A folder.
        os.close(descriptor)
        raise _unreadable(path, error) from error
    with file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ZoojaxError(f"{path} is not a regular file")
        if status.st_size > limit:
            raise ZoojaxError(
                f"{path} has {status.st_size} bytes, more than the {limit} that are read"
            )
        yield file


def read_bytes(path: Path, limit: int) -> bytes:
    """The bytes of a regular file; raises as `opened` does."""
    with opened(path, limit) as file:
        try:
            return file.read(limit + 1)
        except (OSError, MemoryError) as error:
            raise _unreadable(path, error) from error


def read_json(path: Path, limit: int = _JSON_LIMIT) -> Any:
    """The content of a JSON file, strictly: UTF-8, no NaN, each key once.

    Raises:
        NotThere: there is no such file.
        ZoojaxError: it is not JSON, or raises as `opened` does.
    """
    try:
        return parse_json(read_bytes(path, limit))
    except ValueError as error:
        raise ZoojaxError(f"{path} is damaged or not JSON: {printable(error)}") from error


def parse_json(content: bytes | str) -> Any:
    """Strict JSON: UTF-8, no NaN, each key once; raises ValueError on anything else."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a key twice")
        return found

    try:
        text = content.decode() if isinstance(content, bytes) else content
        return json.loads(text, parse_constant=refuse, object_pairs_hook=once)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_table(path: Path, columns: Sequence[str] | None = None) -> "pl.DataFrame":
    """A Parquet file as a frame.

    Args:
        path: the file.
        columns: which; None for all.

    Raises:
        NotThere: there is no such file.
        ZoojaxError: it is damaged, or larger than a zoo's table could be.
    """
    # Only here: they take a quarter of a second to import.
    import polars as pl
    import pyarrow.parquet

    with opened(path, _TABLE_LIMIT) as file:
        try:
            parquet = pyarrow.parquet.ParquetFile(file)
            told = parquet.metadata
            if not 0 <= told.num_rows <= _MOST_ROWS or told.num_columns > _MOST_COLUMNS:
                raise ValueError(f"{told.num_rows} rows of {told.num_columns} columns")
            read = parquet.read(columns=None if columns is None else list(columns))
            read.validate(full=True)
            names = [printable(name, 100) for name in read.column_names]
            if len(set(names)) < len(names) or (columns and names != list(columns)):
                raise ValueError(f"its columns are {', '.join(names) or 'none'}")
            if len(read) != told.num_rows:
                raise ValueError(f"{len(read)} rows instead of {told.num_rows}")
            # Without the schema's own notes, which nothing has validated.
            plain = pyarrow.Table.from_arrays(read.columns, names=names)
            table = pl.from_arrow(plain)
        except (Exception, pl.exceptions.PanicException) as error:
            raise ZoojaxError(f"{path} is damaged: {_line(error)}") from error
    assert isinstance(table, pl.DataFrame)
    return table


def _unreadable(path: Path, error: Exception) -> ZoojaxError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return ZoojaxError(f"{path} cannot be read: {printable(reason)}")


def _line(error: BaseException) -> str:
    return printable((str(error).strip() or type(error).__name__).splitlines()[0])
