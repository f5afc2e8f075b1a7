"""Prints the tables of the geometry commands."""

import polars as pl

from zoojax.cli.terminal import Column, print_table

_CAPTION = "means over members or pairs, with 95 % intervals in brackets"


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
