"""Tables of an analysis as the page shows them: columns with a kind, means with their std."""

import math
from typing import Any

import polars as pl

from zoojax.analysis import Analysis
from zoojax.text import printable

_MOST = 200
_PAPER = "paper"
# Title and one line with the source of each table, in the order of the page.
_ABOUT = {
    _PAPER: (
        "The paper's numbers beside ours",
        "Mean (std) over members as the paper prints them, and ours; variational dropout at the "
        "epoch, or the epoch of the nearest sparsity, that the paper gives. Shaded: further "
        "from the paper's mean than its own standard deviation.",
    ),
    "trajectories": (
        "Trajectories",
        "Mean (std) over members whose numbers are finite; gap = train - test accuracy. Tables 5 "
        "and 6 of the paper.",
    ),
    "layer_sparsity": (
        "Sparsity of layers",
        "Share of a layer's weights, biases aside, that are zero: mean (std) over members. Tables "
        "7 and 8 and Figure 4 of the paper.",
    ),
    "agreement_summary": (
        "Agreement of twins with their parents",
        "Share of test images for which twin and parent predict the same class: mean (std) over "
        "members. Equation 1, Tables 1 and 9 of the paper.",
    ),
    "correlation": (
        "Correlation of accuracy before and after",
        "Pearson's r and Kendall's tau-b of test accuracy before and after sparsification, with "
        "95% bootstrap intervals over members. Table 2 of the paper.",
    ),
    "methods": (
        "Methods at equal sparsity",
        "Accuracy of magnitude pruning less that of variational dropout where each member first "
        "reaches the sparsity, linear between epochs; 95% bootstrap interval of the difference. "
        "Not in the paper.",
    ),
    "crossing": (
        "Where the methods cross",
        "Above and below: the neighbouring measured ratios between which variational dropout "
        "becomes the more accurate, and the mean difference (MP less VD) at each. Not in the "
        "paper.",
    ),
    "friendliness": (
        "Friendly and hard members",
        "change = twin's test accuracy - parent's; rank 1 lost the least of its method and "
        "ratio; the best tenth is friendly, the worst hard. Not in the paper.",
    ),
    "consistency": (
        "Friendly here, friendly there?",
        "Kendall's tau-b of the members' changes in two populations, and the share of the "
        "first's friendly tenth that is friendly in the other (chance: 10%). Not in the paper.",
    ),
    "predictability": (
        "Predicted before sparsifying",
        "Ridge regression on each layer's weight statistics, and linear regression on dense "
        "accuracy, five-fold cross-validated: R² and Kendall's tau of prediction and truth. Not "
        "in the paper.",
    ),
    "hyperparameters": (
        "By hyper-parameter",
        "Members of the newest epoch by the value of each hyper-parameter that varies: mean "
        "(std). Not in the paper.",
    ),
    "change_by_hyperparameters": (
        "Before and after, by hyper-parameter",
        "Accuracy before and after sparsification, its change (mean and std over members), and "
        "their correlation within the group. Not in the paper.",
    ),
    "representation_summary": (
        "Hyper-representation",
        "R² of weights and alphas reconstructed, and of ridge probes of properties from "
        "embeddings, raw weights, and layer statistics, on members held out. Table 3 of the "
        "paper.",
    ),
    "representation_reconstruction": (
        "Reconstruction by layer",
        "R² about each layer's own mean, by part of the split: weights in units of their layer's "
        "deviation, alphas on the scale of the loss, log alphas as they are.",
    ),
    "representation_properties": (
        "Probes of properties",
        "Ridge regression, its penalty (lambda) chosen on validation members: R² and Kendall's "
        "tau on members held out.",
    ),
}
_LABELS = {
    "test_acc": "test accuracy",
    "train_acc": "train accuracy",
    "val_acc": "validation accuracy",
    "dense_acc": "dense accuracy",
    "mp_acc": "MP accuracy",
    "vd_acc": "VD accuracy",
    "ggap": "gap",
    "pearson": "Pearson's r",
    "kendall": "Kendall's tau",
    "r2": "R²",
    "tau": "Kendall's tau",
    "parent_id": "parent",
}
_KINDS = {
    **dict.fromkeys(("pearson", "kendall", "tau", "r2"), "coefficient"),
    **dict.fromkeys(("difference", "above_difference", "below_difference"), "points"),
    "change": "points",
    **dict.fromkeys(("ratio", "other_ratio", "above", "below"), "ratio"),
}
# Columns whose text names methods, or quantities.
_METHODS, _QUANTITIES = ("method", "other_method"), ("quantity", "target", "property")
# Shares in [0, 1]; any other float, such as a hyper-parameter, is written as it is.
_SHARES = (
    "weights",
    "alphas",
    "accuracy",
    "epoch",
    "ggap",
    "agreement",
    "mean",
    "paper",
    "ours",
    "friendly_in_both",
)


def number(value: Any) -> Any:
    """A value as JSON may hold it: no NaN; floats to four digits, small ones to four of theirs."""
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return float(f"{value:.4g}") if abs(value) < 0.01 else round(value, 4)


def tables(found: Analysis) -> list[dict[str, Any]]:
    """The tables that were found, in the order of the page."""
    return [
        _table(name, found.tables[name])
        for name in _ABOUT
        if name in found.tables and len(found.tables[name])
    ]


def _table(name: str, table: pl.DataFrame) -> dict[str, Any]:
    title, about = _ABOUT[name]
    if name == "friendliness" and len(table) > _MOST:
        about += f" {_MOST} of {len(table)} rows: half of the best ranks, half of the worst."
        table = table.sort("rank", "method", "ratio")
        table = pl.concat([table.head(_MOST // 2), table.tail(_MOST // 2)])
    # Without pruned twins no row has a ratio.
    empty = [c for c in ("ratio", "other_ratio") if c in table.columns and _nothing(table[c])]
    table = table.drop(empty)
    result = {"name": name, "title": title, "about": about, "rows": len(table)}
    result["columns"] = _columns(table)
    if name == _PAPER:
        off = (pl.col("difference").abs() > pl.col("paper_std")).fill_null(False)
        result["shaded"] = {"column": "difference", "rows": table.select(off).to_series().to_list()}
    return result


def _nothing(column: pl.Series) -> bool:
    return column.null_count() == len(column)


def _columns(table: pl.DataFrame) -> list[dict[str, Any]]:
    """Columns; `<x>_std` goes with `<x>_mean`, and ends of an interval with what they are of."""
    names, result = table.columns, []
    for position, name in enumerate(names):
        after = names[position + 1 :]
        if name in ("std", "low", "high") or name.endswith(("_std", "_low", "_high")):
            continue
        stem = name.removesuffix("_mean")
        column: dict[str, Any] = {"name": stem, "label": _label(stem), "kind": _kind(table, stem)}
        column["values"] = _values(table[name])
        for spread in (f"{stem}_std", "std" if name == "mean" else ""):
            if spread in after:
                column["spread"] = _values(table[spread])
        for low, high in ((f"{name}_low", f"{name}_high"), ("low", "high")):
            if low in after and (low != "low" or after[0] == "low"):
                column |= {"low": _values(table[low]), "high": _values(table[high])}
        if name == "mean":
            column |= {"name": "sparsity", "label": "sparsity"}
        result.append(column)
    return result


def _values(column: pl.Series) -> list[Any]:
    values = [number(value) for value in column.to_list()]
    if column.name in _METHODS:
        return [value.upper() if value in ("mp", "vd") else value for value in values]
    if column.name in _QUANTITIES:
        return [value and printable(_label(value)) for value in values]
    return [printable(value) if isinstance(value, str) else value for value in values]


def _label(name: str) -> str:
    return _LABELS.get(name) or name.replace("_", " ")


def _kind(table: pl.DataFrame, name: str) -> str:
    """How the page writes a column: "text", "whole", "share", "plain", one of `_KINDS`."""
    dtype = table.schema.get(name)
    if dtype is not None and not dtype.is_numeric():
        return "text"
    if dtype is not None and dtype.is_integer():
        return "whole"
    share = name in _SHARES or name.endswith("_acc") or name.startswith("sparsity")
    return _KINDS.get(name, "share" if share else "plain")
