"""Tables of an analysis as files: Parquet to compute with, CSV for spreadsheets."""

import io
from collections.abc import Callable
from pathlib import Path

import polars as pl

from zoojax.files import write_beside
from zoojax.text import for_csv, printable


def write_both(folder: Path, name: str, table: pl.DataFrame) -> None:
    """Writes a frame as `<name>.parquet` and `<name>.csv`; raises as `write_beside` does."""
    write_parquet(folder / f"{name}.parquet", table)
    write_csv(folder / f"{name}.csv", table)


def write_parquet(path: Path, table: pl.DataFrame, *, durable: bool = False) -> None:
    """Writes a frame as Parquet; raises as `write_beside` does.

    Args:
        path: the file.
        table: the frame.
        durable: wait for the disk; not needed for what can be made again.
    """
    _write(path, table.write_parquet, durable)


def write_csv(path: Path, table: pl.DataFrame) -> None:
    """Writes a frame as CSV in UTF-8; raises as `write_beside` does.

    Text becomes printable and is no formula to a spreadsheet. Lists become text.
    """
    plain = table.with_columns(
        pl.Series(name, [_text(value) for value in table[name].to_list()], pl.String)
        for name, kind in table.schema.items()
        if kind == pl.String or kind.is_nested()
    )
    plain = plain.rename({name: for_csv(printable(name)) for name in plain.columns})
    _write(path, plain.write_csv, durable=False)


def _write(path: Path, write: Callable[[io.BytesIO], object], durable: bool) -> None:
    # In memory first: where a disk refuses, polars raises errors of its own.
    content = io.BytesIO()
    write(content)
    write_beside(path, lambda file: file.write_bytes(content.getbuffer()), durable=durable)


def _text(value: object) -> str | None:
    return None if value is None else for_csv(printable(value))
