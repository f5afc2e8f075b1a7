"""Accuracy before and after sparsification, and how well it can be predicted."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zoojax.analysis import Analysis
from zoojax.analysis.results import Method
from zoojax.figures.style import (
    VECTORS,
    at_last_epoch,
    color_sequence,
    evenly_spaced,
    format_percent,
    grid,
    in_style,
    method_rows,
    new_figure,
    opacity,
    percent,
)
from zoojax.text import for_matplotlib

_MAX_RATIOS = 5
# Bars are cut at this R2: lower values only mean "no better than the mean".
MIN_R2 = -0.2
_FEATURES = {"layer statistics": "#009E73", "dense accuracy": "#E69F00"}
_TARGETS = {"test_acc": "test accuracy of the twin", "change": "change of test accuracy"}


@in_style
def correlation(analysis: Analysis) -> Figure | None:
    """Test accuracy of each member before and after sparsification (Table 2 of the paper).

    Returns:
        One panel per method and one dot per member, in percent, at the epochs of table
        "friendliness"; with pruning ratios one color for each of at most five of them.
        Pearson's r and Kendall's tau are in the legend. None without twins.
    """
    tables = _tables(analysis, "friendliness")
    if not tables:
        return None
    down, across = grid(len(tables))
    figure = new_figure(
        analysis, 3.5 * across + 0.3, 4.3 * down + 0.2, "Dots: members. Line: no change."
    )
    for position, (method, table) in enumerate(tables, 1):
        axes = figure.add_subplot(down, across, position)
        best = 100 * float(table["dense_acc"].max())  # pyright: ignore[reportArgumentType]
        axes.axline((best, best), slope=1, color="0.5", linewidth=0.8, zorder=1)
        ratios = evenly_spaced(table["ratio"].unique().sort().to_list(), _MAX_RATIOS)
        single = method.sweep == "epoch" and len(ratios) == 1
        colors = [method.color] if single else color_sequence(len(ratios))
        for ratio, color in zip(ratios, colors, strict=True):
            rows = table.filter(pl.col("ratio").eq_missing(ratio))
            axes.scatter(
                percent(rows["dense_acc"]),
                percent(rows["test_acc"]),
                s=12,
                color=color,
                alpha=min(1, 2.5 * opacity(len(rows))),
                linewidths=0,
                label=_coefficients(analysis, method, ratio, rows["epoch"][0]),
                rasterized=len(rows) > VECTORS,
            )
        axes.set_title(f"{for_matplotlib(method.label)}, epoch {table['epoch'][0]}")
        axes.set_xlabel("dense test accuracy (%)")
        axes.set_ylabel("test accuracy of the twin (%)")
        _legend_below(axes)
    return figure


def _tables(analysis: Analysis, name: str) -> list[tuple[Method, pl.DataFrame]]:
    """The twins with rows in a table, and these rows."""
    tables = [(each, method_rows(analysis, name, each)) for each in analysis.twin_methods()]
    return [(method, table) for method, table in tables if len(table)]


def _coefficients(analysis: Analysis, method: Method, ratio: float | None, epoch: int) -> str:
    """Legend entry of a population: its sparsity and correlation."""
    row = method_rows(analysis, "correlation", method).filter(
        pl.col("ratio").eq_missing(ratio), pl.col("epoch") == epoch
    )
    coefficients = ", ".join(
        f"{sign} = {'none' if value is None else _signed(value)}"
        for sign, value in (("r", row["pearson"][0]), ("τ", row["kendall"][0]))
    )
    sparsity = row["sparsity"][0] if ratio is None else ratio
    return f"{format_percent(round(sparsity, 3))} sparse: {coefficients}"


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _legend_below(axes: Axes) -> None:
    legend = axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.2), handletextpad=0.2, borderaxespad=0
    )
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)


@in_style
def correlation_over_sparsity(analysis: Analysis) -> Figure | None:
    """Correlation of accuracy before and after sparsification, over sparsity.

    Returns:
        Pearson's r and Kendall's tau with 95 % bootstrap intervals, over mean sparsity in
        percent: of twins with pruning ratios by ratio at the last epoch, of others by epoch.
        None without twins, or if there are too few members.
    """
    tables = [
        (method, table.drop_nulls(["sparsity", "pearson"]))
        for method, table in _tables(analysis, "correlation")
    ]
    tables = [(method, table) for method, table in tables if len(table)]
    if not tables:
        return None
    figure = new_figure(
        analysis, 7.6, 3.4, "Bars and bands: 95 % intervals (bootstrap of members)."
    )
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name, title in zip(
        panels, ("pearson", "kendall"), ("Pearson's r", "Kendall's τ"), strict=True
    ):
        for method, table in tables:
            _coefficient_line(axes, table, method, name)
        axes.set_title(f"{title}, accuracy before and after")
        axes.set_xlabel("mean sparsity (%)")
    panels[0].set_ylabel("correlation coefficient")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure


def _coefficient_line(axes: Axes, table: pl.DataFrame, method: Method, name: str) -> None:
    color, label = method.color, for_matplotlib(method.label)
    if method.sweep == "ratio":
        table = at_last_epoch(table).sort("ratio")
    x, mean, low, high = (
        table[column].cast(pl.Float64).to_numpy()
        for column in ("sparsity", name, f"{name}_low", f"{name}_high")
    )
    if method.sweep == "ratio":
        # A percentile interval need not contain the estimate.
        ends = np.maximum([mean - low, high - mean], 0)
        label += f", by ratio, epoch {table['epoch'][0]}"
        axes.errorbar(100 * x, mean, ends, color=color, marker="o", markersize=4, label=label)
    else:
        axes.fill_between(100 * x, low, high, color=color, alpha=0.2, linewidth=0)
        label += ", by epoch"
        axes.plot(100 * x, mean, color=color, marker="o", markersize=3, label=label)


@in_style
def predictability(analysis: Analysis) -> Figure | None:
    """How well the accuracy of twins is predicted from the dense zoo.

    Returns:
        Bars of the cross-validated R2 by population, for accuracy after sparsification and for
        its change, predicted from layer statistics of the weights and from the dense
        accuracy. None without twins, or if there are too few members.
    """
    table = analysis.tables.get("predictability", pl.DataFrame())
    if table.is_empty() or table.filter(pl.col("r2").is_finite()).is_empty():
        return None
    keys = table.select("method", "ratio", "epoch").unique(maintain_order=True).rows()
    figure = new_figure(
        analysis,
        max(6.4, 1.6 + 0.75 * len(keys)),
        4.6,
        f"R² of five-fold cross-validation; bars below −{-MIN_R2} are cut and labeled.",
    )
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    for axes, (target, title) in zip(panels, _TARGETS.items(), strict=True):
        axes.axhline(0, color="0.3", linewidth=0.8)
        for shift, (features, color) in zip((-0.2, 0.2), _FEATURES.items(), strict=True):
            rows = table.filter(pl.col("target") == target, pl.col("features") == features)
            known = {
                tuple(key): r2 for *key, r2 in rows.select("method", "ratio", "epoch", "r2").rows()
            }
            heights = [known.get(key) for key in keys]
            _bars(axes, heights, shift, color, features)
        axes.set_title(f"target: {title}")
        axes.set_ylabel("R²")
    panels[0].set_ylim(MIN_R2 - 0.16, 1.04)
    panels[0].set_yticks(np.linspace(0, 1, 5))
    short = {method.key: method.short for method in analysis.methods}
    labels = [
        f"{short[method]}\n{f'epoch {epoch}' if ratio is None else format_percent(ratio)}"
        for method, ratio, epoch in keys
    ]
    panels[1].set_xticks(range(len(keys)), labels)
    panels[1].grid(visible=False, axis="x")
    panels[0].grid(visible=False, axis="x")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, [f"from {name}" for name in names], loc="outside upper center", ncols=2)
    return figure


def _bars(axes: Axes, r2: list[float | None], shift: float, color: str, label: str) -> None:
    values = np.array(r2, float)
    at = np.arange(len(values)) + shift
    axes.bar(at, np.maximum(values, MIN_R2), 0.38, color=color, label=label)
    for x, value in zip(at, values, strict=True):
        if value < MIN_R2:
            axes.annotate(
                _signed(value),
                (x, MIN_R2),
                xytext=(0, -2),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=7,
            )
