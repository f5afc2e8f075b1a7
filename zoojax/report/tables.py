"""Formats the tables of an analysis for the page: typed columns, means with their std."""

import math
from typing import Any

import polars as pl

from zoojax.analysis import Analysis
from zoojax.text import printable

_MAX_ROWS = 200
_PAPER = "paper"
# Title and description of each table, in the order of the page.
_DESCRIPTIONS = {
    _PAPER: (
        "Comparison with the paper",
        "Mean (std) over members in the paper and in this analysis. Variational dropout is "
        "compared at the epoch that the paper gives, or at the epoch with the nearest sparsity. "
        "Shaded: the difference exceeds the paper's standard deviation.",
    ),
    "trajectories": (
        "Trajectories",
        "Mean (std) over finite members; gap = train - test accuracy. Tables 5 and 6 of the paper.",
    ),
    "layer_sparsity": (
        "Sparsity of layers",
        "Fraction of a layer's weights (without biases) that are zero: mean (std) over members. "
        "Tables 7 and 8 and Figure 4 of the paper.",
    ),
    "agreement_summary": (
        "Agreement of twins with their parents",
        "Fraction of test images for which twin and parent predict the same class: mean (std) over "
        "members. Equation 1, Tables 1 and 9 of the paper.",
    ),
    "correlation": (
        "Correlation of accuracy before and after",
        "Pearson's r and Kendall's tau-b of test accuracy before and after sparsification, with "
        "95% bootstrap intervals over members. Table 2 of the paper.",
    ),
    "methods": (
        "Methods at equal sparsity",
        "Accuracy of magnitude pruning minus that of variational dropout where each member first "
        "reaches the sparsity, interpolated linearly between epochs; 95% bootstrap interval of "
        "the difference. Not in the paper.",
    ),
    "crossing": (
        "Crossover of the methods",
        "Above and below: the neighboring measured ratios between which variational dropout "
        "becomes more accurate, and the mean difference (MP minus VD) at each. Not in the paper.",
    ),
    "friendliness": (
        "Prunability of members",
        "change = test accuracy of the twin - that of its parent. Rank 1 lost the least within "
        "its method and ratio. Group: friendly for the tenth that lost the least, hard for the "
        "tenth that lost the most. Not in the paper.",
    ),
    "consistency": (
        "Rank consistency",
        "Kendall's tau-b of the members' changes in two populations, and the fraction of the "
        "first population's friendly members that are also friendly in the other (chance: 10%). "
        "Not in the paper.",
    ),
    "predictability": (
        "Predictability from the dense zoo",
        "Ridge regression on each layer's weight statistics, and linear regression on dense "
        "accuracy, five-fold cross-validated: R² and Kendall's tau of predicted and true values. "
        "Not in the paper.",
    ),
    "hyperparameters": (
        "By hyperparameter",
        "Metrics of the last epoch by the value of each hyperparameter that varies: mean (std). "
        "Not in the paper.",
    ),
    "change_by_hyperparameters": (
        "Before and after, by hyperparameter",
        "Accuracy before and after sparsification, its change (mean and std over members), and "
        "their correlation within the group. Not in the paper.",
    ),
    "representation_summary": (
        "Hyper-representation",
        "R² of reconstructed weights and alphas, and of ridge probes that predict properties from "
        "embeddings, raw weights and layer statistics, on held-out members. Table 3 of the "
        "paper.",
    ),
    "representation_reconstruction": (
        "Reconstruction by layer",
        "R² about the mean of each layer, by part of the split: weights in units of their "
        "layer's standard deviation, alphas on the scale of the loss, log alphas unscaled.",
    ),
    "representation_properties": (
        "Probes of properties",
        "Ridge regression with the penalty (lambda) chosen on validation members: R² and "
        "Kendall's tau on held-out members.",
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
# Columns whose values are names of methods, or of quantities.
_METHODS, _QUANTITIES = ("method", "other_method"), ("quantity", "target", "property")
# Fractions in [0, 1], shown in percent; other floats, such as hyperparameters, are not.
_FRACTIONS = (
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
    """A value for JSON: NaN as None, floats rounded to four decimals or significant digits."""
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return float(f"{value:.4g}") if abs(value) < 0.01 else round(value, 4)


def tables(analysis: Analysis) -> list[dict[str, Any]]:
    """The tables of an analysis, in the order of the page."""
    return [
        _table(name, analysis.tables[name])
        for name in _DESCRIPTIONS
        if name in analysis.tables and len(analysis.tables[name])
    ]


def _table(name: str, table: pl.DataFrame) -> dict[str, Any]:
    title, about = _DESCRIPTIONS[name]
    if name == "friendliness" and len(table) > _MAX_ROWS:
        about += f" Shown are {_MAX_ROWS} of {len(table)} rows: the best and the worst ranks."
        table = table.sort("rank", "method", "ratio")
        table = pl.concat([table.head(_MAX_ROWS // 2), table.tail(_MAX_ROWS // 2)])
    # Without magnitude-pruned twins no row has a ratio.
    empty = [c for c in ("ratio", "other_ratio") if c in table.columns and _is_empty(table[c])]
    table = table.drop(empty)
    result = {"name": name, "title": title, "about": about, "rows": len(table)}
    result["columns"] = _columns(table)
    if name == _PAPER:
        exceeds = (pl.col("difference").abs() > pl.col("paper_std")).fill_null(False)
        result["shaded"] = {
            "column": "difference",
            "rows": table.select(exceeds).to_series().to_list(),
        }
    return result


def _is_empty(column: pl.Series) -> bool:
    return column.null_count() == len(column)


def _columns(table: pl.DataFrame) -> list[dict[str, Any]]:
    """Columns; standard deviations and interval ends are merged into the column they belong to."""
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
    """How the page formats a column: "text", "whole", "share", "plain", or one of `_KINDS`."""
    dtype = table.schema.get(name)
    if dtype is not None and not dtype.is_numeric():
        return "text"
    if dtype is not None and dtype.is_integer():
        return "whole"
    fraction = name in _FRACTIONS or name.endswith("_acc") or name.startswith("sparsity")
    return _KINDS.get(name, "share" if fraction else "plain")
