"""Matrices of pairwise agreement."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from zoojax.analysis import Analysis
from zoojax.analysis.agreement_tables import REFERENCE_SPARSITY
from zoojax.analysis.captions import SMOOTHED
from zoojax.figures.style import abbreviations, drawing, grid, is_crowded, new_figure
from zoojax.text import for_matplotlib

# Optimal leaf ordering takes cubic time.
_MAX_OPTIMAL_ORDER = 300
_MAX_VECTOR_PIXELS = 300


def _caption(analysis: Analysis) -> str:
    return (
        "Agreement of every pair of members: fraction of test images for which both predict the "
        "same class, within the dense zoo, between the dense zoo and each twin, and within each "
        "twin. One row and one column per member: dense members are ordered by hierarchical "
        "clustering, twins as their parents. Gray: undefined, since a member diverged or has no "
        "twin. Twins with pruning ratios are shown at the ratio nearest to "
        f"{REFERENCE_SPARSITY:.0%}, others at {SMOOTHED}. {abbreviations(analysis)}"
    )


@drawing(_caption)
def agreement_matrix(analysis: Analysis) -> Figure | None:
    """Pairwise agreement within the zoo, with its twins, and within the twins.

    Returns:
        Heat maps of the percentage of test images for which two members predict the same
        class. Members of the dense zoo are ordered by hierarchical clustering, twins as their
        parents. None if no agreement was computed.
    """
    names = _in_order(analysis)
    if not names:
        return None
    order = cluster_order(analysis.matrices["dense"])
    rows, columns = grid(len(names), 3)
    figure = new_figure(2.1 * columns + 0.5, 2.45 * rows + 0.8, compress=True)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    low, high = _color_limits({name: analysis.matrices[name] for name in names})
    colors = mpl.colormaps["viridis"].with_extremes(bad="0.6")
    image = None
    for axes, name in zip(panels, names, strict=False):
        matrix = reorder(analysis.matrices[name], order)
        # Small matrices are drawn with one pixel per pair in SVG.
        large = max(matrix.shape) > _MAX_VECTOR_PIXELS
        image = axes.imshow(
            100 * matrix,
            cmap=colors,
            vmin=100 * low,
            vmax=100 * high,
            # Also fills the panel if a twin has only some of the members.
            aspect="auto",
            interpolation="auto" if large else "none",
            rasterized=large,
        )
        (down, _), (across, at) = _populations(analysis, name)
        axes.set_title(f"{down} × {across}{at}")
        axes.set_ylabel(f"{down} members")
        axes.set_xlabel(f"{across} members")
        axes.set(xticks=[], yticks=[], box_aspect=1)
        axes.grid(visible=False)
        axes.spines[:].set_visible(True)
    for axes in panels[len(names) :]:
        axes.remove()
    assert image is not None
    bar = figure.colorbar(
        image,
        ax=list(panels[: len(names)]),
        location="bottom",
        fraction=0.05,
        aspect=40,
        extend="max" if high < 1 else "neither",
    )
    bar.set_label("agreement (%)")
    return figure


def _in_order(analysis: Analysis) -> list[str]:
    """Names of the matrices: dense, dense with each of up to eight twins, within each twin."""
    if "dense" not in analysis.matrices:
        return []
    keys = [method.key for method in analysis.twin_methods()]
    twins = [name for key in keys for name in analysis.matrices if name.startswith(f"{key} ")]
    across = [name for twin in twins if (name := f"dense and {twin}") in analysis.matrices]
    if is_crowded(analysis):
        across = []
    return ["dense", *across, *twins]


def _populations(analysis: Analysis, name: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """Abbreviation, and ratio or epoch, of the populations in the rows and columns."""
    down, _, across = name.partition(" and ")
    return _population(analysis, down), _population(analysis, across or down)


def _population(analysis: Analysis, name: str) -> tuple[str, str]:
    if name == "dense":
        return "dense", ""
    key, _, rest = name.partition(" ")
    short = next(method.short for method in analysis.methods if method.key == key)
    return for_matplotlib(short), f", {rest.replace('%', ' %')}"


def cluster_order(agreement: np.ndarray) -> np.ndarray:
    """Order of members [n] by hierarchical clustering of their agreement [n, n]."""
    if len(agreement) < 3:
        return np.arange(len(agreement))
    distance = 1 - np.nan_to_num((agreement + agreement.T) / 2)
    np.fill_diagonal(distance, 0)
    pairs = squareform(distance, checks=False).astype(np.float64)
    return leaves_list(
        linkage(pairs, "average", optimal_ordering=len(agreement) <= _MAX_OPTIMAL_ORDER)
    )


def reorder(matrix: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Reorders a matrix by an order of the dense members; twins may have only the first of them."""
    down, across = (order[order < size] for size in matrix.shape)
    return matrix[np.ix_(down, across)]


def _color_limits(matrices: dict[str, np.ndarray]) -> tuple[float, float]:
    """Color limits, from all pairs of different members."""
    values = np.concatenate(
        [
            m.ravel() if " and " in name else m[~np.eye(len(m), dtype=bool)]
            for name, m in matrices.items()
        ]
    )
    values = values[np.isfinite(values)]
    if not values.size or np.ptp(values) == 0:
        return 0.0, 1.0
    return float(values.min()), float(values.max())
