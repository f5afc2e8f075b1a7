"""Figures of the geometry of a zoo: weight space, layers, curvature, masks, mask transfer.

They show the tables of `zoojax.analysis.geometry_tables`, which have the prefix "geometry_" in an
analysis.
"""

from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from zoojax.analysis import Analysis
from zoojax.analysis.results import Method
from zoojax.figures.agreement import cluster_order
from zoojax.figures.style import (
    INK,
    UNMEASURED,
    WIDTH,
    color_of,
    color_sequence,
    drawing,
    grid,
    legend_below,
    new_figure,
)
from zoojax.text import for_matplotlib

_BARS = "Bars: 95 % intervals of the means."
# Text is readable in cells of matrices up to this size.
_MAX_LABELED = 8
TRANSFER_CAPTION = (
    "Mask transfer: test accuracy of members pruned with their own mask; with that of another "
    "member, carried through the alignment of the two or as it is; and with that mask shuffled "
    f"within each layer. Means over members. {_BARS}"
)
# Kind of line, whether its ends are aligned, label and color.
_LINES = (
    ("two twins", False, "two twins", "#0072B2"),
    ("two twins", True, "two twins, aligned", "#56B4E9"),
    ("parent and twin", False, "parent and twin", "#D55E00"),
)
BARRIER_CAPTION = (
    "Barriers on straight lines in weight space, on test images: largest increase of the loss over "
    "its linear interpolation between the ends, and largest decrease of the accuracy. At ratio 0, "
    "lines of two twins are those of fine-tuned members that were not pruned. Horizontal lines: "
    f"barriers of two dense members. Means over lines. {_BARS}"
)
# Column of the table of masks, label and color.
_OVERLAPS = (
    ("aligned", "aligned", "#D55E00"),
    ("shuffled", "aligned, shuffled weights", "#E69F00"),
    ("iou", "unaligned", "#0072B2"),
    ("chance", "chance", INK),
)
_MASKS = (
    ("own", "own mask", INK),
    ("aligned", "another member's, aligned", "#D55E00"),
    ("unaligned", "another member's, unaligned", "#0072B2"),
    ("random", "random, same counts by layer", "#999999"),
)


def _table(analysis: Analysis, name: str) -> pl.DataFrame:
    return analysis.tables.get(f"geometry_{name}", pl.DataFrame())


def _numbers(table: pl.DataFrame, name: str) -> np.ndarray:
    return table[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _errorbars(
    axes: Axes, x: np.ndarray, table: pl.DataFrame, name: str, scale: float = 1, **style
) -> None:
    """Draws means with their intervals; those without an interval have no bar."""
    mean = scale * _numbers(table, name)
    ends = [scale * _numbers(table, f"{name}_{end}") for end in ("low", "high")]
    bars = np.nan_to_num([np.maximum(mean - ends[0], 0), np.maximum(ends[1] - mean, 0)])
    axes.errorbar(x, mean, yerr=bars, **style)


@drawing(
    "Weight space: distance and cosine of the parameters of every pair of members at the last "
    "epoch. Members are ordered by hierarchical clustering of their cosines."
)
def geometry_pairs(analysis: Analysis) -> Figure | None:
    """Plots distances and cosines of all pairs of members as matrices.

    Args:
        analysis: The analysis.

    Returns:
        Two heat maps. None without the table.
    """
    table = _table(analysis, "pairs")
    size = table["member"].n_unique() if len(table) else 0
    if size < 2:
        return None
    order = cluster_order(table["cosine"].to_numpy().reshape(size, size))
    figure = new_figure(WIDTH, 3.6, compress=True)
    for axes, (name, title) in zip(
        figure.subplots(1, 2), (("distance", "distance"), ("cosine", "cosine")), strict=True
    ):
        matrix = table[name].to_numpy().reshape(size, size)[np.ix_(order, order)]
        others = matrix[~np.eye(size, dtype=bool)]
        image = axes.imshow(
            matrix, cmap="viridis", vmin=others.min(), vmax=others.max(), interpolation="none"
        )
        axes.set_title(title)
        axes.set(xticks=[], yticks=[], xlabel="members", ylabel="members")
        axes.grid(visible=False)
        figure.colorbar(image, ax=axes, location="bottom", extend="both", fraction=0.05)
    return figure


@drawing(
    "Weight space by epoch: effective dimension of the zoo (participation ratio of the covariance "
    "of the parameters over members), mean distance of two members, and mean distance of members "
    "from their initial weights. Bands: 95 % intervals (jackknife over members)."
)
def geometry_similarity(analysis: Analysis) -> Figure | None:
    """Plots the effective dimension and distances of members by epoch.

    Args:
        analysis: The analysis.

    Returns:
        Two panels. None without the table.
    """
    table = _table(analysis, "similarity")
    if table.is_empty():
        return None
    figure, epochs = new_figure(WIDTH, 2.9), table["epoch"].to_numpy()
    left, right = figure.subplots(1, 2)
    marker = "o" if len(epochs) == 1 else ""
    for axes, name, color in (
        (left, "dimension", INK),
        (right, "distance", "#0072B2"),
        (right, "moved", "#D55E00"),
    ):
        label = {"distance": "of two members", "moved": "from initial weights"}.get(name)
        axes.plot(epochs, _numbers(table, name), color=color, marker=marker, label=label)
        if f"{name}_low" in table.columns:
            low, high = (_numbers(table, f"{name}_{end}") for end in ("low", "high"))
            axes.fill_between(epochs, low, high, color=color, alpha=0.2, linewidth=0)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    left.set_ylabel("effective dimension")
    right.set_ylabel("mean distance")
    right.set_ylim(bottom=0)
    legend_below(right, columns=2)
    return figure


@drawing(
    "Similarity of layers: linear CKA of the outputs of layers (before the activation) on training "
    "images, mean over pairs of different members."
)
def geometry_layers(analysis: Analysis) -> Figure | None:
    """Plots CKA between layers of different members.

    Args:
        analysis: The analysis.

    Returns:
        A heat map of layers by layers. None without the table.
    """
    table = _table(analysis, "layers")
    if table.is_empty():
        return None
    layers = table["layer"].unique(maintain_order=True).to_list()
    matrix = _numbers(table, "cka").reshape(len(layers), len(layers))
    figure = new_figure(4.4, 3.9)
    axes = figure.add_subplot()
    image = axes.imshow(matrix, cmap="viridis", vmin=0, vmax=1)
    names = [for_matplotlib(layer) for layer in layers]
    if len(layers) <= _MAX_LABELED:
        for (row, column), value in np.ndenumerate(matrix):
            color = "black" if value > 0.6 else "white"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=color)
    axes.set_xticks(range(len(layers)), names, rotation=45 if len(layers) > _MAX_LABELED else 0)
    axes.set_yticks(range(len(layers)), names)
    axes.set(xlabel="layer of the other member", ylabel="layer of a member")
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, label="CKA")
    return figure


@drawing(
    "Curvature of the loss on training images: largest eigenvalues of the Hessian, and its trace "
    f"over the pruning ratio (0: the dense zoo). Means over members. {_BARS}"
)
def geometry_curvature(analysis: Analysis) -> Figure | None:
    """Plots the largest Hessian eigenvalues by rank, and the trace over the pruning ratio.

    Args:
        analysis: The analysis.

    Returns:
        Two panels. None without the tables.
    """
    spectrum, table = _table(analysis, "eigenvalues"), _table(analysis, "curvature")
    if spectrum.is_empty():
        return None
    figure = new_figure(WIDTH, 3.3)
    left, right = figure.subplots(1, 2)
    groups = _populations(analysis, spectrum)
    colors = [INK, *color_sequence(max(len(groups) - 1, 1))]
    for (label, rows), color in zip(groups, colors, strict=False):
        style = {**UNMEASURED, "color": color, "label": label}
        _errorbars(left, rows["rank"].to_numpy(), rows, "eigenvalue", **style)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set(xlabel="rank", ylabel="eigenvalue")
    if (spectrum["eigenvalue"] > 0).all():
        left.set_yscale("log")
    legend_below(left, columns=2)
    _by_ratio(analysis, right, table, "trace")
    right.set_ylabel("trace of the Hessian")
    return figure


def _populations(analysis: Analysis, table: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """Labels and rows of the dense zoo, and of each twin by ratio."""
    result = []
    for method in analysis.methods:
        rows = table.filter(method=method.key)
        for (ratio,), group in rows.group_by("ratio", maintain_order=True):
            suffix = "" if ratio is None else f" {100 * float(str(ratio)):.4g} %"
            result.append((f"{for_matplotlib(method.short)}{suffix}", group))
    return result


def _by_ratio(analysis: Analysis, axes: Axes, table: pl.DataFrame, name: str) -> None:
    """Draws a column over the pruning ratio; the dense zoo, and twins without ratios, as lines."""
    for method in analysis.methods:
        rows = table.filter(method=method.key)
        if rows.is_empty():
            continue
        style: dict[str, Any] = {"color": color_of(method), "label": for_matplotlib(method.short)}
        if method.sweep == "ratio":
            _errorbars(axes, 100 * rows["ratio"].to_numpy(), rows, name, **UNMEASURED, **style)
        else:
            axes.axhline(_numbers(rows, name)[0], linestyle="--", linewidth=1, **style)
    axes.set_xlabel("pruning ratio (%)")
    legend_below(axes, columns=2)


def barrier_figure(table: pl.DataFrame) -> Figure:
    """Plots barriers over the pruning ratio.

    Args:
        table: The table of `zoojax.analysis.geometry_tables.barrier_summary`, of one twin.

    Returns:
        One panel with barriers of the loss and one with barriers of the accuracy.
    """
    figure = new_figure(WIDTH, 3.5)
    for axes, name, scale, label in zip(
        figure.subplots(1, 2),
        ("loss_barrier", "acc_barrier"),
        (1, 100),
        ("barrier of the loss", "barrier of the accuracy (points)"),
        strict=True,
    ):
        for aligned, dashes in ((False, "--"), (True, ":")):
            dense = table.filter(line="two dense members", aligned=aligned)
            if len(dense):
                height = scale * _numbers(dense, name)[0]
                text = f"two dense members{', aligned' if aligned else ''}"
                axes.axhline(height, color=INK, linestyle=dashes, linewidth=1, label=text)
        for line, aligned, text, color in _LINES:
            rows = table.filter(line=line, aligned=aligned).drop_nulls("ratio")
            if len(rows):
                x = 100 * rows["ratio"].to_numpy()
                style = {**UNMEASURED, "color": color, "label": text}
                _errorbars(axes, x, rows, name, scale, **style)
        axes.set(xlabel="pruning ratio (%)", ylabel=label, ylim=(0, None))
        legend_below(axes)
    return figure


@drawing(BARRIER_CAPTION)
def geometry_barriers(analysis: Analysis) -> Figure | None:
    """Plots barriers of the first twin with ratios; see `barrier_figure`.

    Args:
        analysis: The analysis.

    Returns:
        The figure. None without the table.
    """
    table = _table(analysis, "barriers")
    methods = [m for m in analysis.twin_methods("ratio") if _has(table, m)]
    return barrier_figure(table.filter(method=methods[0].key)) if methods else None


@drawing(
    "Overlap of the masks of pairs of members (intersection over union of the kept weights): as "
    "they are; after the parent of one is aligned to that of the other; the same for parents whose "
    "weights are shuffled within each layer; and expected for independent masks with the same "
    f"counts in each layer. Means over pairs. {_BARS}"
)
def geometry_masks(analysis: Analysis) -> Figure | None:
    """Plots the overlap of masks over the pruning ratio, against chance.

    Args:
        analysis: The analysis.

    Returns:
        One panel per twin with ratios. None without the table.
    """
    table = _table(analysis, "masks")
    methods = [m for m in analysis.twin_methods("ratio") if _has(table, m)]
    if not methods:
        return None
    rows, columns = grid(len(methods))
    figure = new_figure(4.4 if columns == 1 else WIDTH, 3.2 * rows)
    panels = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axes, method in zip(panels, methods, strict=False):
        part = table.filter(method=method.key)
        for name, label, color in _OVERLAPS:
            _errorbars(
                *(axes, 100 * part["ratio"].to_numpy(), part, name),
                **{**UNMEASURED, "color": color, "label": label},
            )
        axes.set_title(for_matplotlib(method.short))
        axes.set(xlabel="pruning ratio (%)", ylabel="IoU of masks", ylim=(0, None))
        legend_below(axes, columns=2)
    for axes in panels[len(methods) :]:
        axes.remove()
    return figure


def _has(table: pl.DataFrame, method: Method) -> bool:
    return "method" in table.columns and not table.filter(method=method.key).is_empty()


def transfer_figure(table: pl.DataFrame) -> Figure:
    """Plots the accuracy of members pruned with their own mask and with masks of others.

    Args:
        table: The table of `zoojax.analysis.geometry_tables.transfer_summary`.

    Returns:
        One panel without fine-tuning and one after it.

    Example:
        >>> from zoojax.figures.geometry import transfer_figure
        >>> columns = ["ratio", "epoch", "mask", "test_acc", "test_acc_low", "test_acc_high"]
        >>> table = pl.DataFrame([(0.5, 0, "own", 0.9, 0.88, 0.92)], schema=columns, orient="row")
        >>> len(transfer_figure(table).axes)
        1
    """
    epochs = table["epoch"].unique().sort().to_list()
    figure = new_figure(WIDTH, 3.4)
    panels = figure.subplots(1, len(epochs), squeeze=False, sharey=True).ravel()
    for axes, epoch in zip(panels, epochs, strict=True):
        part = table.filter(epoch=epoch)
        for name, label, color in _MASKS:
            rows = part.filter(mask=name)
            if len(rows):
                _errorbars(
                    *(axes, 100 * rows["ratio"].to_numpy(), rows, "test_acc", 100),
                    **{**UNMEASURED, "color": color, "label": label},
                )
        axes.set_title("one-shot" if epoch == 0 else f"{epoch} epochs of fine-tuning")
        axes.set_xlabel("pruning ratio (%)")
        legend_below(axes, columns=1 if len(epochs) > 1 else 2)
    panels[0].set_ylabel("test accuracy (%)")
    return figure


@drawing(TRANSFER_CAPTION)
def geometry_transfer(analysis: Analysis) -> Figure | None:
    """Plots mask transfer; see `transfer_figure`.

    Args:
        analysis: The analysis.

    Returns:
        The figure. None without the table.
    """
    table = _table(analysis, "transfer")
    return None if table.is_empty() else transfer_figure(table)
