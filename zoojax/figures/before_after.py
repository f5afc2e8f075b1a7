"""What becomes of members: accuracy before and after, and what foretells it."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zoojax.analysis import Analysis
from zoojax.figures.style import (
    COLOURS,
    NAMES,
    VECTORS,
    as_percent,
    at_last_epoch,
    in_style,
    new_figure,
    percent,
    population,
    sequence,
    spread,
    translucency,
)

_RATIOS = 5
# R2 below this says no more than "useless", and would squeeze the bars that say more.
LEAST_R2 = -0.2
_FEATURES = {"layer statistics": "#009E73", "dense accuracy": "#E69F00"}
_TARGETS = {"test_acc": "test accuracy of the twin", "change": "change of test accuracy"}


@in_style
def correlation(found: Analysis) -> Figure | None:
    """Test accuracy of each member before and after sparsification (Table 2 of the paper).

    Returns:
        A dot a member, in percent, at the epochs of table "friendliness": a panel a method,
        under pruning a colour for each of at most five ratios; Pearson's r and Kendall's
        tau below. None without twins.
    """
    tables = {t.config.kind: population(found, "friendliness", t.config.kind) for t in found.twins}
    tables = {kind: table for kind, table in tables.items() if len(table)}
    if not tables:
        return None
    figure = new_figure(found, 3.5 * len(tables) + 0.3, 4.5, "Dots: members. Line: no change.")
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    for axes, (kind, table) in zip(panels, tables.items(), strict=True):
        best = 100 * float(table["dense_acc"].max())  # pyright: ignore[reportArgumentType]
        axes.axline((best, best), slope=1, color="0.5", linewidth=0.8, zorder=1)
        ratios = spread(table["ratio"].unique().sort().to_list(), _RATIOS)
        colours = sequence(len(ratios)) if kind == "mp" else [COLOURS[kind]]
        for ratio, colour in zip(ratios, colours, strict=True):
            mine = table.filter(pl.col("ratio").eq_missing(ratio))
            axes.scatter(
                percent(mine["dense_acc"]),
                percent(mine["test_acc"]),
                s=12,
                color=colour,
                alpha=min(1, 2.5 * translucency(len(mine))),
                linewidths=0,
                label=_coefficients(found, kind, ratio, mine["epoch"][0]),
                rasterized=len(mine) > VECTORS,
            )
        axes.set_title(f"{NAMES[kind]}, epoch {table['epoch'][0]}")
        axes.set_xlabel("dense test accuracy (%)")
        axes.set_ylabel("test accuracy of the twin (%)")
        _legend_below(axes)
    return figure


def _coefficients(found: Analysis, method: str, ratio: float | None, epoch: int) -> str:
    """A population's entry in the legend."""
    row = population(found, "correlation", method).filter(
        pl.col("ratio").eq_missing(ratio), pl.col("epoch") == epoch
    )
    numbers = ", ".join(
        f"{sign} = {'none' if value is None else _signed(value)}"
        for sign, value in (("r", row["pearson"][0]), ("τ", row["kendall"][0]))
    )
    sparsity = row["sparsity"][0] if ratio is None else ratio
    return f"{as_percent(round(sparsity, 3))} sparse: {numbers}"


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
def correlation_over_sparsity(found: Analysis) -> Figure | None:
    """Correlation of accuracy before and after, over sparsity.

    Returns:
        Pearson's r and Kendall's tau with 95 % bootstrap intervals, over mean sparsity,
        percent: of the pruned at their last epoch by ratio, of variational dropout by
        epoch. None where nothing correlates: too few members, or no twin.
    """
    tables = {
        kind: population(found, "correlation", kind).drop_nulls(["sparsity", "pearson"])
        for kind in (t.config.kind for t in found.twins)
    }
    tables = {kind: table for kind, table in tables.items() if len(table)}
    if not tables:
        return None
    figure = new_figure(found, 7.6, 3.4, "Bars and bands: 95 % intervals (bootstrap of members).")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name, title in zip(
        panels, ("pearson", "kendall"), ("Pearson's r", "Kendall's τ"), strict=True
    ):
        for kind, table in tables.items():
            _coefficient_line(axes, table, kind, name)
        axes.set_title(f"{title}, accuracy before and after")
        axes.set_xlabel("mean sparsity (%)")
    panels[0].set_ylabel("correlation coefficient")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure


def _coefficient_line(axes: Axes, table: pl.DataFrame, kind: str, name: str) -> None:
    colour = COLOURS[kind]
    if kind == "mp":
        table = at_last_epoch(table).sort("ratio")
    x, mean, low, high = (
        table[column].cast(pl.Float64).to_numpy()
        for column in ("sparsity", name, f"{name}_low", f"{name}_high")
    )
    if kind == "mp":
        # An interval by percentiles need not hold the estimate.
        ends = np.maximum([mean - low, high - mean], 0)
        label = f"{NAMES[kind]}, by ratio, epoch {table['epoch'][0]}"
        axes.errorbar(100 * x, mean, ends, color=colour, marker="o", markersize=4, label=label)
    else:
        axes.fill_between(100 * x, low, high, color=colour, alpha=0.2, linewidth=0)
        label = f"{NAMES[kind]}, by epoch"
        axes.plot(100 * x, mean, color=colour, marker="o", markersize=3, label=label)


@in_style
def predictability(found: Analysis) -> Figure | None:
    """How well the twins' accuracy is predicted from the dense zoo.

    Returns:
        R2 of cross-validated predictions from layer statistics of the weights and from the
        dense accuracy alone, of the accuracy after and of its change, by population. None
        where nothing was predicted: too few members, or no twin.
    """
    table = found.tables.get("predictability", pl.DataFrame())
    if table.is_empty() or table.filter(pl.col("r2").is_finite()).is_empty():
        return None
    keys = table.select("method", "ratio", "epoch").unique(maintain_order=True).rows()
    figure = new_figure(
        found,
        max(6.4, 1.6 + 0.75 * len(keys)),
        4.6,
        f"R² of five-fold cross-validation; bars below −{-LEAST_R2} are cut, and say so.",
    )
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    for axes, (target, title) in zip(panels, _TARGETS.items(), strict=True):
        axes.axhline(0, color="0.3", linewidth=0.8)
        for shift, (features, colour) in zip((-0.2, 0.2), _FEATURES.items(), strict=True):
            mine = table.filter(pl.col("target") == target, pl.col("features") == features)
            known = {
                tuple(key): r2 for *key, r2 in mine.select("method", "ratio", "epoch", "r2").rows()
            }
            heights = [known.get(key) for key in keys]
            _bars(axes, heights, shift, colour, features)
        axes.set_title(f"target: {title}")
        axes.set_ylabel("R²")
    panels[0].set_ylim(LEAST_R2 - 0.16, 1.04)
    panels[0].set_yticks(np.linspace(0, 1, 5))
    labels = [
        f"{method.upper()}\n{f'epoch {epoch}' if ratio is None else as_percent(ratio)}"
        for method, ratio, epoch in keys
    ]
    panels[1].set_xticks(range(len(keys)), labels)
    panels[1].grid(visible=False, axis="x")
    panels[0].grid(visible=False, axis="x")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, [f"from {name}" for name in names], loc="outside upper center", ncols=2)
    return figure


def _bars(axes: Axes, r2: list[float | None], shift: float, colour: str, label: str) -> None:
    values = np.array(r2, float)
    at = np.arange(len(values)) + shift
    axes.bar(at, np.maximum(values, LEAST_R2), 0.38, color=colour, label=label)
    for x, value in zip(at, values, strict=True):
        if value < LEAST_R2:
            axes.annotate(
                _signed(value),
                (x, LEAST_R2),
                xytext=(0, -2),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=7,
            )
