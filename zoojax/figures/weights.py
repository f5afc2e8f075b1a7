"""Pruning frequency of single weights, and sparsity of layers by their size."""

from collections.abc import Callable, Iterator

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from zoojax.analysis import Analysis
from zoojax.analysis.results import Method
from zoojax.analysis.summaries import kernel_shapes
from zoojax.figures.style import (
    at_last_epoch,
    color_sequence,
    evenly_spaced,
    format_percent,
    in_style,
    method_rows,
    new_figure,
    percent,
)

_EPOCHS = (5, 10, 15, 20)
_MAX_ROWS = 5
# In inches: side of a drawn weight, maximum height of a row, minimum width of a column (for
# its heading); margins left, right, top and bottom; gap between rows and columns.
_CELL, _MAX_ROW_HEIGHT, _MIN_COLUMN_WIDTH = 0.036, 2.4, 1.0
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 0.75, 0.95, 0.5, 0.6, 0.15


@in_style
def pruning_frequency(analysis: Analysis) -> Figure | None:
    """Fraction of members in which each single weight is zero (Figure 3 of the paper).

    Returns:
        Heat maps in percent of members, one row per epoch or pruning ratio and one column per
        layer, of the first twin whose sparsity varies with the epoch, else of the first one.
        None without twins.
    """
    method = _first(analysis)
    return None if method is None else _frequency(analysis, method)


def further_pruning_frequencies(analysis: Analysis) -> dict[str, Callable[[], Figure | None]]:
    """Functions that draw `pruning_frequency` of the twins that it does not show.

    Args:
        analysis: The analysis.

    Returns:
        One function per twin, by the method's key.
    """

    def drawing(method: Method) -> Callable[[], Figure | None]:
        return lambda: in_style(lambda each: _frequency(each, method))(analysis)

    first = _first(analysis)
    further = [each for each in analysis.twin_methods() if first and each.key != first.key]
    return {method.key: drawing(method) for method in further}


def _first(analysis: Analysis) -> Method | None:
    """The first twin whose sparsity varies with the epoch, else the first one."""
    twins = analysis.twin_methods("epoch") + analysis.twin_methods("ratio")
    shown = [each for each in twins if len(method_rows(analysis, "pruning_frequency", each))]
    return next(iter(shown), None)


def _names(analysis: Analysis, method: Method) -> str:
    """A sentence that names the twin, if the analysis has others with the same sweep."""
    several = len(analysis.twin_methods(method.sweep)) > 1
    return f"{method.capitalized}. " if several else ""


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
    row = cell * max(height for height, _ in sizes)
    columns = [max(_MIN_COLUMN_WIDTH, cell * width) for _, width in sizes]
    width = _LEFT + sum(columns) + _GAP * len(columns) + _RIGHT
    height = _TOP + len(rows) * (row + _GAP) + _BOTTOM
    remark = (
        f"{_names(analysis, method)}Convolutions: one tile per kernel. Rows: inputs (channels). "
        "Columns: outputs (features)."
    )
    figure = new_figure(analysis, width, height, remark, free=True)

    def place(left: float, top: float, wide: float, high: float) -> Axes:
        """Adds axes, positioned in inches from the upper left."""
        return figure.add_axes(
            (left / width, 1 - (top + high) / height, wide / width, high / height)
        )

    colors = mpl.colormaps["cividis"].with_extremes(bad="white")
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
                figure.text(x, 1 - (_TOP - 0.08) / height, heading, ha="center", fontsize=8)
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
        label="weight is zero (% of members)",
    )
    return figure


def _describe(shape: tuple[int, ...]) -> str:
    if len(shape) == 2:
        return f"{shape[0]} × {shape[1]}"
    return f"{shape[2]} × {shape[3]} of {shape[0]} × {shape[1]}"


@in_style
def layer_size(analysis: Analysis) -> Figure | None:
    """Sparsity of layers over their size, both logarithmic (Figure 4 of the paper).

    Returns:
        Mean sparsity of a layer in percent, with its standard deviation over members, over
        its number of weights; layers of equal size are pooled. Shows the first twin whose
        sparsity varies with the epoch, at epochs 5, 10, 15 and 20 (or those there are);
        without one, the first twin, by pruning ratio. None without twins.
    """
    method = next(iter(analysis.twin_methods("epoch") + analysis.twin_methods("ratio")), None)
    series = [] if method is None else list(_layer_series(analysis, method))
    if method is None or not any(len(rows) for _, rows in series):
        return None
    figure = new_figure(
        analysis,
        5.8,
        4.0,
        f"{_names(analysis, method)}Mean and standard deviation over members; layers of equal "
        "size are pooled.",
    )
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_yscale("log", nonpositive="clip")
    shifts = 1.03 ** (np.arange(len(series)) - (len(series) - 1) / 2)
    for (label, rows), color, marker, shift in zip(
        series, color_sequence(len(series)), "osD^v", shifts, strict=False
    ):
        axes.errorbar(
            rows["weights"].to_numpy() * shift,
            percent(rows["mean"]),
            percent(rows["std"]),
            color=color,
            marker=marker,
            markersize=4.5,
            linestyle="none",
            elinewidth=0.8,
            label=label,
        )
    _log_ticks(axes.xaxis)
    _log_ticks(axes.yaxis)
    axes.set_xlabel("weights in the layer")
    axes.set_ylabel("mean sparsity of the layer (%)")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    _name_layers(axes, analysis.tables["layer_sparsity"])
    return figure


def _layer_series(analysis: Analysis, method: Method) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yields (label, rows of `pool_equal_sizes`) for each population that is drawn."""
    table = method_rows(analysis, "layer_sparsity", method)
    if table.is_empty():
        return
    if method.sweep == "epoch":
        trained = table.filter(pl.col("epoch") > 0)["epoch"].unique().sort().to_list()
        epochs = [e for e in _EPOCHS if e in trained] or evenly_spaced(trained, len(_EPOCHS))
        for epoch in epochs:
            yield f"epoch {epoch}", pool_equal_sizes(table.filter(pl.col("epoch") == epoch))
        return
    table = at_last_epoch(table)
    ratios = table.filter(pl.col("ratio") > 0)["ratio"].unique().sort().to_list()
    for ratio in evenly_spaced(ratios, _MAX_ROWS):
        yield (
            f"{format_percent(ratio)} pruned",
            pool_equal_sizes(table.filter(pl.col("ratio") == ratio)),
        )


def pool_equal_sizes(table: pl.DataFrame) -> pl.DataFrame:
    """Pools layers of equal size: `weights`, `mean`, `std` (about the common mean).

    Layers without any zero are dropped, since they cannot be shown on a logarithmic axis.
    """
    variance = (pl.col("std") ** 2 + pl.col("mean") ** 2).mean() - pl.col("mean").mean() ** 2
    return (
        table.drop_nulls("mean")
        .with_columns(pl.col("mean", "std").cast(pl.Float64))
        .group_by("weights", maintain_order=True)
        .agg(variance.clip(0).sqrt().alias("std"), pl.col("mean").mean())
        .filter(pl.col("mean") > 0)
        .sort("weights")
    )


def _log_ticks(axis) -> None:
    """Sets ticks at round numbers, in plain notation, even if the range is narrow."""
    low, high = axis.get_view_interval()
    round_numbers = [m * 10.0**e for e in range(-3, 8) for m in (1, 2, 5)]
    visible = [v for v in round_numbers if low <= v <= high]
    axis.set_major_locator(
        FixedLocator(visible) if len(visible) > 2 else MaxNLocator(5, steps=[1, 2, 5, 10])
    )
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _name_layers(axes, table: pl.DataFrame) -> None:
    """Names the layers above the axes, layers of similar size at one tick."""
    sizes = table.select("layer", "weights").unique().sort("weights", "layer")
    low, high = np.log(axes.get_xlim())
    groups: list[list[tuple[str, int]]] = []
    for layer, weights in sizes.iter_rows():
        close = groups and np.log(weights / groups[-1][-1][1]) < 0.1 * (high - low)
        if close:
            groups[-1].append((layer, weights))
        else:
            groups.append([(layer, weights)])
    top = axes.secondary_xaxis("top")
    middles = [float(np.exp(np.mean(np.log([w for _, w in group])))) for group in groups]
    names = ["\n".join(layer for layer, _ in group) for group in groups]
    top.set_xticks(middles, names)
    top.xaxis.set_minor_locator(NullLocator())
    top.tick_params(length=0)
    top.spines["top"].set_visible(False)
