"""Accuracy and sparsity of whole populations, over epochs and over sparsity."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from zoojax.analysis import Analysis
from zoojax.figures.style import (
    COLOURS,
    NAMES,
    VECTORS,
    as_percent,
    at_last_epoch,
    by_ratio,
    in_style,
    new_figure,
    percent,
    population,
    sequence,
    translucency,
)


@in_style
def trajectories(found: Analysis) -> Figure:
    """Every member over the epochs, and the mean (Figure 2 of the paper).

    Returns:
        Test accuracy of the dense zoo, of its pruned twin while it is tuned, a colour a
        ratio, and of its twin by variational dropout, beside that one's sparsity; all in
        percent over epochs.
    """
    kinds = [twin.config.kind for twin in found.twins]
    panels = [("dense", "test_acc"), *((kind, "test_acc") for kind in kinds)]
    panels += [("vd", "sparsity")] if "vd" in kinds else []
    rows, columns = (2, 2) if len(panels) == 4 else (1, len(panels))
    height = 2.6 * rows + 0.4
    figure = new_figure(
        found, {1: 4.2, 2: 7.2, 3: 9.6}[columns], height, "Thin: members. Thick: their mean."
    )
    first = None
    for i, (method, quantity) in enumerate(panels):
        if quantity == "test_acc":
            axes = figure.add_subplot(rows, columns, i + 1, sharey=first)
            first = first or axes
            axes.set_ylabel("test accuracy (%)")
        else:
            axes = figure.add_subplot(rows, columns, i + 1)
            axes.set_ylim(-3, 103)
            axes.set_ylabel("sparsity (%)")
        axes.set_title(_title(method))
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        _over_epochs(found, axes, method, quantity)
    return figure


def _title(method: str) -> str:
    return {"dense": "training of the dense zoo", "mp": "tuning after magnitude pruning"}.get(
        method, NAMES[method]
    )


def _over_epochs(found: Analysis, axes: Axes, method: str, quantity: str) -> None:
    members = population(found, "members", method).filter(pl.col("finite"))
    means = population(found, "trajectories", method)
    raster = members["member"].n_unique() > VECTORS
    if method != "mp":
        _lines(axes, members, quantity, COLOURS[method], raster)
        _mean(axes, means, quantity, COLOURS[method], None)
        return
    ratios = by_ratio(means)
    colours = sequence(len(ratios))
    # Means over the members of all ratios.
    for (ratio, _), colour in zip(ratios, colours, strict=True):
        _lines(axes, members.filter(pl.col("ratio") == ratio), quantity, colour, raster)
    for (ratio, rows), colour in zip(ratios, colours, strict=True):
        _mean(axes, rows, quantity, colour, as_percent(ratio))
    axes.legend(title="pruned", loc="center left", bbox_to_anchor=(1, 0.5), handlelength=1.2)


def _lines(axes: Axes, members: pl.DataFrame, quantity: str, colour, raster: bool) -> None:
    table = members.sort("member", "epoch")
    points = np.column_stack([table["epoch"].to_numpy(), percent(table[quantity])])
    ends = np.flatnonzero(np.diff(table["member"].to_numpy())) + 1
    lines = LineCollection(
        np.split(points, ends),
        colors=[colour],
        linewidths=0.6,
        alpha=translucency(len(ends) + 1),
        rasterized=raster,
    )
    axes.add_collection(lines)
    axes.autoscale_view()


def _mean(axes: Axes, table: pl.DataFrame, quantity: str, colour, label: str | None) -> None:
    table = table.sort("epoch")
    x, y = table["epoch"].to_numpy(), percent(table[f"{quantity}_mean"])
    # On white, else it would be lost among its members.
    axes.plot(x, y, color="white", linewidth=3.2, zorder=3)
    axes.plot(x, y, color=colour, label=label, zorder=4)


@in_style
def accuracy_over_sparsity(found: Analysis) -> Figure | None:
    """Test accuracy of both twins over sparsity (Figure 5 of the paper).

    Returns:
        Mean test accuracy, with its standard deviation over members as a band, of the
        pruned at their last epoch by ratio and of variational dropout by epoch, over mean
        sparsity, in percent; members as dots; the dense zoo's mean as a dashed line; the
        measured ratios between which the methods cross as a band. None without twins.
    """
    if not found.twins:
        return None
    figure = new_figure(found, 6.4, 4.0, "Bands: standard deviation over members. Dots: members.")
    axes = figure.add_subplot()
    for twin in found.twins:
        _over_sparsity(found, axes, twin.config.kind)
    parent = found.twins[-1].config.parent
    assert parent is not None
    dense = population(found, "trajectories", "dense").filter(pl.col("epoch") == parent.epoch)
    for accuracy in percent(dense["test_acc_mean"]):
        axes.axhline(accuracy, color=COLOURS["dense"], linestyle="--", linewidth=1, label="dense")
    _crossing(found, axes)
    axes.set_xlim(-2, 102)
    axes.set_xlabel("sparsity (%)")
    axes.set_ylabel("test accuracy (%)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return figure


def _over_sparsity(found: Analysis, axes: Axes, method: str) -> None:
    means, members = (population(found, name, method) for name in ("trajectories", "members"))
    label = f"{NAMES[method]}, by epoch"
    if method == "mp":
        means, members = at_last_epoch(means).sort("ratio"), at_last_epoch(members)
        label = f"{NAMES[method]}, by ratio, epoch {means['epoch'][0]}"
    members, colour = members.filter(pl.col("finite")), COLOURS[method]
    axes.scatter(
        percent(members["sparsity"]),
        percent(members["test_acc"]),
        s=4,
        color=colour,
        alpha=translucency(len(members) / 10),
        linewidths=0,
        rasterized=len(members) > VECTORS,
    )
    x, mean = percent(means["sparsity_mean"]), percent(means["test_acc_mean"])
    std = percent(means["test_acc_std"])
    axes.fill_between(x, mean - std, mean + std, color=colour, alpha=0.2, linewidth=0)
    axes.plot(x, mean, color="white", linewidth=3.2)
    axes.plot(x, mean, color=colour, marker="o", markersize=3, label=label)


def _crossing(found: Analysis, axes: Axes) -> None:
    table = found.tables.get("crossing", pl.DataFrame())
    if table.is_empty() or table["above"][0] is None:
        return
    above, below = (table[name][0] for name in ("above", "below"))
    label = f"crossing between {as_percent(above)} and {as_percent(below)}"
    axes.axvspan(100 * above, 100 * below, color="#009E73", alpha=0.2, linewidth=0, label=label)


@in_style
def methods(found: Analysis) -> Figure | None:
    """Magnitude pruning against variational dropout at equal sparsity.

    Returns:
        Mean difference of their test accuracies, percentage points, with its 95 %
        interval, over sparsity, percent. None without both twins, or fewer than three
        members in both.
    """
    table = found.tables.get("methods", pl.DataFrame())
    table = table.drop_nulls("difference") if len(table) else table
    if table.is_empty():
        return None
    figure = new_figure(
        *(found, 5.8, 3.4),
        "Mean over the members that reached the sparsity (above: how many, where not all), "
        "and its 95 % interval.",
    )
    axes = figure.add_subplot()
    x, mean, low, high = (
        percent(table[name]) for name in ("sparsity", "difference", "low", "high")
    )
    axes.axhline(0, color="0.3", linewidth=1)
    axes.errorbar(x, mean, [mean - low, high - mean], color="0.15", marker="o", markersize=4)
    # Members that never became so sparse are not in a mean; say how many are.
    for at, members in zip(x, table["members"], strict=True):
        if members < len(found.zoo):
            axes.text(
                *(at, 1.01, f"{members}"),
                transform=axes.get_xaxis_transform(),
                ha="center",
                va="bottom",
                fontsize=7,
                color="0.35",
            )
    axes.margins(x=0.08, y=0.25)
    for y, method in ((0.98, "mp"), (0.02, "vd")):
        axes.text(
            *(0.02, y, f"{NAMES[method]} more accurate"),
            transform=axes.transAxes,
            va="top" if y > 0.5 else "bottom",
            color=COLOURS[method],
            fontsize=8,
        )
    axes.set_xlabel("sparsity (%)")
    axes.set_ylabel("difference of test accuracy\n(percentage points)")
    return figure
