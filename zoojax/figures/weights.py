"""Pruning frequency of single weights, and sparsity of layers by their size."""

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from zoojax.analysis import Analysis
from zoojax.analysis.results import Method
from zoojax.analysis.summaries import kernel_shapes
from zoojax.figures.style import (
    DOTS,
    SMALL,
    WIDTH,
    Drawing,
    at_last_epoch,
    color_sequence,
    drawing,
    evenly_spaced,
    format_percent,
    grid,
    is_crowded,
    legend_below,
    method_rows,
    new_figure,
    percent,
    wrapped,
)
from zoojax.text import for_matplotlib, printable

_EPOCHS = (5, 10, 15, 20)
_MAX_ROWS = 5
# In inches: side of a drawn weight, maximum height of a row, minimum width of a column (for
# its heading); margins left, right, top and bottom; gap between rows and columns.
_CELL, _MAX_ROW_HEIGHT, _MIN_COLUMN_WIDTH = 0.036, 2.4, 1.0
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 0.75, 0.8, 0.5, 0.05, 0.12
# Width of the points of a layer, in distances of layers; layers with horizontal names.
_SPREAD, _MAX_HORIZONTAL = 0.7, 6


def _frequency_caption(analysis: Analysis, method: Method | None = None) -> str:
    method = method or _first(analysis)
    which = "twins" if method is None else f"twins by {printable(method.label)}"
    epoch = ""
    if method is not None and method.sweep == "ratio":
        table = method_rows(analysis, "pruning_frequency", method)
        epoch = f" by pruning ratio at epoch {table['epoch'][0]}"
    return (
        f"Fraction of members in which each single weight of {which} is zero{epoch}, one column "
        "per layer. Convolutions: one tile per kernel. Rows: inputs (channels). Columns: outputs "
        "(features). As Figure 3 of the paper (arXiv 2304.13718)."
    )


@drawing(_frequency_caption)
def pruning_frequency(analysis: Analysis) -> Figure | None:
    """Fraction of members in which each single weight is zero.

    Returns:
        Heat maps in percent of members, one row per epoch or pruning ratio and one column per
        layer, of the first twin whose sparsity varies with the epoch, else of the first one.
        None without twins.
    """
    method = _first(analysis)
    return None if method is None else _frequency(analysis, method)


def further_pruning_frequencies(analysis: Analysis) -> dict[str, Drawing]:
    """Drawings of `pruning_frequency` of the twins that it does not show.

    Args:
        analysis: The analysis.

    Returns:
        One drawing per twin, by the method's key.
    """

    def drawing_of(method: Method) -> Drawing:
        return Drawing(
            lambda analysis: _frequency(analysis, method),
            lambda analysis: _frequency_caption(analysis, method),
        )

    first = _first(analysis)
    further = [each for each in analysis.twin_methods() if first and each.key != first.key]
    return {method.key: drawing_of(method) for method in further}


def _first(analysis: Analysis) -> Method | None:
    """The first twin whose sparsity varies with the epoch, else the first one."""
    twins = analysis.twin_methods("epoch") + analysis.twin_methods("ratio")
    shown = [each for each in twins if len(method_rows(analysis, "pruning_frequency", each))]
    return next(iter(shown), None)


def kernel_image(frequency: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Arranges the values of a layer's weights as an image.

    Args:
        frequency: [weights], in row-major order of the Flax kernel.
        shape: shape of the weights, [height, width, inputs, features] or [inputs, features].

    Returns:
        [rows, columns]: inputs by features; for a convolution a grid of its filters, inputs
        by features, with NaN in the gaps between them.
    """
    kernel = frequency.reshape(shape)
    if kernel.ndim == 2:
        return kernel
    tiles = np.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)), constant_values=np.nan)
    height, width, inputs, features = tiles.shape
    image = tiles.transpose(2, 0, 3, 1).reshape(inputs * height, features * width)
    return image[:-1, :-1]


def _frequency(analysis: Analysis, method: Method) -> Figure | None:
    table = method_rows(analysis, "pruning_frequency", method)
    if table.is_empty():
        return None
    key = method.sweep
    rows = evenly_spaced(table[key].unique().sort().to_list(), _MAX_ROWS)
    shapes = kernel_shapes(analysis.zoo)
    sizes = [kernel_image(np.zeros(int(np.prod(s))), s).shape for s in shapes.values()]
    # Laid out manually: a layout engine would scale each layer differently.
    cell = min(_CELL, _MAX_ROW_HEIGHT / max(height for height, _ in sizes))
    margins = _LEFT + _GAP * len(sizes) + _RIGHT
    columns = [max(_MIN_COLUMN_WIDTH, cell * width) for _, width in sizes]
    if margins + sum(columns) > WIDTH:
        cell *= (WIDTH - margins) / sum(columns)
        columns = [column * (WIDTH - margins) / sum(columns) for column in columns]
    row = cell * max(height for height, _ in sizes)
    width = margins + sum(columns)
    height = _TOP + len(rows) * (row + _GAP) + _BOTTOM
    figure = new_figure(width, height, free=True)

    def place(left: float, top: float, wide: float, high: float) -> Axes:
        """Adds axes, positioned in inches from the upper left."""
        return figure.add_axes(
            (left / width, 1 - (top + high) / height, wide / width, high / height)
        )

    colors = mpl.colormaps["cividis"].with_extremes(bad="none")
    for i, value in enumerate(rows):
        top, left = _TOP + i * (row + _GAP), _LEFT
        text = f"epoch {value}" if key == "epoch" else format_percent(value)
        figure.text(
            (_LEFT - 0.1) / width, 1 - (top + row / 2) / height, text, ha="right", va="center"
        )
        for column, (layer, shape), size in zip(columns, shapes.items(), sizes, strict=True):
            if i == 0:
                heading = f"{layer}\n{_describe(shape)}"
                x = (left + column / 2) / width
                figure.text(x, 1 - (_TOP - 0.08) / height, heading, ha="center", fontsize=SMALL)
            high, wide = cell * size[0], cell * size[1]
            axes = place(left + (column - wide) / 2, top + (row - high) / 2, wide, high)
            cells = table.filter(pl.col(key) == value, pl.col("layer") == layer).sort("weight")
            axes.imshow(
                kernel_image(percent(cells["frequency"]), shape),
                cmap=colors,
                vmin=0,
                vmax=100,
                aspect="auto",
                # Keeps one pixel per weight in SVG.
                interpolation="none",
            )
            axes.set_axis_off()
            left += column + _GAP
    tall = height - _TOP - _BOTTOM - _GAP
    figure.colorbar(
        ScalarMappable(Normalize(0, 100), colors),
        cax=place(width - _RIGHT, _TOP + max(0, tall / 2 - 2), 0.14, min(tall, 4)),
    ).set_label("zero (% of members)", fontsize=SMALL)
    return figure


def _describe(shape: tuple[int, ...]) -> str:
    if len(shape) == 2:
        return f"{shape[0]} × {shape[1]}"
    return f"{shape[2]} × {shape[3]} of {shape[0]} × {shape[1]}"


@drawing(
    "Sparsity of each layer, by its number of weights: mean over members, and standard deviation "
    "as bars. Layers are in ascending order of size, weights without biases. As Figure 4 of "
    "the paper (arXiv 2304.13718), which pools all zoos."
)
def layer_size(analysis: Analysis) -> Figure | None:
    """Sparsity of layers by their size.

    Returns:
        One panel per twin: mean sparsity of each layer in percent, with its standard deviation
        over members, at epochs 5, 10, 15 and 20 (or those there are), or by pruning ratio.
        Layers are in the order of their numbers of weights. None without twins; of more than
        eight methods, `method_layers` is a heat map.
    """
    if is_crowded(analysis):
        return None
    shown = [(each, list(_layer_series(analysis, each))) for each in analysis.twin_methods()]
    shown = [(method, series) for method, series in shown if series]
    if not shown:
        return None
    layers = analysis.tables["layer_sparsity"].select("layer", "weights").unique()
    layers = layers.sort("weights", "layer")
    down, across = grid(len(shown))
    figure = new_figure(4.6 if across == 1 else WIDTH, 3.5 * down)
    for position, (method, series) in enumerate(shown, 1):
        axes = figure.add_subplot(down, across, position)
        axes.set_title(wrapped(method.label))
        _layer_points(axes, series, layers)
    return figure


def _layer_points(axes: Axes, series: list[tuple[str, pl.DataFrame]], layers: pl.DataFrame) -> None:
    """Draws one point per layer and series, side by side."""
    position = {layer: at for at, layer in enumerate(layers["layer"].to_list())}
    shifts = _SPREAD * (np.arange(len(series)) - (len(series) - 1) / 2) / max(len(series), 1)
    for (label, rows), color, marker, shift in zip(
        series, color_sequence(len(series)), "osD^v", shifts, strict=False
    ):
        axes.errorbar(
            np.array([position[layer] for layer in rows["layer"].to_list()]) + shift,
            percent(rows["mean"]),
            percent(rows["std"]),
            color=color,
            marker=marker,
            markersize=4.5,
            linestyle="none",
            elinewidth=0.8,
            label=label,
            zorder=DOTS,
        )
    upright = len(position) > _MAX_HORIZONTAL
    labels = [
        f"{for_matplotlib(layer)}{' ' if upright else chr(10)}{weights:,}"
        for layer, weights in layers.iter_rows()
    ]
    axes.set_xticks(range(len(labels)), labels, rotation=90 if upright else 0)
    axes.grid(visible=False, axis="x")
    axes.set_ylim(-3, 103)
    axes.set_xlabel("layer, and its number of weights")
    axes.set_ylabel("sparsity of the layer (%)")
    legend_below(axes, columns=2, offset=1.35 if upright else 0.62)


def _layer_series(analysis: Analysis, method: Method) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yields (label, rows of the layers) for each population that is drawn."""
    table = method_rows(analysis, "layer_sparsity", method)
    table = table if table.is_empty() else table.drop_nulls("mean")
    if table.is_empty():
        return
    if method.sweep == "epoch":
        trained = table.filter(pl.col("epoch") > 0)["epoch"].unique().sort().to_list()
        epochs = [e for e in _EPOCHS if e in trained] or evenly_spaced(trained, len(_EPOCHS))
        for epoch in epochs:
            yield f"epoch {epoch}", table.filter(pl.col("epoch") == epoch)
        return
    table = at_last_epoch(table)
    ratios = table.filter(pl.col("ratio") > 0)["ratio"].unique().sort().to_list()
    for ratio in evenly_spaced(ratios, _MAX_ROWS):
        yield f"{format_percent(ratio)}{method.of} pruned", table.filter(pl.col("ratio") == ratio)
