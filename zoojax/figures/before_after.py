"""Accuracy before and after sparsification, and how well it can be predicted."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from zoojax.analysis import Analysis
from zoojax.analysis.agreement_tables import REFERENCE_SPARSITY
from zoojax.analysis.captions import SMOOTHED
from zoojax.analysis.pairing import nearest_ratio
from zoojax.analysis.prunability import MIN_PREDICTED
from zoojax.analysis.rank_correlation import MIN_MEMBERS, TOO_FEW
from zoojax.analysis.results import Method
from zoojax.figures.style import (
    DOTS,
    INK,
    LINES,
    MANY,
    MEANS,
    SMALL,
    UNMEASURED,
    VECTORS,
    WIDTH,
    abbreviations,
    at_last_epoch,
    color_of,
    drawing,
    evenly_spaced,
    format_percent,
    grid,
    is_crowded,
    method_rows,
    new_figure,
    opacity,
    percent,
    signed,
)
from zoojax.text import for_matplotlib

_MAX_RATIOS = 8
# Bars are cut at this R2: lower values only mean "no better than the mean".
MIN_R2 = -0.2
_FEATURES = {"layer statistics": "#009E73", "dense accuracy": "#E69F00"}
_TARGETS = {"test_acc": "test accuracy of the twin", "change": "change of test accuracy"}
# Of layers and populations on an axis: more are written vertically.
_MAX_HORIZONTAL = 10


def _correlation_caption(analysis: Analysis) -> str:
    text = (
        "Test accuracy of each member after sparsification over that of its parent in the dense "
        "zoo; one dot per member, n of them finite. Line: no change. Pearson's r and Kendall's τ "
        "with 95 % intervals (bootstrap of members), from "
        f"{MIN_MEMBERS} members on. Twins with pruning ratios are shown at their last epoch"
    )
    if analysis.twin_methods("epoch"):
        text += f", others at {SMOOTHED} (its mean sparsity is in parentheses)"
    text += ". Table 2 of the paper (arXiv 2304.13718) reports such correlations."
    return f"{text} {abbreviations(analysis)}"


@drawing(_correlation_caption)
def correlation(analysis: Analysis) -> Figure | None:
    """Test accuracy of each member before and after sparsification.

    Returns:
        One panel per method, and per pruning ratio (at most eight of them; with more than eight
        methods, only the one whose sparsity is nearest to 80 %), with one dot per member, in
        percent, at the epochs of table "friendliness". Pearson's r and Kendall's tau are in the
        title. None without twins.
    """
    panels = []
    for method, table in _tables(analysis, "friendliness"):
        ratios = evenly_spaced(table["ratio"].unique().sort().to_list(), _MAX_RATIOS)
        if is_crowded(analysis) and method.sweep == "ratio":
            ratios = [nearest_ratio(method.zoo, REFERENCE_SPARSITY)]
        panels += [(method, table.filter(pl.col("ratio").eq_missing(r))) for r in ratios]
    if not panels:
        return None
    down, across = grid(len(panels), 3)
    figure = new_figure(2.15 * across + 0.35, 2.5 * down)
    first = None
    for position, (method, table) in enumerate(panels, 1):
        axes = figure.add_subplot(down, across, position, sharex=first)
        first = first or axes
        axes.scatter(
            percent(table["dense_acc"]),
            percent(table["test_acc"]),
            s=12,
            color=color_of(method),
            alpha=min(1, 2.5 * opacity(len(table))),
            linewidths=0,
            rasterized=len(table) > VECTORS,
            zorder=DOTS,
        )
        # The line must not widen the range of the dots.
        axes.set_ylim(axes.get_ylim())
        best = 100 * float(table["dense_acc"].max())  # pyright: ignore[reportArgumentType]
        axes.axline((best, best), slope=1, color=INK, linewidth=0.8, alpha=0.6, zorder=LINES)
        axes.set_title(_panel_title(analysis, method, table), fontsize=SMALL)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("dense accuracy (%)")
        axes.set_ylabel("twin accuracy (%)" if (position - 1) % across == 0 else "")
    return figure


def _tables(analysis: Analysis, name: str) -> list[tuple[Method, pl.DataFrame]]:
    """The twins with rows in a table, and these rows."""
    tables = [(each, method_rows(analysis, name, each)) for each in analysis.twin_methods()]
    return [(method, table) for method, table in tables if len(table)]


def _panel_title(analysis: Analysis, method: Method, table: pl.DataFrame) -> str:
    """Names a population, its sparsity, its number of members, and its correlations."""
    ratio, epoch = table["ratio"][0], table["epoch"][0]
    row = method_rows(analysis, "correlation", method).filter(
        pl.col("ratio").eq_missing(ratio), pl.col("epoch") == epoch
    )
    sparsity = format_percent(round(row["sparsity"][0], 3))
    which = f"{format_percent(ratio or 0)}{method.of} pruned"
    if method.of:
        which = f"{format_percent(ratio or 0)}{method.of} ({sparsity})"
    if ratio is None:
        which = f"epoch {epoch} ({sparsity})"
    lines = [f"{for_matplotlib(method.short)}, {which}, n = {len(table)}"]
    if row["pearson"][0] is None:
        return "\n".join([*lines, f"r and τ: {row['remark'][0]}"])
    for sign, name in (("r", "pearson"), ("τ", "kendall")):
        value, low, high = (signed(row[f"{name}{end}"][0]) for end in ("", "_low", "_high"))
        lines.append(f"{sign} = {value} [{low}, {high}]")
    return "\n".join(lines)


@drawing(
    "Correlation over members of test accuracy before and after sparsification, over mean "
    "sparsity: twins with pruning ratios at their last epoch, others at every epoch except epoch "
    "0, at which twin and parent are equal. Bars and bands: 95 % intervals (bootstrap of members), "
    f"for up to {MANY} methods. "
    "Dotted: not measured in between. "
    f"Populations of fewer than {MIN_MEMBERS} finite members are not shown."
)
def correlation_over_sparsity(analysis: Analysis) -> Figure | None:
    """Correlation of accuracy before and after sparsification, over sparsity.

    Returns:
        Pearson's r and Kendall's tau with 95 % bootstrap intervals, over mean sparsity in
        percent: of twins with pruning ratios by ratio at the last epoch, of others by epoch,
        without epoch 0. None without twins, or if all have too few members.
    """
    tables = _tables(analysis, "correlation")
    known = [table["pearson"].is_not_null().any() for _, table in tables]
    if not any(known):
        return None
    figure = new_figure(WIDTH, 3.4 + 0.09 * max(len(tables) - MANY, 0))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name, title in zip(
        panels, ("pearson", "kendall"), ("Pearson's r", "Kendall's τ"), strict=True
    ):
        for (method, table), has_values in zip(tables, known, strict=True):
            if has_values:
                _coefficient_line(axes, table, method, name, intervals=not is_crowded(analysis))
            else:
                label = f"{for_matplotlib(method.label)}: {TOO_FEW}"
                axes.plot([], [], color=color_of(method), label=label)
        axes.set_title(f"{title}, accuracy before and after")
        axes.set_xlabel("mean sparsity (%)")
    panels[0].set_ylabel("correlation coefficient")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def _coefficient_line(
    axes: Axes, table: pl.DataFrame, method: Method, name: str, *, intervals: bool
) -> None:
    color, label = color_of(method), for_matplotlib(method.label)
    trained = pl.col("epoch") > 0
    by_ratio = method.sweep == "ratio"
    table = at_last_epoch(table) if by_ratio else method.measured(table).filter(trained)
    table = table.drop_nulls(["sparsity", "pearson"]).sort("sparsity")
    x, mean, low, high = (
        table[column].cast(pl.Float64).to_numpy()
        for column in ("sparsity", name, f"{name}_low", f"{name}_high")
    )
    if method.sweep == "ratio":
        # A percentile interval need not contain the estimate.
        ends = np.maximum([mean - low, high - mean], 0) if intervals else None
        label += ", by ratio"
        axes.errorbar(*(100 * x, mean, ends), color=color, label=label, zorder=MEANS, **UNMEASURED)
    else:
        if intervals:
            axes.fill_between(100 * x, low, high, color=color, alpha=0.2, linewidth=0)
        label += ", by epoch"
        style = "-" if method.is_trajectory else UNMEASURED["linestyle"]
        axes.plot(
            100 * x, mean, style, c=color, marker="o", markersize=3, label=label, zorder=MEANS
        )


def _predictability_caption(analysis: Analysis) -> str:
    return (
        "How well the test accuracy of twins, and its change by sparsification, are predicted from "
        "their parents in the dense zoo: R² of five-fold cross-validation over members, of ridge "
        "regression on statistics of each layer's weights, and of linear regression on dense "
        "accuracy. 0: no better than the mean of the members. Bars below "
        f"{signed(MIN_R2, 1)} are cut and labeled. Populations of fewer than {MIN_PREDICTED} "
        "finite members are not shown. Twins whose sparsity varies with the epoch are taken at "
        f"{SMOOTHED}. {abbreviations(analysis)}"
    )


@drawing(_predictability_caption)
def predictability(analysis: Analysis) -> Figure | None:
    """How well the accuracy of twins is predicted from the dense zoo.

    Returns:
        Bars of the cross-validated R2 by population, for accuracy after sparsification and for
        its change, predicted from layer statistics of the weights and from the dense
        accuracy. None without twins, or if all have too few members.
    """
    table = analysis.tables.get("predictability", pl.DataFrame())
    if table.is_empty():
        return None
    table = table.filter(pl.col("r2").is_finite())
    if table.is_empty():
        return None
    keys = table.select("method", "ratio", "epoch").unique(maintain_order=True).rows()
    if is_crowded(analysis):
        shown = {
            m.key: nearest_ratio(m.zoo, REFERENCE_SPARSITY) for m in analysis.twin_methods("ratio")
        }
        keys = [key for key in keys if key[1] == shown.get(key[0])]
    figure = new_figure(min(WIDTH, 3.2 + 0.5 * len(keys)), 4.6)
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    for axes, (target, title) in zip(panels, _TARGETS.items(), strict=True):
        axes.axhline(0, color=INK, linewidth=0.8)
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
    upright = len(keys) > _MAX_HORIZONTAL
    labels = [
        for_matplotlib(short[method])
        + (" " if upright else "\n")
        + (f"epoch {epoch}" if ratio is None else format_percent(ratio))
        for method, ratio, epoch in keys
    ]
    panels[1].set_xticks(range(len(keys)), labels, rotation=90 if upright else 0)
    panels[1].grid(visible=False, axis="x")
    panels[0].grid(visible=False, axis="x")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, [f"from {name}" for name in names], loc="outside lower center", ncols=2)
    return figure


def _bars(axes: Axes, r2: list[float | None], shift: float, color: str, label: str) -> None:
    values = np.array(r2, float)
    at = np.arange(len(values)) + shift
    axes.bar(at, np.maximum(values, MIN_R2), 0.38, color=color, label=label)
    for x, value in zip(at, values, strict=True):
        if value < MIN_R2:
            axes.annotate(
                signed(value),
                (x, MIN_R2),
                xytext=(0, -2),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=SMALL,
            )
