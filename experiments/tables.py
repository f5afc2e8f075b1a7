"""Tables for the terminal: population means, as the paper prints them."""

import json
import math
import sys

import polars as pl
from rich.console import Console
from rich.table import Table

from zoojax.analysis.trajectories import summary
from zoojax.zoo import Zoo

_PERCENT = ("train_acc", "val_acc", "test_acc", "ggap", "sparsity")


def show(zoo: Zoo, metrics: pl.DataFrame, *, as_json: bool, title: str) -> None:
    """Prints the summary of some of a zoo's metrics, as a table or as JSON."""
    table = summary(zoo, metrics)
    if as_json:
        show_json({"zoo": str(zoo.path), "rows": table.to_dicts()})
        return
    rich = Table(
        title=title, caption="mean (std) over members, %; sparsity of weights, biases aside"
    )
    keys = [name for name in ("ratio", "epoch", "members") if name in table.columns]
    shown = [*_PERCENT]
    if table["sparsity_mean"].max():
        shown += [
            c.removesuffix("_mean")
            for c in table.columns
            if c.startswith("sparsity_conv") or c.startswith("sparsity_fc")
        ]
        shown = list(dict.fromkeys(s.removesuffix("_std") for s in shown))
    for name in (*keys, *shown):
        rich.add_column(name.replace("sparsity_", ""), justify="right")
    for row in table.iter_rows(named=True):
        cells = [f"{row[k]:g}" for k in keys]
        cells += [_cell(row[f"{name}_mean"], row[f"{name}_std"]) for name in shown]
        rich.add_row(*cells)
    Console(width=None if sys.stdout.isatty() else 160).print(rich)
    diverged = int(table["diverged"].sum())
    if diverged:
        print(f"{diverged} member states diverged (not finite) and are left out of the means")


def show_json(content: object) -> None:
    """Prints JSON on standard output; what is not finite becomes null."""
    print(json.dumps(_finite(content), indent=2, default=str, allow_nan=False))


def _finite(content: object) -> object:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _cell(mean: float | None, std: float | None) -> str:
    return "-" if mean is None or std is None else f"{100 * mean:.1f} ({100 * std:.1f})"


def show_rows(table: pl.DataFrame) -> None:
    """Prints a frame as it is, floats to four digits."""
    rich = Table()
    for name, kind in table.schema.items():
        rich.add_column(name, justify="right" if kind.is_numeric() else "left")
    for row in table.iter_rows():
        rich.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row))
    Console(width=None if sys.stdout.isatty() else 240).print(rich)


def show_beside(
    title: str, first: str, rows: list[tuple[str, dict[str, tuple[float, float]]]], caption: str
) -> None:
    """Prints the means and standard deviations of several populations side by side.

    Args:
        title: of the table.
        first: what tells the rows apart.
        rows: (label, {population: (mean, std) of shares}); a population may lack rows.
        caption: beneath.
    """
    rich = Table(title=title, caption=caption)
    rich.add_column(first, justify="right")
    names = list(dict.fromkeys(name for _, cells in rows for name in cells))
    for name in names:
        rich.add_column(name, justify="right")
    for label, cells in rows:
        rich.add_row(label, *(_cell(*cells.get(name, (None, None))) for name in names))
    Console(width=None if sys.stdout.isatty() else 160).print(rich)


def show_comparison(dense: Zoo, *twins: Zoo) -> None:
    """Prints a dense zoo and its twins at their last epochs in one table."""
    rich = Table(
        title=f"{dense.config.name}: {len(dense)} members and their sparse twins",
        caption="mean (std) over members, %; sparsity of weights, biases aside",
    )
    rich.add_column("population")
    shown = ("test_acc", "ggap", "sparsity")
    for name in ("epoch", *shown):
        rich.add_column(name, justify="right")
    for zoo in (dense, *twins):
        last = summary(zoo, zoo.metrics.filter(epoch=zoo.epochs[-1]))
        for row in last.iter_rows(named=True):
            label = {"dense": "dense", "vd": "variational dropout"}.get(zoo.config.kind)
            label = label or f"magnitude pruning, {row['ratio']:.0%}"
            cells = (_cell(row[f"{name}_mean"], row[f"{name}_std"]) for name in shown)
            rich.add_row(label, str(row["epoch"]), *cells)
    Console(width=None if sys.stdout.isatty() else 120).print(rich)
