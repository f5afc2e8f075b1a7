"""Tables, lines and JSON for the terminal: population means, as the paper prints them.

Text that comes from files is shown as it is, made printable; none of it is markup.
"""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from zoojax.analysis.summaries import summary
from zoojax.storage.zoo import Zoo
from zoojax.text import printable

_PERCENT = ("train_acc", "val_acc", "test_acc", "ggap", "sparsity")
_CAPTION = "mean (std) over members, %; sparsity of weights, biases aside"
# Between two columns: a space, and one for where other tables have a line.
_GAP = 2
# Names up to here are on one line.
_LONGEST_NAME = 48
# Long enough for any path.
_LINE = 5000


class Column(NamedTuple):
    """A column of a table for the terminal.

    Attributes:
        name: its header.
        numeric: whether it is aligned to the right.
        folds: whether its words may go on several lines; other cells do from 48 characters on.
    """

    name: str
    numeric: bool = True
    folds: bool = False


def say(*lines: str) -> None:
    """Prints lines, each made printable."""
    for line in lines:
        print(printable(line, _LINE))


def show_json(content: object) -> None:
    """Prints JSON on standard output: numbers as numbers, null for what is not finite."""
    print(json.dumps(_plain(content), indent=2, allow_nan=False))


def _plain(content: object) -> object:
    """In the types of JSON; TypeError for what has none."""
    if isinstance(content, np.ndarray | np.generic):
        content = content.tolist()
    if isinstance(content, dict):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return str(content) if isinstance(content, Path) else content


def print_table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    title: str = "",
    caption: str = "",
    drop: Sequence[str] = (),
) -> None:
    """Prints a table that fits the terminal ($COLUMNS where that is set).

    Columns that do not fit are left out and named beneath. Nothing is cut: what is still
    too wide continues on the next line. Where neither a terminal nor $COLUMNS says how wide the
    output may be, the table is as wide as it needs to be.

    Args:
        columns: headers; the first column is never left out.
        rows: cells, by column.
        title: above.
        caption: beneath.
        drop: names of the columns that go first, in this order; the others go from the last.
    """
    title, caption = printable(title), printable(caption)
    cells = [[printable(cell) for cell in row] for row in rows]
    columns = [column._replace(name=printable(column.name)) for column in columns]
    pieces = [[column.name, *(row[i] for row in cells)] for i, column in enumerate(columns)]
    whole = [max(map(cell_len, texts)) for texts in pieces]
    least = [
        _longest_word(p) if c.folds else w for c, p, w in zip(columns, pieces, whole, strict=True)
    ]
    limit = _width()
    least = [min(width, _LONGEST_NAME) for width in least]
    kept = _kept([c.name for c in columns], least, limit, drop)
    widths = _widths([least[i] for i in kept], [whole[i] for i in kept], limit)
    table = Table(
        title=Text(title, "table.title") if title else None,
        caption=Text(caption, "table.caption") if caption else None,
        box=box.SIMPLE,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for i, width in zip(kept, widths, strict=True):
        side = "right" if columns[i].numeric else "left"
        table.add_column(Text(columns[i].name), justify=side, width=width, overflow="fold")
    for row in cells:
        table.add_row(*(Text(row[i]) for i in kept))
    _print(table, limit or max(_total(widths), cell_len(title), cell_len(caption)))
    left_out = [column.name for i, column in enumerate(columns) if i not in kept]
    if left_out:
        say(
            f"not shown in {limit} columns: {', '.join(left_out)} "
            "(a wider terminal or --json shows them)"
        )


def _longest_word(texts: Sequence[str]) -> int:
    return max(cell_len(word) for text in texts for word in text.split(" "))


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * len(widths)


def _kept(
    names: Sequence[str], least: Sequence[int], limit: int | None, drop: Sequence[str]
) -> list[int]:
    """The columns that fit a limit, by index."""
    kept = list(range(len(names)))
    first = [names.index(name) for name in drop if name in names]
    for i in [*first, *(i for i in reversed(kept) if i not in first)]:
        if limit is None or i == 0 or _total([least[k] for k in kept]) <= limit:
            continue
        kept.remove(i)
    return kept


def _widths(least: Sequence[int], whole: Sequence[int], limit: int | None) -> list[int]:
    """Widths of columns: the least, and what a limit leaves to those that could take it."""
    if limit is None:
        return list(whole)
    widths = [min(width, limit - _GAP) for width in least]
    left = limit - _total(widths)
    for i, wanted in enumerate(whole):
        more = min(left, max(0, wanted - widths[i]))
        widths[i] += more
        left -= more
    return [max(1, width) for width in widths]


def _width() -> int | None:
    """Columns of $COLUMNS or of the terminal; None where neither is known."""
    return shutil.get_terminal_size((0, 0)).columns or None


def _print(table: Table, width: int) -> None:
    """Prints what rich draws, through `print`: rich itself ends the process on a closed pipe."""
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(table)
    lines = capture.get().splitlines()
    print("\n".join(line.rstrip() for line in lines))


def show(zoo: Zoo, metrics: pl.DataFrame, *, as_json: bool, title: str) -> None:
    """Prints the summary of some of a zoo's metrics, as a table or as JSON."""
    table = summary(zoo, metrics)
    if as_json:
        show_json({"zoo": zoo.path, "rows": table.to_dicts()})
        return
    keys = [name for name in ("ratio", "epoch", "members") if name in table.columns]
    shown = [*_PERCENT]
    if table["sparsity_mean"].max():
        names = [column.removesuffix("_mean") for column in table.columns]
        shown += [name for name in names if name.startswith(("sparsity_conv", "sparsity_fc"))]
        shown = list(dict.fromkeys(name.removesuffix("_std") for name in shown))
    headers = [name.replace("sparsity_", "") for name in (*keys, *shown)]
    layers = headers[len(keys) + len(_PERCENT) :]
    print_table(
        [*map(Column, headers)],
        [
            [f"{row[key]:g}" for key in keys]
            + [_cell(row[f"{name}_mean"], row[f"{name}_std"]) for name in shown]
            for row in table.iter_rows(named=True)
        ],
        title=title,
        caption=_CAPTION,
        drop=(*reversed(layers), "val_acc", "train_acc"),
    )
    diverged = int(table["diverged"].sum())
    if diverged:
        say(f"{diverged} member states diverged (not finite) and are left out of the means")


def _cell(mean: float | None, std: float | None) -> str:
    return "-" if mean is None or std is None else f"{100 * mean:.1f} ({100 * std:.1f})"


def show_rows(table: pl.DataFrame) -> None:
    """Prints a frame as it is, floats to four digits."""
    columns = [Column(name, kind.is_numeric()) for name, kind in table.schema.items()]
    print_table(columns, [[*map(_value, row)] for row in table.iter_rows()])


def _value(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_comparison(
    title: str, first: str, rows: list[tuple[str, dict[str, tuple[float, float]]]], caption: str
) -> None:
    """Prints the means and standard deviations of several populations side by side.

    Args:
        title: of the table.
        first: what tells the rows apart.
        rows: (label, {population: (mean, std) of shares}); a population may lack rows.
        caption: beneath.
    """
    names = list(dict.fromkeys(name for _, cells in rows for name in cells))
    print_table(
        [*map(Column, (first, *names))],
        [
            [label, *(_cell(*cells.get(name, (None, None))) for name in names)]
            for label, cells in rows
        ],
        title=title,
        caption=caption,
    )


def comparison(dense: Zoo, *twins: Zoo) -> list[dict[str, Any]]:
    """A dense zoo and its twins at their last epochs: `summary` with the kind of each."""
    return [
        {"kind": zoo.config.kind, "zoo": zoo.path, **row}
        for zoo in (dense, *twins)
        for row in summary(zoo, zoo.metrics.filter(epoch=zoo.epochs[-1])).iter_rows(named=True)
    ]


def show_comparison(dense: Zoo, *twins: Zoo) -> None:
    """Prints a dense zoo and its twins at their last epochs in one table."""
    shown = ("test_acc", "ggap", "sparsity")
    rows = []
    for row in comparison(dense, *twins):
        label = {"dense": "dense", "vd": "variational dropout"}.get(row["kind"])
        label = label or f"magnitude pruning, {row['ratio']:.0%}"
        cells = (_cell(row[f"{name}_mean"], row[f"{name}_std"]) for name in shown)
        rows.append([label, str(row["epoch"]), *cells])
    print_table(
        [Column("population", numeric=False), *map(Column, ("epoch", *shown))],
        rows,
        title=f"{dense.config.name}: {len(dense)} members and their sparse twins",
        caption=_CAPTION,
    )
