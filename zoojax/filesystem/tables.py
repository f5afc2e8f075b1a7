"""Tables of an analysis as files: Parquet to compute with, CSV for spreadsheets."""

from pathlib import Path

import polars as pl

from zoojax.filesystem.atomic import atomic_write, write_table
from zoojax.text import for_csv, printable


def write_both(folder: Path, name: str, table: pl.DataFrame) -> None:
    """Writes a frame as `<name>.parquet` and `<name>.csv`; raises as `write_beside` does."""
    # Both can be made again: there is no need to wait for the disk.
    write_table(folder / f"{name}.parquet", table, durable=False)
    write_csv(folder / f"{name}.csv", table)


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
    content = plain.write_csv().encode()
    atomic_write(path, lambda file: file.write_bytes(content), durable=False)


def _text(value: object) -> str | None:
    return None if value is None else for_csv(printable(value))
