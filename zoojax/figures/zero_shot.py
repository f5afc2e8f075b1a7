"""Accuracy over sparsity of members pruned without training."""

import polars as pl
from matplotlib.figure import Figure

from zoojax.figures.style import INK, new_figure, percent, styled
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.variational_dropout import VariationalDropout
from zoojax.text import printable

# From Okabe and Ito's palette; other methods are true masks.
_COLORS = {"predicted": "#009E73", "magnitude": MagnitudePruning.color, "random": INK}


def zero_shot_caption(zoo: str, members: int) -> str:
    """The caption of `zero_shot`.

    Args:
        zoo: name of the parent zoo.
        members: number of members.
    """
    return (
        "Test accuracy over sparsity of members that are pruned without training, by what the "
        "pruned weights are chosen from. Lines: means over members. Bands: standard deviation. "
        f"Stars: pruned where log alpha >= 3. Zoo {printable(zoo, 60)}, n = {members} held-out "
        "members."
    )


def zero_shot(table: pl.DataFrame) -> Figure:
    """Draws the table of `hyper_representation.zero_shot.compare`.

    Args:
        table: the table.

    Returns:
        Mean test accuracy over sparsity, both in percent: one curve per method with the
        standard deviation over members as a band, and a star at the sparsity that the
        threshold of log alpha gives.
    """
    with styled():
        figure = new_figure(5.6, 3.8)
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
