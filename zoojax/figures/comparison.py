"""Comparison of all sparsifiers: accuracy, ranking, overlap of masks, allocation to layers."""

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from zoojax.analysis import Analysis
from zoojax.analysis.agreement_tables import REFERENCE_SPARSITY
from zoojax.analysis.results import Method
from zoojax.figures.style import (
    INK,
    LINES,
    MEANS,
    SMALL,
    UNMEASURED,
    WIDTH,
    color_of,
    drawing,
    format_percent,
    new_figure,
    percent,
    wrapped,
)
from zoojax.text import for_matplotlib

_COLUMNS = 4
# A comparison of fewer methods is a single curve, which other figures show.
_MIN_METHODS = 2
# Cells above this share of the color range have dark text.
_BRIGHT = 0.6
_INTERVALS = "95 % intervals (Student's t over members)"


def _table(analysis: Analysis, name: str) -> pl.DataFrame:
    return analysis.tables.get(f"added_{name}", pl.DataFrame())


def _methods_in(analysis: Analysis, table: pl.DataFrame) -> list[Method]:
    """The methods that a table has rows of."""
    if table.is_empty():
        return []
    known = set(table["method"].to_list())
    if "other_method" in table.columns:
        known |= set(table["other_method"].to_list())
    return [method for method in analysis.whole_methods if method.key in known]


@drawing(
    "Test accuracy over sparsity, one panel per method: mean over members with "
    f"{_INTERVALS}, at the sparsity that was measured. Gray: all other methods. Dashed: mean of "
    "the dense parents at their last epoch. Dotted: not measured in between. The budget is the "
    "total number of training epochs, including those of the parents."
)
def method_accuracy(analysis: Analysis) -> Figure | None:
    """Accuracy over measured sparsity of every method, as small multiples.

    Returns:
        One panel per twin. None without two of them.
    """
    table = _table(analysis, "method_accuracy")
    methods = _methods_in(analysis, table)
    if len(methods) < _MIN_METHODS:
        return None
    across = min(_COLUMNS, len(methods))
    down = -(-len(methods) // across)
    figure = new_figure(WIDTH, 1.75 * down + 0.3)
    curves = {m.key: table.filter(method=m.key).sort("epoch", "sparsity") for m in methods}
    dense = float(percent(table["dense_acc"]).mean())
    discrete = [m.key for m in methods if not m.is_trajectory] or list(curves)
    shown = table.filter(pl.col("method").is_in(discrete))
    left = max(0.0, float(percent(shown["sparsity"]).min()) - 4)
    bottom = float(percent(shown["test_acc"]).min())
    first = None
    for position, method in enumerate(methods, 1):
        axes = figure.add_subplot(down, across, position, sharex=first, sharey=first)
        first = first or axes
        for key, curve in curves.items():
            if key != method.key:
                x, y = percent(curve["sparsity"]), percent(curve["test_acc"])
                axes.plot(x, y, color="#8a8f98", alpha=0.45, linewidth=0.7, zorder=LINES)
        _curve(axes, method, curves[method.key])
        axes.axhline(dense, color=INK, linestyle="--", linewidth=0.8, zorder=LINES)
        axes.set_title(_panel_title(method, curves[method.key]), fontsize=SMALL)
        if (position - 1) % across:
            axes.tick_params(labelleft=False)
        if position + across <= len(methods):
            axes.tick_params(labelbottom=False)
    assert first is not None
    margin = 0.05 * max(dense - bottom, 1)
    first.set_xlim(left, 101)
    first.set_ylim(bottom - margin, max(dense, float(percent(table["test_acc"]).max())) + margin)
    first.xaxis.set_major_locator(MaxNLocator(4))
    figure.supxlabel("sparsity (%)", fontsize=9)
    figure.supylabel("test accuracy (%)", fontsize=9)
    return figure


def _panel_title(method: Method, curve: pl.DataFrame) -> str:
    low, high = curve["budget"].min(), curve["budget"].max()
    budget = f"{high} epochs" if low == high else f"{low} to {high} epochs"
    return f"{for_matplotlib(method.short)}\n{budget}"


def _curve(axes: Axes, method: Method, curve: pl.DataFrame) -> None:
    x, mean, low, high = (
        percent(curve[name]) for name in ("sparsity", "test_acc", "test_acc_low", "test_acc_high")
    )
    color = color_of(method)
    if method.is_trajectory:
        axes.fill_between(x, low, high, color=color, alpha=0.25, linewidth=0)
        axes.plot(x, mean, color=color, marker="o", markersize=2.5, zorder=MEANS)
    else:
        ends = np.maximum(np.nan_to_num([mean - low, high - mean]), 0)
        axes.errorbar(x, mean, ends, color=color, zorder=MEANS, **UNMEASURED)


@drawing(
    "Mean test accuracy (%) of all methods at common sparsities, the methods sorted by their mean "
    "rank. Bold: no method is significantly better at this sparsity (Wilcoxon's signed-rank test, "
    "paired by member, with Holm's correction over all pairs). Italic: mostly interpolated between "
    "measured sparsities. Empty: not measured nearby. Colors: percentage points below the best "
    "method of the column."
)
def method_ranking(analysis: Analysis) -> Figure | None:
    """Heat map of accuracy by method and sparsity.

    Returns:
        One row per twin, one column per common sparsity. None without two twins.
    """
    table = _table(analysis, "method_ranking")
    methods = _methods_in(analysis, table)
    if len(methods) < _MIN_METHODS:
        return None
    targets = table["sparsity"].unique().sort().to_list()
    order = table.group_by("method").agg(pl.col("rank").mean(), pl.col("test_acc").mean())
    order = order.sort("rank", "test_acc", descending=[False, True], nulls_last=True)
    by_key = {method.key: method for method in methods}
    methods = [by_key[key] for key in order["method"].to_list()]
    grid = np.full((len(methods), len(targets)), np.nan)
    rows = {}
    for row in table.iter_rows(named=True):
        at = methods.index(by_key[row["method"]]), targets.index(row["sparsity"])
        grid[at], rows[at] = 100 * row["test_acc"], row
    below = np.nanmax(grid, axis=0) - grid
    # A few methods far below the others would use the whole color range.
    limit = max(float(np.nanpercentile(below, 85)), 0.5)
    figure = new_figure(min(WIDTH, 2.2 + 0.56 * len(targets)), 0.24 * len(methods) + 1.1)
    axes = figure.add_subplot()
    colors = mpl.colormaps["viridis_r"].with_extremes(bad=(0, 0, 0, 0))
    image = axes.imshow(below, cmap=colors, vmin=0, vmax=limit, aspect="auto")
    for (i, j), row in rows.items():
        axes.text(
            *(j, i, f"{grid[i, j]:.1f}"),
            ha="center",
            va="center",
            fontsize=SMALL,
            color="black" if below[i, j] < (1 - _BRIGHT) * limit else "white",
            fontweight="bold" if row["better"] == 0 else "normal",
            fontstyle="italic" if row["interpolated"] > 0.5 else "normal",
        )
    axes.set_xticks(range(len(targets)), [f"{100 * t:.3g}" for t in targets])
    axes.set_xlabel("sparsity (%)")
    _name_rows(axes, methods)
    bar = figure.colorbar(image, ax=axes, extend="max", fraction=0.05)
    bar.set_label("points below the best")
    return figure


def _name_rows(axes: Axes, methods: list[Method]) -> None:
    axes.set_yticks(range(len(methods)), [for_matplotlib(method.short) for method in methods])
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _reference(table: pl.DataFrame) -> float:
    """The sparsity nearest to the reference, of those with at least half as many rows as any."""
    counts = table.group_by("sparsity").len()
    best = counts.filter(2 * pl.col("len") >= pl.col("len").max())["sparsity"].to_list()
    return min(best, key=lambda each: abs(each - REFERENCE_SPARSITY))


@drawing(
    "Overlap of the weights that two methods keep in members of the same parent (intersection over "
    "union, %), at the sparsity in the title: mean over members below the diagonal. Above it: "
    "overlap by chance, of independent masks with as many weights in each layer."
)
def mask_overlap(analysis: Analysis) -> Figure | None:
    """Heat map of the overlap of masks, and of that by chance.

    Returns:
        One row and one column per twin. None without two twins.
    """
    table = _table(analysis, "mask_overlap")
    if table.is_empty():
        return None
    target = _reference(table)
    table = table.filter(sparsity=target)
    methods = _methods_in(analysis, table)
    if len(methods) < _MIN_METHODS:
        return None
    position = {method.key: i for i, method in enumerate(methods)}
    grid = np.full((len(methods), len(methods)), np.nan)
    for row in table.iter_rows(named=True):
        i, j = sorted((position[row["method"]], position[row["other_method"]]))
        grid[j, i], grid[i, j] = 100 * row["overlap"], 100 * row["chance"]
    size = min(WIDTH, 0.3 * len(methods) + 1.9)
    figure = new_figure(size, size - 0.3)
    axes = figure.add_subplot()
    colors = mpl.colormaps["viridis"].with_extremes(bad=(0, 0, 0, 0))
    image = axes.imshow(grid, cmap=colors, vmin=0, aspect="auto")
    _name_rows(axes, methods)
    names = [for_matplotlib(method.short) for method in methods]
    axes.set_xticks(range(len(methods)), names, rotation=90)
    axes.set_title(f"{format_percent(round(target, 3))} sparsity")
    figure.colorbar(image, ax=axes, fraction=0.05).set_label("overlap (%)")
    return figure


@drawing(
    "Share of the weights of each layer that each method keeps (%), at the sparsity in the title: "
    "mean over members."
)
def method_layers(analysis: Analysis) -> Figure | None:
    """Heat map of the shares of weights that methods keep in each layer.

    Returns:
        One row per twin, one column per layer. None without two twins.
    """
    table = _table(analysis, "method_layers")
    if table.is_empty():
        return None
    target = _reference(table)
    table = table.filter(sparsity=target)
    methods, layers = _methods_in(analysis, table), list(analysis.zoo.config.shape.layers)
    if len(methods) < _MIN_METHODS:
        return None
    position = {method.key: i for i, method in enumerate(methods)}
    grid = np.full((len(methods), len(layers)), np.nan)
    for key, layer, kept in table.select("method", "layer", "kept").iter_rows():
        grid[position[key], layers.index(layer)] = 100 * kept
    figure = new_figure(min(WIDTH, 2.4 + 0.6 * len(layers)), 0.24 * len(methods) + 1.2)
    axes = figure.add_subplot()
    colors = mpl.colormaps["viridis"].with_extremes(bad=(0, 0, 0, 0))
    image = axes.imshow(grid, cmap=colors, vmin=0, aspect="auto")
    if len(layers) <= 10:
        high = np.nanmax(grid)
        for (i, j), value in np.ndenumerate(grid):
            if np.isfinite(value):
                color = "black" if value > _BRIGHT * high else "white"
                axes.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=8, color=color)
    labels = [wrapped(layer) for layer in layers]
    axes.set_xticks(range(len(layers)), labels, rotation=90 if len(layers) > 6 else 0)
    _name_rows(axes, methods)
    axes.set_title(f"{format_percent(round(target, 3))} sparsity")
    figure.colorbar(image, ax=axes, fraction=0.05).set_label("weights kept (%)")
    return figure
