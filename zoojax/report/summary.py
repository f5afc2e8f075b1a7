"""The few numbers at the head of the page."""

from typing import Any

import polars as pl

from zoojax.analysis import Analysis

_METHODS = {"mp": "MP", "vd": "VD"}
Card = dict[str, Any]


def percent(share: float | None, digits: int = 1) -> str:
    """A share as text."""
    return "–" if share is None else f"{100 * share:.{digits}f}%"


def cards(found: Analysis) -> list[Card]:
    """Title, lines [label, value] and a sentence each; fewer where less was found.

    Methods are compared at the highest pruning ratio whose mean accuracy stays within one
    standard deviation of the dense mean (else that of the smallest loss), or without a
    pruned twin at the last such epoch of variational dropout.
    """
    table = found.tables["trajectories"].filter(pl.col("test_acc_mean").is_not_null())
    dense = table.filter(pl.col("method") == "dense").sort("epoch")
    if dense.is_empty():
        return []
    begun = [t.config.parent.epoch for t in found.twins if t.config.parent is not None]
    first = dense.filter(pl.col("epoch").is_in(begun)).tail(1)
    base = (dense.tail(1) if first.is_empty() else first).row(0, named=True)
    result: list[Card] = [
        {
            "title": "Dense accuracy",
            "lines": [["dense", _spread(base, "test_acc")]],
            "about": f"Mean (std) of {base['members'] - base['diverged']} members at epoch "
            f"{base['epoch']}.",
        }
    ]
    chosen = {kind: _best(table, kind, base) for kind in _METHODS}
    if chosen["mp"] is not None:
        goal = chosen["mp"]["ratio"]
        chosen["vd"] = _nearest(table.filter(pl.col("method") == "vd"), "sparsity_mean", goal)
    elif chosen["vd"] is not None:
        goal = chosen["vd"]["sparsity_mean"]
    else:
        return result
    result.append(_traded(found, chosen, goal, base))
    result += _crossing(found)
    for name, make in (("agreement_summary", _agreement), ("correlation", _correlation)):
        if name in found.tables:
            result += make(found.tables[name], chosen, goal)
    return result


def _best(table: pl.DataFrame, kind: str, base: dict) -> dict | None:
    rows = table.filter(pl.col("method") == kind)
    if kind == "mp":
        rows = rows.filter(pl.col("epoch") == pl.col("epoch").max(), pl.col("ratio") > 0)
    if rows.is_empty():
        return None
    kept = rows.filter(pl.col("test_acc_mean") >= base["test_acc_mean"] - base["test_acc_std"])
    if kept.is_empty():
        return rows.sort("test_acc_mean", "sparsity_mean").row(-1, named=True)
    return kept.sort("sparsity_mean", "test_acc_mean").row(-1, named=True)


def _nearest(rows: pl.DataFrame, column: str, goal: float) -> dict | None:
    rows = rows.sort((pl.col(column) - goal).abs(), "epoch", nulls_last=True)
    return None if rows.is_empty() else rows.row(0, named=True)


def _spread(row: dict, name: str) -> str:
    mean, std = row[f"{name}_mean"], row[f"{name}_std"]
    return f"{percent(mean)} ({'–' if std is None else f'{100 * std:.1f}'})"


def _traded(found: Analysis, chosen: dict[str, dict | None], goal: float, base: dict) -> Card:
    """Accuracy of both methods at the chosen sparsity."""
    mp, vd = chosen["mp"], chosen["vd"]
    floor = base["test_acc_mean"] - base["test_acc_std"]
    what = "pruning ratio" if mp is not None else "sparsity of an epoch"
    tried = mp or vd
    assert tried is not None
    about = f"The highest {what} whose mean stays within a standard deviation of the dense."
    if tried["test_acc_mean"] < floor:
        about = f"The {what} that loses the least; none stays within a standard deviation."
    lines = [] if mp is None else [["MP", _spread(mp, "test_acc")]]
    matched = found.tables.get("methods", pl.DataFrame())
    if vd is not None:
        lines.append([f"VD, epoch {vd['epoch']}", _spread(vd, "test_acc")])
    if mp is not None and len(matched):
        row = _nearest(matched.with_columns(pl.lit(0).alias("epoch")), "sparsity", goal)
        if row is not None and row["vd_acc"] is not None:
            lines[-1] = ["VD", percent(row["vd_acc"])]
            about += (
                f" MP less VD: {100 * row['difference']:+.1f} points "
                f"[{100 * row['low']:.1f}, {100 * row['high']:.1f}]."
            )
    elif vd is not None and mp is not None:
        about += f" VD's sparsity there: {percent(vd['sparsity_mean'])}."
    return {"title": f"Accuracy at {percent(goal, 0)} sparsity", "lines": lines, "about": about}


def _crossing(found: Analysis) -> list[Card]:
    table = found.tables.get("crossing", pl.DataFrame())
    if table.is_empty():
        return []
    row = table.row(0, named=True)
    if row["above"] is None:
        about = "At none of the measured ratios does variational dropout overtake pruning."
        return [{"title": "Crossing", "lines": [["sparsity", "none"]], "about": about}]
    ends = [f"{100 * row[f'{side}_difference']:+.1f}" for side in ("above", "below")]
    return [
        {
            "title": "Crossing",
            "lines": [["sparsity", f"{_ratio(row['above'])} to {_ratio(row['below'])}"]],
            "about": "Between these two measured ratios variational dropout becomes the more "
            f"accurate: MP less VD is {ends[0]} points at the first and {ends[1]} at the second.",
        }
    ]


def _ratio(share: float) -> str:
    return f"{100 * share:.4g}%"


def _rows(
    table: pl.DataFrame, sparsity: str, chosen: dict[str, dict | None], goal: float
) -> list[tuple[str, dict]]:
    """Of each method the row at the chosen sparsity."""
    rows = []
    for kind, best in chosen.items():
        if best is None:
            continue
        part = table.filter(pl.col("method") == kind)
        if kind == "mp":
            part = part.filter(pl.col("epoch") == pl.col("epoch").max(), pl.col("ratio") == goal)
        row = _nearest(part, sparsity, goal)
        if row is not None:
            at = "" if kind == "mp" else f", epoch {row['epoch']}"
            rows.append((_METHODS[kind] + at, row))
    return rows


def _agreement(table: pl.DataFrame, chosen: dict, goal: float) -> list[Card]:
    lines = [
        [label, _spread(row, "agreement")]
        for label, row in _rows(table, "sparsity_mean", chosen, goal)
    ]
    return [
        {
            "title": f"Agreement with the parent at {percent(goal, 0)}",
            "lines": lines,
            "about": "Share of test images on which twin and parent predict the same class.",
        }
    ]


def _correlation(table: pl.DataFrame, chosen: dict, goal: float) -> list[Card]:
    lines = [
        [label, f"r {row['pearson']:.2f}, τ {row['kendall']:.2f}"]
        for label, row in _rows(table, "sparsity", chosen, goal)
        if row["pearson"] is not None
    ]
    if not lines:
        return []
    return [
        {
            "title": f"Accuracy before and after, at {percent(goal, 0)}",
            "lines": lines,
            "about": "Pearson's r and Kendall's tau over members.",
        }
    ]
