"""Accuracy over sparsity of members pruned without training."""

import polars as pl
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from zoojax.figures.style import percent, styled, wrap_footer
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.variational_dropout import VariationalDropout
from zoojax.text import printable

# From Okabe and Ito's palette; other methods are true masks.
_COLORS = {"predicted": "#009E73", "magnitude": MagnitudePruning.color, "random": "0.55"}

_REMARK = "Bands: standard deviation over members. Stars: pruned where log alpha >= 3."
# Inches.
_WIDTH = 6.4


def zero_shot(table: pl.DataFrame, about: str) -> Figure:
    """Draws the table of `hyper_representation.zero_shot.compare`.

    Args:
        table: the table.
        about: footer text that names the zoo and the members.

    Returns:
        Mean test accuracy over sparsity, both in percent: one curve per method with the
        standard deviation over members as a band, and a star at the sparsity that the
        threshold of log alpha gives.
    """
    with styled():
        figure = Figure(
            figsize=(_WIDTH, 4.0), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06)
        )
        figure.supxlabel(
            wrap_footer(f"{printable(about)}\n{_REMARK}", _WIDTH),
            **{"x": 0.01, "ha": "left", "fontsize": 7, "color": "0.35", "linespacing": 1.4},
        )
        axes = figure.add_subplot()
        for method in table["method"].unique(maintain_order=True):
            rows = table.filter(pl.col("method") == method).sort("sparsity")
            color = _COLORS.get(method, VariationalDropout.color)
            curve, star = (rows.filter(pl.col("at_threshold") == at) for at in (False, True))
            x, mean, std = (
                percent(curve[n]) for n in ("sparsity", "test_acc_mean", "test_acc_std")
            )
            axes.fill_between(x, mean - std, mean + std, color=color, alpha=0.15, linewidth=0)
            axes.plot(x, mean, color=color, marker="o", markersize=3, label=method)
            axes.plot(
                *(percent(star["sparsity"]), percent(star["test_acc_mean"]), "*"),
                color=color,
                markersize=9,
            )
        axes.set_xlabel("sparsity (%)")
        axes.set_ylabel("test accuracy without training (%)")
        axes.legend()
    return figure
