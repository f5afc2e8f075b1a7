"""Reads the small tables and configs next to checkpoints: CSV, gzip, JSON, and flat YAML."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import MIB, exists, opened, read_bytes
from zoojax.text import printable

_MAX_TABLE_BYTES, _MAX_CONFIG_BYTES = 1024 * MIB, 16 * MIB
_MAX_COLUMNS, _MAX_CELLS = 10_000, 100_000_000
_MAX_NUMBER_LENGTH = 64
# Tables compress by a factor below 100, a zip bomb by more than 1000.
_MAX_RATIO = 400


def find_file(folder: Path, names: Sequence[str]) -> Path | None:
    """Returns the first of several files in a folder that exists and is not a link, or None."""
    for name in names:
        file = folder / name
        if exists(file) and not file.is_symlink() and file.is_file():
            return file
    return None


def read_rows(file: Path) -> list[dict[str, str]]:
    """Reads a CSV file, compressed with gzip or not.

    Args:
        file: The file.

    Returns:
        One dict per line, by the names in the first line.

    Raises:
        ZoojaxError: If it cannot be read, is too large, or its first line has no distinct names.
    """
    names, lines = _lines(file)
    return [dict(zip(names, line, strict=False)) for line in lines]


def read_columns(file: Path) -> dict[str, list[str]]:
    """Reads a CSV file with many lines, compressed with gzip or not.

    Args:
        file: The file.

    Returns:
        The texts of each column, by the names in the first line; "" where a line is too short.
        Equal texts of a column share one object.

    Raises:
        ZoojaxError: If it cannot be read, is too large, has too many cells, or its first line has
            no distinct names.
    """
    names, lines = _lines(file)
    columns: list[list[str]] = [[] for _ in names]
    known: list[dict[str, str]] = [{} for _ in names]
    for number, line in enumerate(lines, start=1):
        if number * len(names) > _MAX_CELLS:
            raise ZoojaxError(f"{printable(file)} has more than {_MAX_CELLS} cells")
        line += [""] * (len(names) - len(line))
        for column, texts, text in zip(columns, known, line, strict=False):
            column.append(texts.setdefault(text, text))
    return dict(zip(names, columns, strict=True))


def _lines(file: Path) -> tuple[list[str], Iterator[list[str]]]:
    """The names in the first line, and the cells of the others; empty lines are left out."""
    content = io.BytesIO(_content(file))
    lines = csv.reader(io.TextIOWrapper(content, "utf-8", errors="replace", newline=""))
    try:
        names = next(lines, [])
    except csv.Error as error:
        raise ZoojaxError(f"{printable(file)} is damaged: {printable(error, 100)}") from error
    if not names or len(set(names)) < len(names) or len(names) > _MAX_COLUMNS:
        raise ZoojaxError(f"{printable(file)} has no header line with distinct names")

    def others() -> Iterator[list[str]]:
        try:
            yield from (line for line in lines if line)
        except csv.Error as error:
            raise ZoojaxError(f"{printable(file)} is damaged: {printable(error, 100)}") from error

    return names, others()


def _content(file: Path) -> bytes:
    if file.suffix != ".gz":
        return read_bytes(file, _MAX_TABLE_BYTES)
    with opened(file, _MAX_TABLE_BYTES) as stream:
        size = file.stat().st_size
        limit = min(_MAX_TABLE_BYTES, _MAX_RATIO * size + MIB)
        try:
            with gzip.open(stream) as content:
                data = content.read(limit + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise ZoojaxError(f"{printable(file)} is damaged: {printable(error, 100)}") from error
    if len(data) > limit:
        raise ZoojaxError(f"{printable(file)} expands from {size} to more than {limit} bytes")
    return data


def read_config(file: Path) -> dict[str, Any]:
    """Reads a config: JSON, or the lines "name: value" of YAML.

    Args:
        file: The file.

    Raises:
        ZoojaxError: If it cannot be read, or is not an object.
    """
    content = read_bytes(file, _MAX_CONFIG_BYTES).decode(errors="replace")
    if file.suffix in (".yaml", ".yml"):
        pairs = (line.split("#")[0].partition(":") for line in content.splitlines())
        return {k: to_value(v.strip().strip("'\"")) for k, _, v in pairs if v and k == k.strip()}
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ZoojaxError(f"{printable(file)} is not JSON") from error
    if not isinstance(config, dict):
        raise ZoojaxError(f"{printable(file)} is not a JSON object")
    return config


def to_value(text: str) -> str | float | int:
    """Returns the number that a text is, otherwise the text."""
    if len(text) > _MAX_NUMBER_LENGTH:
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
