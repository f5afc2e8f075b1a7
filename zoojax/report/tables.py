"""Formats the tables of an analysis for the page: typed columns, means with their std."""

import math
from typing import Any

import polars as pl

from zoojax.analysis import Analysis
from zoojax.analysis.added_tables import added_tables
from zoojax.analysis.captions import table_captions
from zoojax.analysis.results import Method
from zoojax.text import printable

_MAX_ROWS = 200
# Column that explains why coefficients are missing.
_REMARK = "remark"
_PAPER = "paper"
# Title of each table, in the order of the page.
_TITLES = {
    _PAPER: "Comparison with the paper",
    "trajectories": "Trajectories",
    "layer_sparsity": "Sparsity of layers",
    "agreement_summary": "Agreement of twins with their parents",
    "correlation": "Correlation of accuracy before and after",
    "pairings": "Which accuracies correlate",
    "methods": "Methods at equal sparsity",
    "crossing": "Crossover of the methods",
    "friendliness": "Prunability of members",
    "consistency": "Rank consistency",
    "predictability": "Predictability from the dense zoo",
    "hyperparameters": "By hyperparameter",
    "change_by_hyperparameters": "Before and after, by hyperparameter",
    "geometry_similarity": "Geometry: weight space by epoch",
    "geometry_layers": "Geometry: similarity of layers",
    "geometry_curvature": "Geometry: curvature",
    "geometry_eigenvalues": "Geometry: largest Hessian eigenvalues",
    "geometry_barriers": "Geometry: barriers",
    "geometry_masks": "Geometry: overlap of masks",
    "geometry_transfer": "Geometry: mask transfer",
    "representation_summary": "Hyper-representation",
    "representation_reconstruction": "Reconstruction by layer",
    "representation_functional_summary": "Reconstructed members",
    "representation_properties": "Prediction of properties",
    "representation_differences": "Embeddings compared with other features",
}
# Columns of the comparison with the paper whose unit depends on the quantity.
_MIXED = ("paper", "ours", "difference")
_SHADED = "Shaded: the difference exceeds the paper's standard deviation."
_LABELS = {
    "test_acc": "test accuracy",
    "train_acc": "train accuracy",
    "val_acc": "validation accuracy",
    "psnr": "PSNR (dB)",
    "loss": "mean squared error",
    "dense_acc": "dense accuracy",
    "ggap": "gap",
    "pearson": "Pearson's r",
    "kendall": "Kendall's tau",
    "r2": "R²",
    "tau": "Kendall's tau",
    "r2_difference": "difference of R²",
    "tau_difference": "difference of Kendall's tau",
    "reconstructed_acc": "reconstructed accuracy",
    "parent_id": "parent",
    "to_own": "difference to own",
    "to_random": "difference to random",
    "cka": "CKA",
    "iou": "IoU",
}
_KINDS = {
    **dict.fromkeys(("pearson", "kendall", "tau", "r2"), "coefficient"),
    **dict.fromkeys(("r2_difference", "tau_difference"), "coefficient change"),
    **dict.fromkeys(("difference", "above_difference", "below_difference"), "points"),
    **dict.fromkeys(("change", "to_own", "to_random", "acc_barrier"), "points"),
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
    "sampled_agreement",
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
    texts, titles = table_captions(analysis), _TITLES | {e.key: e.title for e in added_tables()}
    return [
        _table(analysis, name, title, texts[name].removeprefix(f"{title}. "))
        for name, title in titles.items()
        if len(analysis.tables.get(name, ()))
    ]


def _table(analysis: Analysis, name: str, title: str, about: str) -> dict[str, Any]:
    table = analysis.tables[name]
    if name == "friendliness" and len(table) > _MAX_ROWS:
        about += f" Shown are {_MAX_ROWS} of {len(table)} rows: the best and the worst ranks."
        table = table.sort("rank", "method", "ratio")
        table = pl.concat([table.head(_MAX_ROWS // 2), table.tail(_MAX_ROWS // 2)])
    if name == _PAPER:
        about += f" {_SHADED}"
    # Without pruning ratios.
    empty = [c for c in ("ratio", "other_ratio") if c in table.columns and _is_empty(table[c])]
    table = table.drop(empty)
    result = {"name": name, "title": title, "about": about, "rows": len(table)}
    fractions = {n for each in added_tables() if each.key == name for n in each.fractions}
    methods = [*analysis.whole_methods, *analysis.methods]
    result["columns"] = _columns(table, methods, fractions)
    if name == _PAPER:
        for column in result["columns"]:
            if column["name"] in _MIXED:
                column["kinds"] = _mixed_kinds(table, column["kind"])
        exceeds = (pl.col("difference").abs() > pl.col("paper_std")).fill_null(False)
        result["shaded"] = {
            "column": "difference",
            "rows": table.select(exceeds).to_series().to_list(),
        }
    return result


def _mixed_kinds(table: pl.DataFrame, kind: str) -> list[str]:
    """How each row of a column with values of several quantities is formatted."""
    change = "coefficient change" if kind == "points" else "coefficient"
    return [
        change if _KINDS.get(quantity) == "coefficient" else kind
        for quantity in table["quantity"].to_list()
    ]


def _is_empty(column: pl.Series) -> bool:
    return column.null_count() == len(column)


def _columns(
    table: pl.DataFrame, methods: list[Method], fractions: set[str]
) -> list[dict[str, Any]]:
    """Columns; standard deviations and interval ends are merged into the column they belong to."""
    names, result = table.columns, []
    labels = {method.acc_column: f"{method.short} accuracy" for method in methods}
    short = {method.key: method.short for method in methods}
    for position, name in enumerate(names):
        after = names[position + 1 :]
        if name in ("std", "low", "high", _REMARK) or name.endswith(("_std", "_low", "_high")):
            continue
        stem = name.removesuffix("_mean")
        column: dict[str, Any] = {"name": stem, "label": labels.get(stem) or _label(stem)}
        column |= {"kind": _kind(table, stem, fractions), "values": _values(table[name], short)}
        for spread in (f"{stem}_std", "std" if name == "mean" else ""):
            if spread in after:
                column["spread"] = _values(table[spread], short)
        for low, high in ((f"{name}_low", f"{name}_high"), ("low", "high")):
            if low in after and (low != "low" or after[0] == "low"):
                column |= {"low": _values(table[low], short), "high": _values(table[high], short)}
        if _REMARK in names and column["kind"] == "coefficient":
            column["reasons"] = _values(table[_REMARK], short)
        if name == "mean":
            column |= {"name": "sparsity", "label": "sparsity"}
        result.append(column)
    return result


def _values(column: pl.Series, short: dict[str, str]) -> list[Any]:
    """Values for JSON; keys of methods are replaced by their abbreviations."""
    values = [number(value) for value in column.to_list()]
    if column.name in _METHODS:
        return [short.get(value, value) for value in values]
    if column.name in _QUANTITIES:
        return [value and printable(_label(value)) for value in values]
    if column.dtype == pl.Boolean:
        return [{True: "yes", False: "no"}.get(value) for value in values]
    return [printable(value) if isinstance(value, str) else value for value in values]


def _label(name: str) -> str:
    return _LABELS.get(name) or name.replace("_", " ")


def _kind(table: pl.DataFrame, name: str, fractions: set[str]) -> str:
    """How the page formats a column: "text", "whole", "share", "plain", or one of `_KINDS`."""
    dtype = table.schema.get(name)
    if dtype is not None and not dtype.is_numeric():
        return "text"
    if dtype is not None and dtype.is_integer():
        return "whole"
    fraction = (
        name in fractions
        or name in _FRACTIONS
        or name.endswith("_acc")
        or name.startswith("sparsity")
    )
    return _KINDS.get(name, "share" if fraction else "plain")
