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
from zoojax.figures.style import VECTORS, in_style, new_figure

# Axis labels of the properties that are fractions.
_FRACTIONS = {"test_acc": "test accuracy", "sparsity": "sparsity", "ggap": "gap"}
_PROPERTIES = ("test_acc", "sparsity", "epoch", "ggap")
_TERMS = {
    "loss": ("total (eq. 6)", "#000000"),
    "contrastive": ("contrastive (eq. 3)", "#009E73"),
    "weights": ("weights (eq. 4)", "#D55E00"),
    "alphas": ("alphas (eq. 5)", "#0072B2"),
}
_UNITS = {"weights": "weight (std of its layer)", "log alphas": "log alpha"}
# Quantiles of the axis limits; with the full range, outliers would squeeze all other values into
# one hexagon.
_QUANTILES = (0.002, 0.998)


def _table(analysis: Analysis, name: str) -> pl.DataFrame:
    return analysis.tables.get(f"representation_{name}", pl.DataFrame())


@in_style
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
    figure = new_figure(
        *(analysis, 8.0, 6.2),
        "One dot per member and epoch: principal components of its embedding. Outlined: held-out "
        "members, with the R² of a ridge probe on them.",
    )
    probed = _table(analysis, "properties").filter(features="embedding")
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
        x[held_out], y[held_out], 14, values[held_out], linewidths=0.4, edgecolors="0.2", **style
    )
    return dots


@in_style
def representation_reconstruction(analysis: Analysis) -> Figure | None:
    """Plots reconstructed against true weights and log alphas of held-out members.

    Args:
        analysis: The analysis.

    Returns:
        One panel per quantity and layer with the density of pairs as hexagons, the diagonal,
        and R2. None without a hyper-representation.
    """
    pairs, fit = _table(analysis, "scatter"), _table(analysis, "reconstruction")
    if pairs.is_empty():
        return None
    quantities = pairs["quantity"].unique(maintain_order=True).to_list()
    layers = pairs["layer"].unique(maintain_order=True).sort().to_list()
    figure = new_figure(
        *(analysis, 2.1 * len(layers) + 0.6, 2.4 * len(quantities) + 0.7),
        "Held-out members; darker: more pairs (logarithmic). Dashed: perfect reconstruction. "
        "R² of log alphas on the scale of the loss, tanh((log alpha - 3) / r).",
    )
    for row, quantity in enumerate(quantities):
        for column, layer in enumerate(layers):
            axes = figure.add_subplot(len(quantities), len(layers), row * len(layers) + column + 1)
            scaled = "alphas" if quantity == "log alphas" else quantity
            r2 = fit.filter(part="test", quantity=scaled, layer=layer)["r2"].to_list()
            suffix = f", R² {100 * r2[0]:z.0f} %" if r2 and r2[0] is not None else ""
            axes.set_title(f"{layer}{suffix}")
            _hexagons(axes, pairs.filter(quantity=quantity, layer=layer))
            axes.set_xlabel(_UNITS[quantity] if column == len(layers) // 2 else "")
            axes.set_ylabel("reconstructed" if column == 0 else "")
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
    axes.plot([low, high], [low, high], color="0.2", linestyle="--", linewidth=0.8)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal")


@in_style
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
    figure = new_figure(analysis, 5.8, 3.6, "Solid: training members. Dashed: validation members.")
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
                markerfacecolor=color if part == "train" else "white",
                label=label if part == "train" else None,
            )
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("epoch of the autoencoder")
    axes.set_ylabel("loss")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
