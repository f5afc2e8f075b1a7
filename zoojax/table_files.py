"""Tables of an analysis as files: Parquet to compute with, CSV for spreadsheets."""

import io
from pathlib import Path

import polars as pl

from zoojax.files import write_beside, write_table
from zoojax.text import for_csv, printable


def write_both(folder: Path, name: str, table: pl.DataFrame) -> None:
    """Writes a frame as `<name>.parquet` and `<name>.csv`; raises as `write_beside` does."""
    # Each is made again from the zoos: nothing to wait for the disk for.
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
    # In memory first: polars raises errors of its own where a disk refuses.
    content = io.BytesIO()
    plain.rename({name: for_csv(printable(name)) for name in plain.columns}).write_csv(content)
    write_beside(path, lambda file: file.write_bytes(content.getvalue()), durable=False)


def _text(value: object) -> str | None:
    return None if value is None else for_csv(printable(value))
