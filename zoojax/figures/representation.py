"""A hyper-representation: its embeddings, what it reconstructs, how it was learned.

Of the tables of `hyper_representation.evaluation`, named "representation_..." in an analysis.
"""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from zoojax.analysis import Analysis
from zoojax.figures.style import VECTORS, in_style, new_figure

# Properties that are shares, and the others, as axes name them.
_SHARES = {"test_acc": "test accuracy", "sparsity": "sparsity", "ggap": "gap"}
_PROPERTIES = ("test_acc", "sparsity", "epoch", "ggap")
_PARTS = {
    "loss": ("all (eq. 6)", "#000000"),
    "contrastive": ("contrastive (eq. 3)", "#009E73"),
    "weights": ("weights (eq. 4)", "#D55E00"),
    "alphas": ("alphas (eq. 5)", "#0072B2"),
}
_UNITS = {"weights": "weight (deviations of its layer)", "log alphas": "log alpha"}
# A few far values would leave all others in one hexagon.
_SHOWN = (0.002, 0.998)


def _table(found: Analysis, name: str) -> pl.DataFrame:
    return found.tables.get(f"representation_{name}", pl.DataFrame())


@in_style
def representation_map(found: Analysis) -> Figure | None:
    """Embeddings in two dimensions, coloured by each property.

    Returns:
        Two principal components of every state's embedding, a panel a property, titled with
        the R2 of its probe; states of members held out ringed. None without a
        hyper-representation.
    """
    table = _table(found, "embeddings")
    if table.is_empty():
        return None
    figure = new_figure(
        *(found, 8.0, 6.2),
        "A dot a member and epoch: principal components of its embedding. Ringed: members held "
        "out of training. R² of a ridge probe on those.",
    )
    probed = _table(found, "properties").filter(features="embedding")
    r2 = dict(probed.select("property", "r2").iter_rows())
    for i, name in enumerate(_PROPERTIES, start=1):
        axes = figure.add_subplot(2, 2, i)
        # Without the sign that rounding may leave a zero.
        told = "" if r2.get(name) is None else f", R² {100 * r2[name]:z.1f} %"
        label = f"{_SHARES[name]} (%)" if name in _SHARES else name
        axes.set_title(f"{_SHARES.get(name, name)}{told}")
        figure.colorbar(_coloured(axes, table, name), ax=axes, label=label)
        axes.set_xlabel("first component")
        axes.set_ylabel("second component")
    return figure


def _coloured(axes: Axes, table: pl.DataFrame, name: str):
    held, values = (table["part"] == "test").to_numpy(), table[name].to_numpy()
    x, y, values = table["x"].to_numpy(), table["y"].to_numpy(), values.astype(np.float64)
    values = 100 * values if name in _SHARES else values
    # Chaotic members would leave one colour to all others.
    low, high = np.nanpercentile(values, [1, 99])
    look = {"vmin": low, "vmax": high, "cmap": "viridis", "rasterized": len(table) > VECTORS}
    dots = axes.scatter(x[~held], y[~held], 8, values[~held], linewidths=0, alpha=0.8, **look)
    axes.scatter(x[held], y[held], 14, values[held], linewidths=0.4, edgecolors="0.2", **look)
    return dots


@in_style
def representation_reconstruction(found: Analysis) -> Figure | None:
    """Reconstructed weights and log alphas over the true ones, a panel a layer.

    Returns:
        Hexagons by how many pairs lie in them, darker for more, of members held out; the
        diagonal, and R2 of all pairs, on the scale that it is measured on. None without a
        hyper-representation.
    """
    pairs, fit = _table(found, "scatter"), _table(found, "reconstruction")
    if pairs.is_empty():
        return None
    quantities = pairs["quantity"].unique(maintain_order=True).to_list()
    layers = pairs["layer"].unique(maintain_order=True).sort().to_list()
    figure = new_figure(
        *(found, 2.1 * len(layers) + 0.6, 2.4 * len(quantities) + 0.7),
        "Of members held out; darker: more pairs (logarithmic). Dashed: reconstructed as it is. "
        "R² of log alphas on the scale of the loss, tanh((log alpha - 3) / r).",
    )
    for row, quantity in enumerate(quantities):
        for column, layer in enumerate(layers):
            axes = figure.add_subplot(len(quantities), len(layers), row * len(layers) + column + 1)
            of = "alphas" if quantity == "log alphas" else quantity
            own = fit.filter(part="test", quantity=of, layer=layer)["r2"].to_list()
            told = f", R² {100 * own[0]:z.0f} %" if own and own[0] is not None else ""
            axes.set_title(f"{layer}{told}")
            _hexagons(axes, pairs.filter(quantity=quantity, layer=layer))
            axes.set_xlabel(_UNITS[quantity] if column == len(layers) // 2 else "")
            axes.set_ylabel("reconstructed" if column == 0 else "")
    return figure


def _hexagons(axes: Axes, pairs: pl.DataFrame) -> None:
    if pairs.is_empty():
        return
    true, guess = pairs["true"].to_numpy(), pairs["reconstructed"].to_numpy()
    low, high = np.quantile(np.concatenate([true, guess]), _SHOWN)
    low, high = (low, high) if high > low else (low - 1, high + 1)
    axes.hexbin(
        *(true, guess),
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
def representation_losses(found: Analysis) -> Figure | None:
    """Parts of the loss over the epochs of the autoencoder's training.

    Returns:
        Training as a line, validation dashed, on a logarithmic scale. None without a
        hyper-representation.
    """
    table = _table(found, "losses")
    if table.is_empty():
        return None
    figure = new_figure(found, 5.8, 3.6, "Lines: training. Dashed: members that validate.")
    axes = figure.add_subplot()
    mark = "o" if len(table) == 1 else ""
    for name, (label, colour) in _PARTS.items():
        for part, style in (("train", "-"), ("val", "--")):
            if f"{part}_{name}" not in table.columns:
                continue
            axes.plot(
                *(table["epoch"].to_numpy(), table[f"{part}_{name}"].to_numpy()),
                color=colour,
                linestyle=style,
                marker=mark,
                markerfacecolor=colour if part == "train" else "white",
                label=label if part == "train" else None,
            )
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("epoch of the autoencoder")
    axes.set_ylabel("loss")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
