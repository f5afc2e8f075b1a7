"""Summary cards at the top of the page."""

from typing import Any

import polars as pl

from zoojax.analysis import Analysis

_METHODS = {"mp": "MP", "vd": "VD"}
Card = dict[str, Any]


def percent(fraction: float | None, digits: int = 1) -> str:
    """Formats a fraction in percent; a dash for None."""
    return "–" if fraction is None else f"{100 * fraction:.{digits}f}%"


def cards(analysis: Analysis) -> list[Card]:
    """Cards with a title, lines [label, value] and a sentence; as many as the tables allow.

    Methods are compared at the highest pruning ratio whose mean accuracy is within one
    standard deviation of the dense mean, else at the ratio that loses the least. Without a
    magnitude-pruned twin they are compared at the last such epoch of variational dropout.
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
    selected = {kind: _best(table, kind, base) for kind in _METHODS}
    if selected["mp"] is not None:
        target = selected["mp"]["ratio"]
        selected["vd"] = _nearest(table.filter(pl.col("method") == "vd"), "sparsity_mean", target)
    elif selected["vd"] is not None:
        target = selected["vd"]["sparsity_mean"]
    else:
        return result
    result.append(_tradeoff(analysis, selected, target, base))
    result += _crossover(analysis)
    for name, cards_of in (("agreement_summary", _agreement), ("correlation", _correlation)):
        if name in analysis.tables:
            result += cards_of(analysis.tables[name], selected, target)
    return result


def _best(table: pl.DataFrame, kind: str, base: dict) -> dict | None:
    rows = table.filter(pl.col("method") == kind)
    if kind == "mp":
        rows = rows.filter(pl.col("epoch") == pl.col("epoch").max(), pl.col("ratio") > 0)
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


def _tradeoff(
    analysis: Analysis, selected: dict[str, dict | None], target: float, base: dict
) -> Card:
    """Accuracy of both methods at the selected sparsity."""
    mp, vd = selected["mp"], selected["vd"]
    floor = base["test_acc_mean"] - base["test_acc_std"]
    what = "pruning ratio" if mp is not None else "sparsity of an epoch"
    compared = mp or vd
    assert compared is not None
    about = f"The highest {what} with a mean within one standard deviation of the dense mean."
    if compared["test_acc_mean"] < floor:
        about = f"The {what} that loses the least; none is within one standard deviation."
    lines = [] if mp is None else [["MP", _mean_std(mp, "test_acc")]]
    methods = analysis.tables.get("methods", pl.DataFrame())
    if vd is not None:
        lines.append([f"VD, epoch {vd['epoch']}", _mean_std(vd, "test_acc")])
    if mp is not None and len(methods):
        row = _nearest(methods.with_columns(pl.lit(0).alias("epoch")), "sparsity", target)
        if row is not None and row["vd_acc"] is not None:
            lines[-1] = ["VD", percent(row["vd_acc"])]
            about += (
                f" MP minus VD: {100 * row['difference']:+.1f} points "
                f"[{100 * row['low']:.1f}, {100 * row['high']:.1f}]."
            )
    elif vd is not None and mp is not None:
        about += f" VD's sparsity there: {percent(vd['sparsity_mean'])}."
    return {"title": f"Accuracy at {percent(target, 0)} sparsity", "lines": lines, "about": about}


def _crossover(analysis: Analysis) -> list[Card]:
    table = analysis.tables.get("crossing", pl.DataFrame())
    if table.is_empty():
        return []
    row = table.row(0, named=True)
    if row["above"] is None:
        about = "Variational dropout overtakes magnitude pruning at none of the measured ratios."
        return [{"title": "Crossover", "lines": [["sparsity", "none"]], "about": about}]
    ends = [f"{100 * row[f'{side}_difference']:+.1f}" for side in ("above", "below")]
    return [
        {
            "title": "Crossover",
            "lines": [["sparsity", f"{_ratio(row['above'])} to {_ratio(row['below'])}"]],
            "about": "Variational dropout becomes more accurate between these two measured ratios: "
            f"MP minus VD is {ends[0]} points at the first and {ends[1]} at the second.",
        }
    ]


def _ratio(fraction: float) -> str:
    return f"{100 * fraction:.4g}%"


def _rows(
    table: pl.DataFrame, sparsity: str, selected: dict[str, dict | None], target: float
) -> list[tuple[str, dict]]:
    """Label and row of each method at the selected sparsity."""
    rows = []
    for kind, best in selected.items():
        if best is None:
            continue
        part = table.filter(pl.col("method") == kind)
        if kind == "mp":
            part = part.filter(pl.col("epoch") == pl.col("epoch").max(), pl.col("ratio") == target)
        row = _nearest(part, sparsity, target)
        if row is not None:
            at = "" if kind == "mp" else f", epoch {row['epoch']}"
            rows.append((_METHODS[kind] + at, row))
    return rows


def _agreement(table: pl.DataFrame, selected: dict, target: float) -> list[Card]:
    lines = [
        [label, _mean_std(row, "agreement")]
        for label, row in _rows(table, "sparsity_mean", selected, target)
    ]
    return [
        {
            "title": f"Agreement with the parent at {percent(target, 0)}",
            "lines": lines,
            "about": "Fraction of test images for which twin and parent predict the same class.",
        }
    ]


def _correlation(table: pl.DataFrame, selected: dict, target: float) -> list[Card]:
    lines = [
        [label, f"r {row['pearson']:.2f}, τ {row['kendall']:.2f}"]
        for label, row in _rows(table, "sparsity", selected, target)
        if row["pearson"] is not None
    ]
    if not lines:
        return []
    return [
        {
            "title": f"Accuracy before and after, at {percent(target, 0)}",
            "lines": lines,
            "about": "Pearson's r and Kendall's tau over members.",
        }
    ]
