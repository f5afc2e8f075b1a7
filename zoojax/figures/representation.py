"""Figures of a hyper-representation: embeddings, reconstruction and training losses.

They show the tables of `hyper_representation.evaluation`, which have the prefix
"representation_" in an analysis.
"""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from zoojax.analysis import Analysis
from zoojax.figures.style import (
    INK,
    SMALL,
    VECTORS,
    WIDTH,
    drawing,
    grid,
    legend_below,
    new_figure,
)
from zoojax.text import for_matplotlib

# Axis labels of the properties that are fractions.
_FRACTIONS = {"test_acc": "test accuracy", "sparsity": "sparsity", "ggap": "gap"}
_PROPERTIES = ("test_acc", "sparsity", "epoch", "ggap")
_TERMS = {
    "loss": ("total (eq. 6)", INK),
    "contrastive": ("contrastive (eq. 3)", "#009E73"),
    "weights": ("weights (eq. 4)", "#D55E00"),
    "alphas": ("alphas (eq. 5)", "#0072B2"),
    "behavior": ("predictions", "#CC79A7"),
    "probes": ("probes", "#E69F00"),
}
_UNITS = {"weights": "weight (std of its layer)", "log alphas": "log alpha"}
# Panels of layers in one row.
_COLUMNS = 4
# Quantiles of the axis limits; with the full range, outliers would squeeze all other values into
# one hexagon.
_QUANTILES = (0.002, 0.998)


def _table(analysis: Analysis, name: str) -> pl.DataFrame:
    return analysis.tables.get(f"representation_{name}", pl.DataFrame())


def of_all_zoos(table: pl.DataFrame) -> pl.DataFrame:
    """Selects the figures of all training zoos, which come first, from those of each zoo."""
    return table if table.is_empty() else table.filter(pl.col("zoo") == pl.col("zoo").first())


@drawing(
    "Embeddings of the hyper-representation: their first two principal components, one dot per "
    "member and epoch, colored by a property of the state. Outlined: held-out members, with the R² "
    "of ridge regression of the property on their embeddings. The color scale ends at percentiles "
    "1 and 99."
)
def representation_map(analysis: Analysis) -> Figure | None:
    """Plots the embeddings in two dimensions, colored by each property.

    Args:
        analysis: The analysis.

    Returns:
        One panel per property with two principal components of each state's embedding, titled
        with the R2 of the probe; held-out members have outlined dots. None without a
        hyper-representation.
    """
    table = _table(analysis, "embeddings")
    if table.is_empty():
        return None
    figure = new_figure(WIDTH, 5.4)
    probed = of_all_zoos(_table(analysis, "properties")).filter(
        features="embedding", scope="all states"
    )
    r2 = dict(probed.select("property", "r2").iter_rows())
    for i, name in enumerate(_PROPERTIES, start=1):
        axes = figure.add_subplot(2, 2, i)
        # The format option z avoids "-0.0".
        suffix = "" if r2.get(name) is None else f", R² {100 * r2[name]:z.1f} %"
        label = f"{_FRACTIONS[name]} (%)" if name in _FRACTIONS else name
        axes.set_title(f"{_FRACTIONS.get(name, name)}{suffix}")
        figure.colorbar(_scatter(axes, table, name), ax=axes, label=label)
        axes.set_xlabel("first component")
        axes.set_ylabel("second component")
    return figure


def _scatter(axes: Axes, table: pl.DataFrame, name: str):
    held_out, values = (table["part"] == "test").to_numpy(), table[name].to_numpy()
    x, y, values = table["x"].to_numpy(), table["y"].to_numpy(), values.astype(np.float64)
    values = 100 * values if name in _FRACTIONS else values
    # Color limits at quantiles, so that outliers do not compress the color scale.
    low, high = np.nanpercentile(values, [1, 99])
    style = {"vmin": low, "vmax": high, "cmap": "viridis", "rasterized": len(table) > VECTORS}
    dots = axes.scatter(
        x[~held_out], y[~held_out], 8, values[~held_out], linewidths=0, alpha=0.8, **style
    )
    axes.scatter(
        x[held_out], y[held_out], 14, values[held_out], linewidths=0.5, edgecolors=INK, **style
    )
    return dots


@drawing(
    "Reconstructed weights and log alphas over the true ones, for held-out members. Darker: more "
    "values (logarithmic). Dashed: perfect reconstruction. R² of log alphas is that on the scale "
    "of the loss, tanh((log alpha − 3) / r). As Table 3 of the paper (arXiv 2304.13718)."
)
def representation_reconstruction(analysis: Analysis) -> Figure | None:
    """Plots reconstructed against true weights and log alphas of held-out members.

    Args:
        analysis: The analysis.

    Returns:
        One panel per quantity and layer with the density of pairs as hexagons, the diagonal,
        and R2. None without a hyper-representation.
    """
    pairs, fit = _table(analysis, "scatter"), of_all_zoos(_table(analysis, "reconstruction"))
    if pairs.is_empty():
        return None
    quantities = pairs["quantity"].unique(maintain_order=True).to_list()
    layers = pairs["layer"].unique(maintain_order=True).sort().to_list()
    down, across = grid(len(layers), _COLUMNS)
    figure = new_figure(min(WIDTH, 1.9 * across + 0.4), 2.1 * down * len(quantities))
    for row, quantity in enumerate(quantities):
        for column, layer in enumerate(layers):
            position = row * down * across + column + 1
            axes = figure.add_subplot(down * len(quantities), across, position)
            scaled = "alphas" if quantity == "log alphas" else quantity
            r2 = fit.filter(part="test", quantity=scaled, layer=layer)["r2"].to_list()
            suffix = f", R² {100 * r2[0]:z.0f} %" if r2 and r2[0] is not None else ""
            axes.set_title(f"{for_matplotlib(layer)}{suffix}", fontsize=SMALL)
            _hexagons(axes, pairs.filter(quantity=quantity, layer=layer))
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.set_xlabel(_UNITS[quantity], fontsize=SMALL)
            axes.set_ylabel("reconstructed" if column % across == 0 else "", fontsize=SMALL)
    return figure


def _hexagons(axes: Axes, pairs: pl.DataFrame) -> None:
    if pairs.is_empty():
        return
    true, reconstructed = pairs["true"].to_numpy(), pairs["reconstructed"].to_numpy()
    low, high = np.quantile(np.concatenate([true, reconstructed]), _QUANTILES)
    low, high = (low, high) if high > low else (low - 1, high + 1)
    axes.hexbin(
        *(true, reconstructed),
        gridsize=30,
        extent=(low, high, low, high),
        bins="log",
        mincnt=1,
        cmap="viridis_r",
        linewidths=0.1,
        rasterized=True,
    )
    axes.plot([low, high], [low, high], color=INK, linestyle="--", linewidth=0.8)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal")


@drawing(
    "Loss of the autoencoder and its terms (equations 3 to 6 of the paper, arXiv 2304.13718), over "
    "its training epochs. Predictions: divergence of reconstructed members from the originals. "
    "Solid: training members. Dashed: validation members."
)
def representation_losses(analysis: Analysis) -> Figure | None:
    """Plots the loss and its terms over the training epochs of the autoencoder.

    Args:
        analysis: The analysis.

    Returns:
        Training (solid) and validation (dashed) losses on a logarithmic scale. None without a
        hyper-representation.
    """
    table = _table(analysis, "losses")
    if table.is_empty():
        return None
    figure = new_figure(5.6, 3.6)
    axes = figure.add_subplot()
    marker = "o" if len(table) == 1 else ""
    for name, (label, color) in _TERMS.items():
        for part, style in (("train", "-"), ("val", "--")):
            if f"{part}_{name}" not in table.columns:
                continue
            axes.plot(
                *(table["epoch"].to_numpy(), table[f"{part}_{name}"].to_numpy()),
                color=color,
                linestyle=style,
                marker=marker,
                markerfacecolor=color if part == "train" else "none",
                label=label if part == "train" else None,
            )
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("epoch of the autoencoder")
    axes.set_ylabel("loss")
    legend_below(axes, columns=4)
    return figure
