"""Accuracy and sparsity of populations, over epochs and over sparsity."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from zoojax.analysis import Analysis
from zoojax.analysis.results import Method
from zoojax.figures.style import (
    DOTS,
    INK,
    LINES,
    MEANS,
    SMALL,
    UNMEASURED,
    VECTORS,
    WIDTH,
    abbreviations,
    at_last_epoch,
    color_of,
    color_sequence,
    drawing,
    format_percent,
    grid,
    group_by_ratio,
    is_crowded,
    legend_below,
    method_rows,
    new_figure,
    opacity,
    percent,
    scaled,
    wrapped,
)
from zoojax.tasks import SPARSITY, Metric
from zoojax.text import for_matplotlib

_CROSSING = "#009E73"


def _trajectories_caption(analysis: Analysis) -> str:
    label = _score(analysis).label
    return (
        f"{label[:1].upper()}{label[1:]} over the epochs of the dense zoo and of each twin, and "
        "sparsity of the twins whose sparsity varies with the epoch. Thick: mean over members. "
        "Band: standard deviation. Thin: single members. Colors: pruning ratios, from low (dark) "
        "to high (light). As Figure 2 of the paper (arXiv 2304.13718)."
    )


def _score(analysis: Analysis) -> Metric:
    """The metric by which members are compared: test accuracy or PSNR."""
    task = analysis.zoo.config.shape.task
    return task.metric(task.score)


@drawing(_trajectories_caption)
def trajectories(analysis: Analysis) -> Figure:
    """Trajectories of all members over epochs, with mean and standard deviation.

    Returns:
        Panels over epochs: test accuracy or PSNR of the dense zoo and of each twin (one color
        per pruning ratio), and sparsity of the twins whose sparsity varies with the epoch.
    """
    score = _score(analysis)
    panels = [(method, score) for method in analysis.methods]
    panels += [(method, SPARSITY) for method in analysis.twin_methods("epoch")]
    crowded = is_crowded(analysis)
    rows, columns = grid(len(panels), 3 if crowded else 2)
    height = (1.9 if crowded else 2.7) * rows
    figure = new_figure(4.2 if columns == 1 else WIDTH, height, free=crowded)
    if crowded:
        # Laid out by hand: a layout engine takes minutes for that many panels.
        margins = {"left": 0.09, "right": 0.99, "bottom": 0.45 / height, "top": 1 - 0.3 / height}
        figure.subplots_adjust(**margins, hspace=0.75, wspace=0.42)
    first = None
    for i, (method, quantity) in enumerate(panels):
        if quantity is score:
            axes = figure.add_subplot(rows, columns, i + 1, sharey=first)
            first = first or axes
        else:
            axes = figure.add_subplot(rows, columns, i + 1)
            axes.set_ylim(-3, 103)
        axes.set_ylabel(quantity.axis)
        axes.set_title(_title(method))
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        _over_epochs(analysis, axes, method, quantity)
    return figure


def _title(method: Method) -> str:
    if method.zoo.config.is_dense:
        return "training of the dense zoo"
    return wrapped(f"fine-tuning after {method.label}" if method.fine_tunes else method.label)


def _over_epochs(analysis: Analysis, axes: Axes, method: Method, quantity: Metric) -> None:
    members = method_rows(analysis, "members", method).filter(pl.col("finite"))
    means = method_rows(analysis, "trajectories", method)
    raster = members["member"].n_unique() > VECTORS
    ratios = group_by_ratio(means)
    if not ratios:
        _lines(axes, members, quantity, color_of(method), raster)
        _mean(axes, means, quantity, color_of(method), None)
        return
    colors = color_sequence(len(ratios))
    for (ratio, rows), color in zip(ratios, colors, strict=True):
        _lines(axes, members.filter(pl.col("ratio") == ratio), quantity, color, raster)
        _mean(axes, rows, quantity, color, f"{format_percent(ratio)}{method.of} pruned")
    if not is_crowded(analysis):
        legend_below(axes, columns=3)


def _lines(axes: Axes, members: pl.DataFrame, quantity: Metric, color, raster: bool) -> None:
    table = members.sort("member", "epoch")
    points = np.column_stack([table["epoch"].to_numpy(), scaled(table[quantity.name], quantity)])
    ends = np.flatnonzero(np.diff(table["member"].to_numpy())) + 1
    lines = LineCollection(
        np.split(points, ends),
        colors=[color],
        linewidths=0.6,
        alpha=0.7 * opacity(len(ends) + 1),
        rasterized=raster,
        zorder=LINES,
    )
    axes.add_collection(lines)
    axes.autoscale_view()


def _mean(axes: Axes, table: pl.DataFrame, quantity: Metric, color, label: str | None) -> None:
    table = table.sort("epoch")
    x, y = table["epoch"].to_numpy(), scaled(table[f"{quantity.name}_mean"], quantity)
    std = scaled(table[f"{quantity.name}_std"], quantity)
    axes.fill_between(x, y - std, y + std, color=color, alpha=0.2, linewidth=0)
    axes.plot(x, y, color=color, label=label, zorder=MEANS)


def _accuracy_caption(analysis: Analysis) -> str:
    label = _score(analysis).label
    text = (
        f"{label[:1].upper()}{label[1:]} over sparsity. Lines: means over members; twins with "
        "pruning ratios at their last epoch, other twins at every epoch. Bars and bands: standard "
        "deviation. Dots: single members. Dotted: not measured in between. Dashed: mean of the "
        "dense zoo."
    )
    if any(table["above"][0] is not None for *_, table in analysis.by_pair("crossing")):
        text += (
            " Shaded: the measured pruning ratios between which the second method becomes more "
            "accurate on average."
        )
    if any(table["sparsity"][0] is not None for *_, table in analysis.by_pair("crossing")):
        text += " Vertical line: linear interpolation between these ratios."
    return f"{text} As Figure 5 of the paper (arXiv 2304.13718)."


@drawing(_accuracy_caption)
def accuracy_over_sparsity(analysis: Analysis) -> Figure | None:
    """Test accuracy or PSNR of all twins over sparsity.

    Returns:
        Mean test accuracy or PSNR over mean sparsity of twins with pruning ratios by ratio
        at the last epoch and of others by epoch; standard deviations over members as bands,
        members as dots, the mean of the dense zoo as a dashed line, and the ratios that bracket
        the crossover of two methods as a shaded span, with a dotted line where it is
        interpolated. None without twins; of more than eight methods, `method_accuracy` has
        panels of their own.
    """
    if not analysis.twins or is_crowded(analysis):
        return None
    score, figure = _score(analysis), new_figure(5.6, 4.2)
    axes = figure.add_subplot()
    dense, *twins = analysis.methods
    for method in twins:
        _over_sparsity(analysis, axes, method)
    parent = twins[-1].zoo.config.parent
    assert parent is not None
    start = method_rows(analysis, "trajectories", dense).filter(pl.col("epoch") == parent.epoch)
    for value in scaled(start[f"{score.name}_mean"], score):
        color = color_of(dense)
        axes.axhline(value, color=color, linestyle="--", linewidth=1, label=dense.label)
    _mark_crossovers(analysis, axes)
    axes.set_xlim(-2, 102)
    axes.set_xlabel(SPARSITY.axis)
    axes.set_ylabel(score.axis)
    legend_below(axes)
    return figure


def _over_sparsity(analysis: Analysis, axes: Axes, method: Method) -> None:
    means, members = (method_rows(analysis, name, method) for name in ("trajectories", "members"))
    score, label = _score(analysis), f"{for_matplotlib(method.label)}, by epoch"
    if method.sweep == "ratio":
        means, members = at_last_epoch(means).sort("ratio"), at_last_epoch(members)
        label = f"{for_matplotlib(method.label)}, by ratio, epoch {means['epoch'][0]}"
    else:
        means, members = method.measured(means), method.measured(members)
    members, color = members.filter(pl.col("finite")), color_of(method)
    axes.scatter(
        percent(members["sparsity"]),
        scaled(members[score.name], score),
        s=5,
        color=color,
        alpha=opacity(len(members) / 10),
        linewidths=0,
        rasterized=len(members) > VECTORS,
        zorder=DOTS,
    )
    x, mean = percent(means["sparsity_mean"]), scaled(means[f"{score.name}_mean"], score)
    std = scaled(means[f"{score.name}_std"], score)
    if not method.is_trajectory:
        axes.errorbar(x, mean, std, color=color, label=label, zorder=LINES, **UNMEASURED)
    else:
        axes.fill_between(x, mean - std, mean + std, color=color, alpha=0.2, linewidth=0)
        axes.plot(x, mean, color=color, marker="o", markersize=4, label=label, zorder=LINES)
    # Again above the members, without the line.
    axes.plot(x, mean, color=color, marker="o", markersize=4, linestyle="none", zorder=MEANS)


def _mark_crossovers(analysis: Analysis, axes: Axes) -> None:
    several = len(analysis.pairs()) > 1
    for one, other, table in analysis.by_pair("crossing"):
        above, below, point = (table[name][0] for name in ("above", "below", "sparsity"))
        if above is None:
            continue
        label = f"crossover between {format_percent(above)} and {format_percent(below)}"
        if several:
            label = f"{one.short} and {other.short}: {label}"
        color = color_of(other) if several else _CROSSING
        axes.axvspan(100 * above, 100 * below, color=color, alpha=0.2, linewidth=0, label=label)
        if point is not None:
            label = f"interpolated at {100 * point:.0f} %"
            axes.axvline(100 * point, color=color, linewidth=1.2, label=label)


def _methods_caption(analysis: Analysis) -> str:
    return (
        "Difference of the test accuracies of two methods at equal sparsity: mean over the members "
        "that reach the sparsity with both, and its 95 % interval (BCa bootstrap of members; "
        "Student's t below 20 members). Dotted: not measured in between. Above the axes: the "
        "number n of these members, where it is not that of the zoo. "
        f"{abbreviations(analysis)}"
    )


@drawing(_methods_caption)
def methods(analysis: Analysis) -> Figure | None:
    """Accuracy difference of two methods at equal sparsity.

    Returns:
        Mean difference of the test accuracies of a twin with pruning ratios and of one whose
        sparsity varies with the epoch, in percentage points, with its 95 % interval, over
        sparsity in percent; one panel per pair of such twins. None without both, or with fewer
        than three members in both; and None with more than eight methods, whose differences
        `method_ranking` shows.
    """
    if is_crowded(analysis):
        return None
    pairs = [
        (one, other, rows)
        for one, other, table in analysis.by_pair("methods")
        if len(rows := table.drop_nulls("difference"))
    ]
    if not pairs:
        return None
    down, across = grid(len(pairs))
    figure = new_figure(5.2 if across == 1 else WIDTH, 3.2 * down)
    for position, (one, other, table) in enumerate(pairs, 1):
        axes = figure.add_subplot(down, across, position)
        _difference(axes, table, one, other, len(analysis.zoo))
    return figure


def _difference(
    axes: Axes, table: pl.DataFrame, one: Method, other: Method, num_members: int
) -> None:
    """Draws the differences of one pair of methods; `num_members` is the size of the dense zoo."""
    x, mean, low, high = (
        percent(table[name]) for name in ("sparsity", "difference", "low", "high")
    )
    axes.axhline(0, color=INK, linewidth=1)
    axes.errorbar(x, mean, [mean - low, high - mean], color=INK, **UNMEASURED)
    # Means exclude members that never reach the sparsity: print how many are included.
    for at, members in zip(x, table["members"], strict=True):
        if members < num_members:
            axes.text(
                *(at, 1.01, f"n={members}"),
                transform=axes.get_xaxis_transform(),
                ha="center",
                va="bottom",
                fontsize=SMALL,
            )
    axes.margins(x=0.1, y=0.25)
    for y, method in ((0.98, one), (0.02, other)):
        axes.text(
            *(0.02, y, f"{for_matplotlib(method.short)} more accurate"),
            transform=axes.transAxes,
            va="top" if y > 0.5 else "bottom",
            fontsize=SMALL,
        )
    axes.set_xlabel("sparsity (%)")
    axes.set_ylabel(f"test accuracy, {one.short} − {other.short}\n(percentage points)")
