"""Reads untrusted files without hanging or allocating unbounded memory.

Only regular files of limited size are read; every other problem is a `ZoojaxError` that names
the file. Parquet is read with Apache Arrow, which reports any corruption as an error; the
polars reader aborts the process on some corrupt files.
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
from zoojax.text import first_line, printable

if TYPE_CHECKING:
    import polars as pl

MIB = 2**20
_JSON_LIMIT = 16 * MIB
# Rows of 50,000 members with 200 epochs each.
_MAX_ROWS = 10_000_000
_MAX_COLUMNS = 10_000
_TABLE_LIMIT = 4096 * MIB
_NUMBER = re.compile("0|[1-9][0-9]{0,8}")


class NotFoundError(ZoojaxError):
    """The file does not exist."""


def exists(path: Path) -> bool:
    """Whether a path exists; also True for a broken or circular link. Never raises."""
    return os.path.lexists(path)


def is_folder(path: Path) -> bool:
    """Whether a path is a folder. Never raises."""
    try:
        return path.is_dir()
    except OSError:
        return False


def resolved(path: Path) -> Path:
    """Returns a path with links resolved, except circular ones. Never raises."""
    return Path(os.path.realpath(path))


def number(name: str) -> int | None:
    """Parses a folder name as a number, as zoojax writes it; None for any other name."""
    return int(name) if _NUMBER.fullmatch(name) else None


def numbered(folder: Path) -> list[int]:
    """Returns the numbers that are names in a folder, ascending.

    Args:
        folder: The folder; the result is empty if it does not exist.

    Raises:
        ZoojaxError: If the folder cannot be read.
    """
    return sorted(n for n in map(number, entries(folder)) if n is not None)


def entries(folder: Path) -> list[str]:
    """Returns the names in a folder, sorted.

    Args:
        folder: The folder; the result is empty if it does not exist.

    Raises:
        ZoojaxError: If it is not a folder, or cannot be read.
    """
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(folder, error) from error


@contextlib.contextmanager
def opened(path: Path, limit: int) -> Iterator[IO[bytes]]:
    """Opens a regular file for reading; pipes and devices are rejected without blocking.

    Args:
        path: The file; a symbolic link is followed.
        limit: Maximum size in bytes.

    Raises:
        NotFoundError: If the file does not exist.
        ZoojaxError: If it is not a regular file, is too large or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} is missing") from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    try:
        file = os.fdopen(descriptor, "rb")
    except OSError as error:  # a folder
        os.close(descriptor)
        raise _unreadable(path, error) from error
    with file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ZoojaxError(f"{path} is not a regular file")
        if status.st_size > limit:
            raise ZoojaxError(f"{path} has {status.st_size} bytes, more than the {limit} allowed")
        yield file


def read_bytes(path: Path, limit: int) -> bytes:
    """Reads a regular file.

    Args:
        path: The file.
        limit: Maximum size in bytes.

    Raises:
        NotFoundError: If the file does not exist.
        ZoojaxError: If it is not a regular file, is too large or cannot be read.
    """
    with opened(path, limit) as file:
        try:
            return file.read(limit + 1)
        except (OSError, MemoryError) as error:
            raise _unreadable(path, error) from error


def read_json(path: Path, limit: int = _JSON_LIMIT) -> Any:
    """Reads a JSON file strictly: UTF-8, no NaN, no duplicate keys.

    Args:
        path: The file.
        limit: Maximum size in bytes.

    Returns:
        The parsed value.

    Raises:
        NotFoundError: If the file does not exist.
        ZoojaxError: If it cannot be read or is not valid JSON.
    """
    try:
        return parse_json(read_bytes(path, limit))
    except ValueError as error:
        raise ZoojaxError(f"{path} is damaged or not JSON: {printable(error)}") from error


def parse_json(content: bytes | str) -> Any:
    """Parses JSON strictly: UTF-8, no NaN, no duplicate keys.

    Args:
        content: The text.

    Raises:
        ValueError: If it is not valid JSON.
    """

    def reject_constant(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    def reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            raise ValueError("duplicate key")
        return fields

    try:
        text = content.decode() if isinstance(content, bytes) else content
        return json.loads(text, parse_constant=reject_constant, object_pairs_hook=reject_duplicates)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_table(path: Path, columns: Sequence[str] | None = None) -> "pl.DataFrame":
    """Reads a Parquet file.

    Args:
        path: The file.
        columns: Columns to read; None for all.

    Raises:
        NotFoundError: If the file does not exist.
        ZoojaxError: If it is damaged, or larger than a zoo's table can be.
    """
    # Imported on use: they take a quarter of a second.
    import polars as pl
    import pyarrow.parquet

    with opened(path, _TABLE_LIMIT) as file:
        try:
            parquet = pyarrow.parquet.ParquetFile(file)
            metadata = parquet.metadata
            if not 0 <= metadata.num_rows <= _MAX_ROWS or metadata.num_columns > _MAX_COLUMNS:
                raise ValueError(f"{metadata.num_rows} rows of {metadata.num_columns} columns")
            arrow = parquet.read(columns=None if columns is None else list(columns))
            arrow.validate(full=True)
            names = [printable(name, 100) for name in arrow.column_names]
            if len(set(names)) < len(names) or (columns and names != list(columns)):
                raise ValueError(f"its columns are {', '.join(names) or 'none'}")
            if len(arrow) != metadata.num_rows:
                raise ValueError(f"{len(arrow)} rows instead of {metadata.num_rows}")
            # The schema's own metadata is dropped: nothing has validated it.
            plain = pyarrow.Table.from_arrays(arrow.columns, names=names)
            table = pl.from_arrow(plain)
        except (Exception, pl.exceptions.PanicException) as error:
            raise ZoojaxError(f"{path} is damaged: {first_line(error)}") from error
    assert isinstance(table, pl.DataFrame)
    return table


def _unreadable(path: Path, error: Exception) -> ZoojaxError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return ZoojaxError(f"{path} cannot be read: {printable(reason)}")
