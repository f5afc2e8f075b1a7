"""Accuracy over sparsity of members that were pruned without training."""

import polars as pl
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from zoojax.figures.style import COLOURS, percent, styled, wrapped
from zoojax.text import printable

# Okabe and Ito's; the true mask last, by any epoch.
_COLOURS = {"predicted": "#009E73", "magnitude": COLOURS["mp"], "random": "0.55"}

_REMARK = "Bands: standard deviation over members. Stars: pruned where log alpha >= 3."
# Inches.
_WIDTH = 6.4


def zero_shot(table: pl.DataFrame, about: str) -> Figure:
    """Draws the table of `hyper_representation.zero_shot.compare`.

    Args:
        table: it.
        about: the footer: which members of which zoo.

    Returns:
        Mean test accuracy over sparsity, both percent, a curve a method, with the standard
        deviation over members as a band; what log alpha's threshold prunes as a star.
    """
    with styled():
        figure = Figure(
            figsize=(_WIDTH, 4.0), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06)
        )
        figure.supxlabel(
            wrapped(f"{printable(about)}\n{_REMARK}", _WIDTH),
            **{"x": 0.01, "ha": "left", "fontsize": 7, "color": "0.35", "linespacing": 1.4},
        )
        axes = figure.add_subplot()
        for method in table["method"].unique(maintain_order=True):
            rows = table.filter(pl.col("method") == method).sort("sparsity")
            colour = _COLOURS.get(method, COLOURS["vd"])
            curve, star = (rows.filter(pl.col("at_threshold") == at) for at in (False, True))
            x, mean, std = (
                percent(curve[n]) for n in ("sparsity", "test_acc_mean", "test_acc_std")
            )
            axes.fill_between(x, mean - std, mean + std, color=colour, alpha=0.15, linewidth=0)
            axes.plot(x, mean, color=colour, marker="o", markersize=3, label=method)
            axes.plot(
                *(percent(star["sparsity"]), percent(star["test_acc_mean"]), "*"),
                color=colour,
                markersize=9,
            )
        axes.set_xlabel("sparsity (%)")
        axes.set_ylabel("test accuracy without training (%)")
        axes.legend()
    return figure
