"""Matrices of pairwise agreement."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from zoojax.analysis import Analysis
from zoojax.figures.style import in_style, new_figure

_MAX_PANELS = 4
# Optimal leaf ordering takes cubic time.
_MAX_OPTIMAL_ORDER = 300
_MAX_VECTOR_PIXELS = 300


@in_style
def agreement_matrix(analysis: Analysis) -> Figure | None:
    """Pairwise agreement within the zoo, with its twins, and within a twin.

    Returns:
        Heat maps of the percentage of test images for which two members predict the same
        class, at most four. Members of the dense zoo are ordered by hierarchical clustering,
        twins as their parents. None if no agreement was computed.
    """
    selected = _selected_matrices(analysis)
    if not selected:
        return None
    order = cluster_order(analysis.matrices["dense"])
    columns = 2 if len(selected) == _MAX_PANELS else len(selected)
    rows = -(-len(selected) // columns)
    figure = new_figure(analysis, 3.3 * columns + 0.9, 3.4 * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    low, high = _color_limits({name: analysis.matrices[name] for name in selected})
    colors = mpl.colormaps["viridis"].with_extremes(bad="0.7")
    image = None
    for axes, name in zip(grid, selected, strict=True):
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
        down, across = _populations(analysis, name)
        axes.set_title(down if down == across else f"{down} and {across}")
        axes.set_ylabel(_axis_label(down))
        axes.set_xlabel(_axis_label(across))
        axes.set(xticks=[], yticks=[], box_aspect=1)
        axes.spines[:].set_visible(True)
    assert image is not None
    bar = figure.colorbar(
        image, ax=list(grid), shrink=0.7, extend="max" if high < 1 else "neither", pad=0.02
    )
    bar.set_label("agreement (%)")
    return figure


def _selected_matrices(analysis: Analysis) -> list[str]:
    """Names of at most four matrices: dense, dense with each twin, and within a twin."""
    names = [name for name in analysis.matrices if name != "dense"]
    with_dense = [name for name in names if name.startswith("dense and ")]
    # Twins without pruning ratios first: they have one member per member of the zoo.
    by_ratio = tuple(f" {method.key} " for method in analysis.twin_methods("ratio"))
    names = sorted(
        names,
        key=lambda name: (name not in with_dense, any(key in f" {name}" for key in by_ratio)),
    )
    return ["dense", *names][:_MAX_PANELS] if "dense" in analysis.matrices else []


def _populations(analysis: Analysis, name: str) -> tuple[str, str]:
    """Labels of the populations in the rows and columns of a matrix."""
    down, _, across = name.partition(" and ")
    return _population_label(analysis, down), _population_label(analysis, across or down)


def _population_label(analysis: Analysis, name: str) -> str:
    if name == "dense":
        return "dense zoo"
    key, _, rest = name.partition(" ")
    short = next(method.short for method in analysis.methods if method.key == key)
    return f"{short} twin ({rest.replace('%', ' %')})"


def _axis_label(label: str) -> str:
    order = "clustered" if label == "dense zoo" else "in parent order"
    return f"members of the {label.partition(' (')[0]}, {order}"


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
