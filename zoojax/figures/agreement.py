"""Agreement of all pairs of members."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from zoojax.analysis import Analysis
from zoojax.figures.style import in_style, new_figure

_MOST = 4
# The optimal order of leaves takes time with the cube of their number.
_OPTIMAL = 300
_PIXELS = 300


@in_style
def agreement_matrix(found: Analysis) -> Figure | None:
    """Pairwise agreement within the zoo, with its twins, and within a twin.

    Returns:
        Percent of test images that two members take for the same class; members of all
        panels in the order of one hierarchical clustering of the dense zoo, twins in that
        of their parents. None if no agreement was measured.
    """
    shown = _shown(found)
    if not shown:
        return None
    order = clustered(found.matrices["dense"])
    columns = 2 if len(shown) == _MOST else len(shown)
    rows = -(-len(shown) // columns)
    figure = new_figure(found, 3.3 * columns + 0.9, 3.4 * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    low, high = _bounds({name: found.matrices[name] for name in shown})
    colours = mpl.colormaps["viridis"].with_extremes(bad="0.7")
    image = None
    for axes, name in zip(grid, shown, strict=True):
        matrix = ordered(found.matrices[name], order)
        # Small ones keep one pixel a pair in SVG.
        large = max(matrix.shape) > _PIXELS
        image = axes.imshow(
            100 * matrix,
            cmap=colours,
            vmin=100 * low,
            vmax=100 * high,
            # A twin of only some members fills its panel too.
            aspect="auto",
            interpolation="auto" if large else "none",
            rasterized=large,
        )
        down, across = _who(name)
        axes.set_title(down if down == across else f"{down} and {across}")
        axes.set_ylabel(_axis(down))
        axes.set_xlabel(_axis(across))
        axes.set(xticks=[], yticks=[], box_aspect=1)
        axes.spines[:].set_visible(True)
    assert image is not None
    bar = figure.colorbar(
        image, ax=list(grid), shrink=0.7, extend="max" if high < 1 else "neither", pad=0.02
    )
    bar.set_label("agreement (%)")
    return figure


def _shown(found: Analysis) -> list[str]:
    """Names of at most four: the dense zoo, it and its twins, and a twin."""
    names = [name for name in found.matrices if name != "dense"]
    with_dense = [name for name in names if name.startswith("dense and ")]
    # Variational dropout first: its twin has one member for each of the zoo's.
    names = sorted(names, key=lambda name: (name not in with_dense, " mp " in f" {name}"))
    return ["dense", *names][:_MOST] if "dense" in found.matrices else []


def _who(name: str) -> tuple[str, str]:
    """What stands down and across in a matrix."""
    down, _, across = name.partition(" and ")
    return _spoken(down), _spoken(across or down)


def _spoken(name: str) -> str:
    if name == "dense":
        return "dense zoo"
    method, _, rest = name.partition(" ")
    return f"{method.upper()} twin ({rest.replace('%', ' %')})"


def _axis(who: str) -> str:
    order = "clustered" if who == "dense zoo" else "in its parent's place"
    return f"member of the {who.partition(' (')[0]}, {order}"


def clustered(agreement: np.ndarray) -> np.ndarray:
    """Members [n] in an order that puts those beside each other that agree [n, n]."""
    if len(agreement) < 3:
        return np.arange(len(agreement))
    distance = 1 - np.nan_to_num((agreement + agreement.T) / 2)
    np.fill_diagonal(distance, 0)
    pairs = squareform(distance, checks=False).astype(np.float64)
    return leaves_list(linkage(pairs, "average", optimal_ordering=len(agreement) <= _OPTIMAL))


def ordered(matrix: np.ndarray, order: np.ndarray) -> np.ndarray:
    """A matrix in an order of the dense members; a twin may be of only the first of them."""
    down, across = (order[order < size] for size in matrix.shape)
    return matrix[np.ix_(down, across)]


def _bounds(matrices: dict[str, np.ndarray]) -> tuple[float, float]:
    """Of the colours: all members with others; with themselves they agree in all."""
    apart = np.concatenate(
        [
            m.ravel() if " and " in name else m[~np.eye(len(m), dtype=bool)]
            for name, m in matrices.items()
        ]
    )
    apart = apart[np.isfinite(apart)]
    if not apart.size or np.ptp(apart) == 0:
        return 0.0, 1.0
    return float(apart.min()), float(apart.max())
