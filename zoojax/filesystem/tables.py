"""Writes tables as Parquet (for computing) and CSV (for spreadsheets)."""

from pathlib import Path

import polars as pl

from zoojax.filesystem.atomic import atomic_write, write_table
from zoojax.text import for_csv, printable


def write_both(folder: Path, name: str, table: pl.DataFrame) -> None:
    """Writes a table as `<name>.parquet` and `<name>.csv`.

    Args:
        folder: The folder, which exists.
        name: File name without suffix.
        table: The table.

    Raises:
        ZoojaxError: If a file cannot be written.
    """
    # Both can be recreated from the zoo, so there is no need to wait for the disk.
    write_table(folder / f"{name}.parquet", table, durable=False)
    write_csv(folder / f"{name}.csv", table)


def write_csv(path: Path, table: pl.DataFrame) -> None:
    """Writes a table as CSV in UTF-8.

    Text is made printable and escaped for spreadsheets (see `zoojax.text.for_csv`). Lists are
    converted to text.

    Args:
        path: The file.
        table: The table.

    Raises:
        ZoojaxError: If the file cannot be written.
    """
    plain = table.with_columns(
        pl.Series(name, [_to_text(value) for value in table[name].to_list()], pl.String)
        for name, kind in table.schema.items()
        if kind == pl.String or kind.is_nested()
    )
    plain = plain.rename({name: for_csv(printable(name)) for name in plain.columns})
    content = plain.write_csv().encode()
    atomic_write(path, lambda file: file.write_bytes(content), durable=False)


def _to_text(value: object) -> str | None:
    return None if value is None else for_csv(printable(value))
