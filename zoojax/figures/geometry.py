"""Figures of the geometry of a zoo: weight space, layers, curvature.

They show the tables of `zoojax.analysis.geometry_tables`, which have the prefix "geometry_" in an
analysis.
"""

from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from zoojax.analysis import Analysis
from zoojax.figures.agreement import cluster_order
from zoojax.figures.style import (
    INK,
    UNMEASURED,
    WIDTH,
    color_of,
    color_sequence,
    drawing,
    legend_below,
    new_figure,
)
from zoojax.text import for_matplotlib

BARS = "Bars: 95 % intervals of the means."
# Text is readable in cells of matrices up to this size.
_MAX_LABELED = 8


def geometry_table(analysis: Analysis, name: str) -> pl.DataFrame:
    """Returns the table "geometry_NAME" of an analysis; empty if there is none."""
    return analysis.tables.get(f"geometry_{name}", pl.DataFrame())


def numbers(table: pl.DataFrame, name: str) -> np.ndarray:
    """Returns a column as float64, with NaN for null."""
    return table[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def errorbars(
    axes: Axes, x: np.ndarray, table: pl.DataFrame, name: str, scale: float = 1, **style
) -> None:
    """Draws means with their intervals; those without an interval have no bar."""
    mean = scale * numbers(table, name)
    ends = [scale * numbers(table, f"{name}_{end}") for end in ("low", "high")]
    bars = np.nan_to_num([np.maximum(mean - ends[0], 0), np.maximum(ends[1] - mean, 0)])
    axes.errorbar(x, mean, yerr=bars, **style)


@drawing(
    "Weight space: distance and cosine of the parameters of every pair of members at the last "
    "epoch. Members are ordered by hierarchical clustering of their cosines."
)
def geometry_pairs(analysis: Analysis) -> Figure | None:
    """Plots distances and cosines of all pairs of members as matrices.

    Args:
        analysis: The analysis.

    Returns:
        Two heat maps. None without the table.
    """
    table = geometry_table(analysis, "pairs")
    size = table["member"].n_unique() if len(table) else 0
    if size < 2:
        return None
    order = cluster_order(table["cosine"].to_numpy().reshape(size, size))
    figure = new_figure(WIDTH, 3.6, compress=True)
    for axes, (name, title) in zip(
        figure.subplots(1, 2), (("distance", "distance"), ("cosine", "cosine")), strict=True
    ):
        matrix = table[name].to_numpy().reshape(size, size)[np.ix_(order, order)]
        others = matrix[~np.eye(size, dtype=bool)]
        image = axes.imshow(
            matrix, cmap="viridis", vmin=others.min(), vmax=others.max(), interpolation="none"
        )
        axes.set_title(title)
        axes.set(xticks=[], yticks=[], xlabel="members", ylabel="members")
        axes.grid(visible=False)
        figure.colorbar(image, ax=axes, location="bottom", extend="both", fraction=0.05)
    return figure


@drawing(
    "Weight space by epoch: effective dimension of the zoo (participation ratio of the covariance "
    "of the parameters over members), mean distance of two members, and mean distance of members "
    "from their initial weights. Bands: 95 % intervals (jackknife over members)."
)
def geometry_similarity(analysis: Analysis) -> Figure | None:
    """Plots the effective dimension and distances of members by epoch.

    Args:
        analysis: The analysis.

    Returns:
        Two panels. None without the table.
    """
    table = geometry_table(analysis, "similarity")
    if table.is_empty():
        return None
    figure, epochs = new_figure(WIDTH, 2.9), table["epoch"].to_numpy()
    left, right = figure.subplots(1, 2)
    marker = "o" if len(epochs) == 1 else ""
    for axes, name, color in (
        (left, "dimension", INK),
        (right, "distance", "#0072B2"),
        (right, "moved", "#D55E00"),
    ):
        label = {"distance": "of two members", "moved": "from initial weights"}.get(name)
        axes.plot(epochs, numbers(table, name), color=color, marker=marker, label=label)
        if f"{name}_low" in table.columns:
            low, high = (numbers(table, f"{name}_{end}") for end in ("low", "high"))
            axes.fill_between(epochs, low, high, color=color, alpha=0.2, linewidth=0)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    left.set_ylabel("effective dimension")
    right.set_ylabel("mean distance")
    right.set_ylim(bottom=0)
    legend_below(right, columns=2)
    return figure


@drawing(
    "Similarity of layers: linear CKA of the outputs of layers (before the activation) on training "
    "images, mean over pairs of different members."
)
def geometry_layers(analysis: Analysis) -> Figure | None:
    """Plots CKA between layers of different members.

    Args:
        analysis: The analysis.

    Returns:
        A heat map of layers by layers. None without the table.
    """
    table = geometry_table(analysis, "layers")
    if table.is_empty():
        return None
    layers = table["layer"].unique(maintain_order=True).to_list()
    matrix = numbers(table, "cka").reshape(len(layers), len(layers))
    figure = new_figure(4.4, 3.9)
    axes = figure.add_subplot()
    image = axes.imshow(matrix, cmap="viridis", vmin=0, vmax=1)
    names = [for_matplotlib(layer) for layer in layers]
    if len(layers) <= _MAX_LABELED:
        for (row, column), value in np.ndenumerate(matrix):
            color = "black" if value > 0.6 else "white"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=color)
    axes.set_xticks(range(len(layers)), names, rotation=45 if len(layers) > _MAX_LABELED else 0)
    axes.set_yticks(range(len(layers)), names)
    axes.set(xlabel="layer of the other member", ylabel="layer of a member")
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, label="CKA")
    return figure


@drawing(
    "Curvature of the loss on training images: largest eigenvalues of the Hessian, and its trace "
    f"over the pruning ratio (0: the dense zoo). Means over members. {BARS}"
)
def geometry_curvature(analysis: Analysis) -> Figure | None:
    """Plots the largest Hessian eigenvalues by rank, and the trace over the pruning ratio.

    Args:
        analysis: The analysis.

    Returns:
        Two panels. None without the tables.
    """
    spectrum, table = geometry_table(analysis, "eigenvalues"), geometry_table(analysis, "curvature")
    if spectrum.is_empty():
        return None
    figure = new_figure(WIDTH, 3.3)
    left, right = figure.subplots(1, 2)
    groups = _populations(analysis, spectrum)
    colors = [INK, *color_sequence(max(len(groups) - 1, 1))]
    for (label, rows), color in zip(groups, colors, strict=False):
        style = {**UNMEASURED, "color": color, "label": label}
        errorbars(left, rows["rank"].to_numpy(), rows, "eigenvalue", **style)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set(xlabel="rank", ylabel="eigenvalue")
    if (spectrum["eigenvalue"] > 0).all():
        left.set_yscale("log")
    legend_below(left, columns=2)
    _by_ratio(analysis, right, table, "trace")
    right.set_ylabel("trace of the Hessian")
    return figure


def _populations(analysis: Analysis, table: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """Labels and rows of the dense zoo, and of each twin by ratio."""
    result = []
    for method in analysis.methods:
        rows = table.filter(method=method.key)
        for (ratio,), group in rows.group_by("ratio", maintain_order=True):
            suffix = "" if ratio is None else f" {100 * float(str(ratio)):.4g} %"
            result.append((f"{for_matplotlib(method.short)}{suffix}", group))
    return result


def _by_ratio(analysis: Analysis, axes: Axes, table: pl.DataFrame, name: str) -> None:
    """Draws a column over the pruning ratio; the dense zoo, and twins without ratios, as lines."""
    for method in analysis.methods:
        rows = table.filter(method=method.key)
        if rows.is_empty():
            continue
        style: dict[str, Any] = {"color": color_of(method), "label": for_matplotlib(method.short)}
        if method.sweep == "ratio":
            errorbars(axes, 100 * rows["ratio"].to_numpy(), rows, name, **UNMEASURED, **style)
        else:
            axes.axhline(numbers(rows, name)[0], linestyle="--", linewidth=1, **style)
    axes.set_xlabel("pruning ratio (%)")
    legend_below(axes, columns=2)
