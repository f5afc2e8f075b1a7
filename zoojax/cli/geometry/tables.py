"""Prints and writes the tables of the geometry commands."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from zoojax.cli.terminal import Column, print_table
from zoojax.filesystem.atomic import make_folder
from zoojax.filesystem.paths import output_folder
from zoojax.filesystem.tables import write_both

_CAPTION = "means over members or pairs, with 95 % intervals in brackets"


def write(out: Path | None, tables: Mapping[str, pl.DataFrame]) -> None:
    """Writes tables as Parquet and CSV.

    Args:
        out: The folder; None writes nothing.
        tables: The tables by name.

    Raises:
        ZoojaxError: If the folder cannot be written.
    """
    if out is None:
        return
    folder = output_folder(out)
    make_folder(folder)
    for name, table in tables.items():
        write_both(folder, name, table)


def print_means(title: str, table: pl.DataFrame) -> None:
    """Prints a table with the ends of intervals in the cells of their means.

    Args:
        title: Title.
        table: The table; columns that are all null are left out.
    """
    names = [
        name
        for name in table.columns
        if not name.endswith(("_low", "_high")) and table[name].null_count() < len(table)
    ]
    rows = [[_cell(row, name) for name in names] for row in table.iter_rows(named=True)]
    columns = [Column(name.replace("_", " "), table.schema[name].is_numeric()) for name in names]
    print_table(columns, rows, title=title, caption=_CAPTION)


def _cell(row: dict, name: str) -> str:
    value, low, high = (row.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    text = f"{value:.4g}"
    return text if low is None or high is None else f"{text} [{low:.4g}, {high:.4g}]"
