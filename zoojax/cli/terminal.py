"""Tables, lines and JSON for the terminal.

Text from files is escaped where it is not printable, and never interpreted as markup.
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

from zoojax.analysis.summaries import summarized_metrics, summary
from zoojax.storage.zoo import Zoo
from zoojax.tasks import DECIBEL, SPARSITY
from zoojax.text import printable

_CAPTION = "mean (std) over members, %; sparsity of weights, without biases"
_CAPTION_DECIBEL = "mean (std) over members; PSNR in dB, sparsity of weights (without biases) in %"
# Characters between two columns.
_GAP = 2
# Longer cells are folded even in columns that do not fold.
_MAX_UNFOLDED = 48
# Maximum length of a line: long enough for any path.
_MAX_LINE = 5000


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        name: header.
        numeric: whether cells are aligned to the right.
        folds: whether cells may be folded between words; other columns fold only cells that are
            longer than 48 characters.
    """

    name: str
    numeric: bool = True
    folds: bool = False


def say(*lines: str) -> None:
    """Prints lines, with unprintable characters escaped."""
    for line in lines:
        print(printable(line, _MAX_LINE))


def show_json(content: object) -> None:
    """Prints JSON on standard output, with null for numbers that are not finite."""
    print(json.dumps(_to_json(content), indent=2, allow_nan=False))


def _to_json(content: object) -> object:
    """Converts NumPy values, paths and tuples to types of JSON."""
    if isinstance(content, np.ndarray | np.generic):
        content = content.tolist()
    if isinstance(content, dict):
        return {str(key): _to_json(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_to_json(value) for value in content]
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
    """Prints a table that fits the terminal, or $COLUMNS if that is set.

    Columns that do not fit are dropped and named below the table. Cells are never truncated:
    those that are still too wide are folded. If the width of the terminal is unknown, the
    table has its natural width.

    Args:
        columns: columns of the table; the first one is never dropped.
        rows: cells by row and column.
        title: title above the table.
        caption: caption below the table.
        drop: names of the columns to drop first, in this order; after them the others are
            dropped from the right.
    """
    title, caption = printable(title), printable(caption)
    cells = [[printable(cell) for cell in row] for row in rows]
    columns = [column._replace(name=printable(column.name)) for column in columns]
    texts = [[column.name, *(row[i] for row in cells)] for i, column in enumerate(columns)]
    natural = [max(map(cell_len, column_texts)) for column_texts in texts]
    minimal = [
        min(_longest_word(column_texts) if column.folds else width, _MAX_UNFOLDED)
        for column, column_texts, width in zip(columns, texts, natural, strict=True)
    ]
    limit = _terminal_width()
    shown = _fitting_columns([c.name for c in columns], minimal, limit, drop)
    widths = _column_widths([minimal[i] for i in shown], [natural[i] for i in shown], limit)
    table = Table(
        title=Text(title, "table.title") if title else None,
        caption=Text(caption, "table.caption") if caption else None,
        box=box.SIMPLE,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for i, width in zip(shown, widths, strict=True):
        side = "right" if columns[i].numeric else "left"
        table.add_column(Text(columns[i].name), justify=side, width=width, overflow="fold")
    for row in cells:
        table.add_row(*(Text(row[i]) for i in shown))
    _print(table, limit or max(_total(widths), cell_len(title), cell_len(caption)))
    dropped = [column.name for i, column in enumerate(columns) if i not in shown]
    if dropped:
        say(
            f"not shown in {limit} columns: {', '.join(dropped)} "
            "(a wider terminal or --json shows them)"
        )


def _longest_word(texts: Sequence[str]) -> int:
    return max(cell_len(word) for text in texts for word in text.split(" "))


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * len(widths)


def _fitting_columns(
    names: Sequence[str], minimal: Sequence[int], limit: int | None, drop: Sequence[str]
) -> list[int]:
    """Returns the indices of the columns that fit into a limit with their minimal widths."""
    fitting = list(range(len(names)))
    first = [names.index(name) for name in drop if name in names]
    for i in [*first, *(i for i in reversed(fitting) if i not in first)]:
        if limit is None or i == 0 or _total([minimal[k] for k in fitting]) <= limit:
            continue
        fitting.remove(i)
    return fitting


def _column_widths(minimal: Sequence[int], natural: Sequence[int], limit: int | None) -> list[int]:
    """Returns column widths: minimal ones, widened from left to right as far as a limit allows."""
    if limit is None:
        return list(natural)
    widths = [min(width, limit - _GAP) for width in minimal]
    left = limit - _total(widths)
    for i, wanted in enumerate(natural):
        more = min(left, max(0, wanted - widths[i]))
        widths[i] += more
        left -= more
    return [max(1, width) for width in widths]


def _terminal_width() -> int | None:
    """Returns $COLUMNS or the width of the terminal; None if neither is known."""
    return shutil.get_terminal_size((0, 0)).columns or None


def _print(table: Table, width: int) -> None:
    """Prints a table with `print`: printing with rich would end the process on a broken pipe."""
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(table)
    lines = capture.get().splitlines()
    print("\n".join(line.rstrip() for line in lines))


def show(zoo: Zoo, metrics: pl.DataFrame, *, as_json: bool, title: str) -> None:
    """Prints means over members as a table or as JSON.

    Args:
        zoo: the zoo.
        metrics: some rows of its metrics.
        as_json: whether to print JSON.
        title: title of the table.
    """
    table = summary(zoo, metrics)
    if as_json:
        show_json({"zoo": zoo.path, "rows": table.to_dicts()})
        return
    keys = [*zoo.config.sparsifier.per_member.values(), "epoch", "members"]
    measured = summarized_metrics(zoo)
    shown = [*measured]
    if table["sparsity_mean"].max():
        names = [column.removesuffix("_mean") for column in table.columns]
        shown += [name for name in names if name.startswith(("sparsity_conv", "sparsity_fc"))]
        shown = list(dict.fromkeys(name.removesuffix("_std") for name in shown))
    headers = [name.replace("sparsity_", "") for name in (*keys, *shown)]
    units = _scales(zoo)
    layers = headers[len(keys) + len(measured) :]
    print_table(
        [*map(Column, headers)],
        [
            [f"{row[key]:g}" for key in keys]
            + [
                _cell(row[f"{name}_mean"], row[f"{name}_std"], units.get(name, 100))
                for name in shown
            ]
            for row in table.iter_rows(named=True)
        ],
        title=title,
        caption=_caption(zoo),
        drop=(*reversed(layers), "val_acc", "train_acc"),
    )
    diverged = int(table["diverged"].sum())
    if diverged:
        say(f"{diverged} member states diverged (not finite) and are excluded from the means")


def _scales(zoo: Zoo) -> dict[str, int]:
    """Factors from the values of metrics to what is shown."""
    return {metric.name: metric.scale for metric in zoo.config.shape.task.metrics}


def _caption(zoo: Zoo) -> str:
    decibel = any(metric.unit == DECIBEL for metric in zoo.config.shape.task.metrics)
    return _CAPTION_DECIBEL if decibel else _CAPTION


def _cell(mean: float | None, std: float | None, scale: int = 100) -> str:
    return "-" if mean is None or std is None else f"{scale * mean:.1f} ({scale * std:.1f})"


def show_rows(table: pl.DataFrame) -> None:
    """Prints the rows of a frame, with four significant digits."""
    columns = [Column(name, kind.is_numeric()) for name, kind in table.schema.items()]
    print_table(columns, [[*map(_format, row)] for row in table.iter_rows()])


def _format(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_comparison(
    title: str, first: str, rows: list[tuple[str, dict[str, tuple[float, float]]]], caption: str
) -> None:
    """Prints the means and standard deviations of several populations, one per column.

    Args:
        title: title of the table.
        first: header of the row labels.
        rows: (label, {population: (mean, std)}), as fractions; a population may lack rows.
        caption: caption of the table.
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
    """Returns method, path and `summary` of a dense zoo and its twins, at their last epochs."""
    return [
        {"kind": zoo.config.sparsifier.method, "zoo": zoo.path, **row}
        for zoo in (dense, *twins)
        for row in summary(zoo, zoo.metrics.filter(epoch=zoo.epochs[-1])).iter_rows(named=True)
    ]


def _setting(zoo: Zoo, row: dict[str, Any]) -> str:
    """Names the options of a row of `summary`, such as ", 80%" or ", penalty 0.001"."""
    sparsifier, text = zoo.config.sparsifier, ""
    for name in sparsifier.per_member.values():
        if name != "ratio":
            text += f", {name} {row[name]:g}"
        else:
            of = sparsifier.ratio_of
            text += f", {row[name]:.0%}{'' if of == 'weights' else f' of {of}'}"
    return text


def show_comparison(dense: Zoo, *twins: Zoo) -> None:
    """Prints the metrics of a dense zoo and its twins at their last epochs in one table."""
    task = dense.config.shape.task
    shown = (*dict.fromkeys((task.score, task.summarized[-1])), SPARSITY.name)
    scales = _scales(dense)
    labels = [zoo.config.sparsifier.label for zoo in (dense, *twins)]
    rows = []
    for zoo, label in zip((dense, *twins), labels, strict=True):
        if labels.count(label) > 1:
            label = f"{label} ({zoo.path.name})"
        for row in comparison(zoo):
            population = f"{label}{_setting(zoo, row)}"
            cells = (
                _cell(row[f"{name}_mean"], row[f"{name}_std"], scales.get(name, 100))
                for name in shown
            )
            rows.append([population, str(row["epoch"]), *cells])
    print_table(
        [Column("population", numeric=False), *map(Column, ("epoch", *shown))],
        rows,
        title=f"{dense.config.name}: {len(dense)} members and their sparse twins",
        caption=_caption(dense),
    )
