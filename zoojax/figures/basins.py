"""Figures of sparsity and basins: barriers, overlap of masks, mask transfer.

They show the tables "geometry_barriers", "geometry_masks" and "geometry_transfer" of an analysis.
"""

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from zoojax.analysis import Analysis
from zoojax.analysis.results import Method
from zoojax.figures.geometry import BARS, errorbars, geometry_table, numbers
from zoojax.figures.style import (
    INK,
    UNMEASURED,
    WIDTH,
    drawing,
    grid,
    legend_below,
    new_figure,
    styled,
)
from zoojax.text import for_matplotlib

TRANSFER_CAPTION = (
    "Mask transfer: test accuracy of members pruned with their own mask; with that of another "
    "member, permuted by the alignment of the two or unchanged; and with that mask shuffled "
    f"within each layer. Means over members. {BARS}"
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
    f"barriers of two dense members. Means over lines. {BARS}"
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


def barrier_figure(table: pl.DataFrame) -> Figure:
    """Plots barriers over the pruning ratio.

    Args:
        table: The table of `zoojax.analysis.geometry_tables.barrier_summary`, of one twin.

    Returns:
        One panel with barriers of the loss and one with barriers of the accuracy.
    """
    with styled():
        return _draw_barriers(table)


def _draw_barriers(table: pl.DataFrame) -> Figure:
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
                height = scale * numbers(dense, name)[0]
                text = f"two dense members{', aligned' if aligned else ''}"
                axes.axhline(height, color=INK, linestyle=dashes, linewidth=1, label=text)
        for line, aligned, text, color in _LINES:
            rows = table.filter(line=line, aligned=aligned).drop_nulls("ratio")
            if len(rows):
                x = 100 * rows["ratio"].to_numpy()
                style = {**UNMEASURED, "color": color, "label": text}
                errorbars(axes, x, rows, name, scale, **style)
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
    table = geometry_table(analysis, "barriers")
    methods = [m for m in analysis.twin_methods("ratio") if _has(table, m)]
    return barrier_figure(table.filter(method=methods[0].key)) if methods else None


@drawing(
    "Overlap of the masks of pairs of members (intersection over union of the kept weights): "
    "without alignment; after the parent of one is aligned to that of the other; the same for "
    "parents whose weights are shuffled within each layer; and expected for independent masks with "
    f"the same counts in each layer. Means over pairs. {BARS}"
)
def geometry_masks(analysis: Analysis) -> Figure | None:
    """Plots the overlap of masks over the pruning ratio, against chance.

    Args:
        analysis: The analysis.

    Returns:
        One panel per twin with ratios. None without the table.
    """
    table = geometry_table(analysis, "masks")
    methods = [m for m in analysis.twin_methods("ratio") if _has(table, m)]
    if not methods:
        return None
    rows, columns = grid(len(methods))
    figure = new_figure(4.4 if columns == 1 else WIDTH, 3.2 * rows)
    panels = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axes, method in zip(panels, methods, strict=False):
        part = table.filter(method=method.key)
        for name, label, color in _OVERLAPS:
            errorbars(
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
        >>> from zoojax.figures.basins import transfer_figure
        >>> columns = ["ratio", "epoch", "mask", "test_acc", "test_acc_low", "test_acc_high"]
        >>> table = pl.DataFrame([(0.5, 0, "own", 0.9, 0.88, 0.92)], schema=columns, orient="row")
        >>> len(transfer_figure(table).axes)
        1
    """
    with styled():
        return _draw_transfer(table)


def _draw_transfer(table: pl.DataFrame) -> Figure:
    epochs = table["epoch"].unique().sort().to_list()
    figure = new_figure(WIDTH, 3.4)
    panels = figure.subplots(1, len(epochs), squeeze=False).ravel()
    for axes, epoch in zip(panels, epochs, strict=True):
        part = table.filter(epoch=epoch)
        for name, label, color in _MASKS:
            rows = part.filter(mask=name)
            if len(rows):
                errorbars(
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
    table = geometry_table(analysis, "transfer")
    return None if table.is_empty() else transfer_figure(table)
