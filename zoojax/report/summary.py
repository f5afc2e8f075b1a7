"""Summary cards at the top of the page."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from zoojax.analysis import Analysis
from zoojax.analysis.results import Method
from zoojax.text import printable

Card = dict[str, Any]


@dataclass(frozen=True)
class _Selection:
    """Rows of table "trajectories" at which the methods are compared.

    Attributes:
        rows: The row of each twin that has one.
        reference: The twin at whose sparsity the others are compared.
        target: That sparsity, or pruning ratio.
    """

    rows: list[tuple[Method, dict]]
    reference: Method
    target: float


def percent(fraction: float | None, digits: int = 1) -> str:
    """Formats a fraction in percent; a dash for None."""
    return "–" if fraction is None else f"{100 * fraction:.{digits}f}%"


def cards(analysis: Analysis) -> list[Card]:
    """Cards with a title, lines [label, value] and a sentence; as many as the tables allow.

    Methods are compared at the highest pruning ratio whose mean accuracy is within one
    standard deviation of the dense mean, else at the ratio that loses the least: that of the
    first twin with pruning ratios. Without one they are compared at the highest such sparsity
    of an epoch of the first twin.
    """
    table = analysis.tables["trajectories"].filter(pl.col("test_acc_mean").is_not_null())
    dense = table.filter(pl.col("method") == "dense").sort("epoch")
    if dense.is_empty():
        return []
    starts = [t.config.parent.epoch for t in analysis.twins if t.config.parent is not None]
    first = dense.filter(pl.col("epoch").is_in(starts)).tail(1)
    base = (dense.tail(1) if first.is_empty() else first).row(0, named=True)
    result: list[Card] = [
        {
            "title": "Dense accuracy",
            "lines": [["dense", _mean_std(base, "test_acc")]],
            "about": f"Mean (std) of {base['members'] - base['diverged']} members at epoch "
            f"{base['epoch']}.",
        }
    ]
    selection = _select(analysis, table, base)
    if selection is None:
        return result
    result.append(_tradeoff(analysis, selection, base))
    result += _crossovers(analysis)
    for name, cards_of in (("agreement_summary", _agreement), ("correlation", _correlation)):
        if name in analysis.tables:
            result += cards_of(analysis.tables[name], selection)
    return result


def _select(analysis: Analysis, table: pl.DataFrame, base: dict) -> _Selection | None:
    """Selects the sparsity at which all twins are compared, and their rows there."""
    for reference in analysis.twin_methods("ratio") + analysis.twin_methods("epoch"):
        best = _best(table, reference, base)
        if best is None:
            continue
        target = best["ratio" if reference.sweep == "ratio" else "sparsity_mean"]
        rows = []
        for method in analysis.twin_methods():
            column = "ratio" if method.sweep == "ratio" else "sparsity_mean"
            nearest = _nearest(_candidates(table, method), column, target)
            row = best if method.key == reference.key else nearest
            if row is not None:
                rows.append((method, row))
        return _Selection(rows, reference, target)
    return None


def _candidates(table: pl.DataFrame, method: Method) -> pl.DataFrame:
    """Rows of a twin at which it may be compared: with pruning ratios only the last epoch."""
    rows = table.filter(pl.col("method") == method.key)
    if method.sweep == "ratio":
        rows = rows.filter(pl.col("epoch") == pl.col("epoch").max())
    return rows


def _best(table: pl.DataFrame, method: Method, base: dict) -> dict | None:
    rows = _candidates(table, method)
    if method.sweep == "ratio":
        rows = rows.filter(pl.col("ratio") > 0)
    if rows.is_empty():
        return None
    accurate = rows.filter(pl.col("test_acc_mean") >= base["test_acc_mean"] - base["test_acc_std"])
    if accurate.is_empty():
        return rows.sort("test_acc_mean", "sparsity_mean").row(-1, named=True)
    return accurate.sort("sparsity_mean", "test_acc_mean").row(-1, named=True)


def _nearest(rows: pl.DataFrame, column: str, target: float) -> dict | None:
    rows = rows.sort((pl.col(column) - target).abs(), "epoch", nulls_last=True)
    return None if rows.is_empty() else rows.row(0, named=True)


def _mean_std(row: dict, name: str) -> str:
    mean, std = row[f"{name}_mean"], row[f"{name}_std"]
    return f"{percent(mean)} ({'–' if std is None else f'{100 * std:.1f}'})"


def _tradeoff(analysis: Analysis, selection: _Selection, base: dict) -> Card:
    """Accuracy of all methods at the selected sparsity."""
    reference, target = selection.reference, selection.target
    floor = base["test_acc_mean"] - base["test_acc_std"]
    what = "pruning ratio" if reference.sweep == "ratio" else "sparsity of an epoch"
    compared = next(row for method, row in selection.rows if method.key == reference.key)
    about = f"The highest {what} with a mean within one standard deviation of the dense mean."
    if compared["test_acc_mean"] < floor:
        about = f"The {what} that loses the least; none is within one standard deviation."
    differences = {
        other.key: _nearest(rows.with_columns(pl.lit(0).alias("epoch")), "sparsity", target)
        for one, other, rows in analysis.by_pair("methods")
        if one.key == reference.key
    }
    lines = []
    for method, row in selection.rows:
        line = [_at_epoch(method, row), _mean_std(row, "test_acc")]
        difference = differences.get(method.key)
        if difference is not None and difference[method.acc_column] is not None:
            line = [method.short, percent(difference[method.acc_column])]
            about += (
                f" {reference.short} minus {method.short}: "
                f"{100 * difference['difference']:+.1f} points "
                f"[{100 * difference['low']:.1f}, {100 * difference['high']:.1f}]."
            )
        elif reference.sweep == "ratio" and method.sweep == "epoch" and not differences:
            about += f" {method.short}'s sparsity there: {percent(row['sparsity_mean'])}."
        lines.append(line)
    return {"title": f"Accuracy at {percent(target, 0)} sparsity", "lines": lines, "about": about}


def _at_epoch(method: Method, row: dict) -> str:
    """Label of a twin at an epoch; with pruning ratios, the epoch is always the last."""
    return method.short if method.sweep == "ratio" else f"{method.short}, epoch {row['epoch']}"


def _crossovers(analysis: Analysis) -> list[Card]:
    """One card for each pair of methods that are compared."""
    several, result = len(analysis.pairs()) > 1, []
    for one, other, table in analysis.by_pair("crossing"):
        row = table.row(0, named=True)
        title = f"Crossover of {one.short} and {other.short}" if several else "Crossover"
        name = printable(other.capitalized)
        if row["above"] is None:
            about = f"{name} overtakes {printable(one.label)} at none of the measured ratios."
            result.append({"title": title, "lines": [["sparsity", "none"]], "about": about})
            continue
        ends = [f"{100 * row[f'{side}_difference']:+.1f}" for side in ("above", "below")]
        about = (
            f"{name} becomes more accurate between these two measured ratios: {one.short} minus "
            f"{other.short} is {ends[0]} points at the first and {ends[1]} at the second."
        )
        between = f"{_ratio(row['above'])} to {_ratio(row['below'])}"
        result.append({"title": title, "lines": [["sparsity", between]], "about": about})
    return result


def _ratio(fraction: float) -> str:
    return f"{100 * fraction:.4g}%"


def _rows(table: pl.DataFrame, sparsity: str, selection: _Selection) -> list[tuple[str, dict]]:
    """Label and row of each method at the selected sparsity."""
    rows = []
    for method, selected in selection.rows:
        part = table.filter(pl.col("method") == method.key)
        if method.sweep == "ratio":
            part = part.filter(
                pl.col("epoch") == pl.col("epoch").max(), pl.col("ratio") == selected["ratio"]
            )
        row = _nearest(part, sparsity, selection.target)
        if row is not None:
            rows.append((_at_epoch(method, row), row))
    return rows


def _agreement(table: pl.DataFrame, selection: _Selection) -> list[Card]:
    lines = [
        [label, _mean_std(row, "agreement")]
        for label, row in _rows(table, "sparsity_mean", selection)
    ]
    return [
        {
            "title": f"Agreement with the parent at {percent(selection.target, 0)}",
            "lines": lines,
            "about": "Fraction of test images for which twin and parent predict the same class.",
        }
    ]


def _correlation(table: pl.DataFrame, selection: _Selection) -> list[Card]:
    lines = [
        [label, f"r {row['pearson']:.2f}, τ {row['kendall']:.2f}"]
        for label, row in _rows(table, "sparsity", selection)
        if row["pearson"] is not None
    ]
    if not lines:
        return []
    return [
        {
            "title": f"Accuracy before and after, at {percent(selection.target, 0)}",
            "lines": lines,
            "about": "Pearson's r and Kendall's tau over members.",
        }
    ]
