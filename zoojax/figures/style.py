"""Shared by all figures: style, colors, captions and table helpers."""

import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib.style
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.transforms import ScaledTranslation

from zoojax.analysis import Analysis
from zoojax.analysis.captions import about_members
from zoojax.analysis.results import Method
from zoojax.tasks import Metric
from zoojax.text import for_matplotlib, printable

# Color of axes, texts and everything else that has no meaning as a color. SVG files replace it by
# the text color of the page.
INK = "#1a1a1a"
FONTS = "DejaVu Sans, Verdana, sans-serif"
# Applied over matplotlib's defaults, independent of the user's matplotlibrc.
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
    ),
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "lines.linewidth": 1.6,
    "errorbar.capsize": 2,
    # Texts stay texts, so that they can be searched and read aloud.
    "svg.fonttype": "none",
    # Otherwise element ids in SVG files would be random.
    "svg.hashsalt": "zoojax",
}
# With more members than this, artists are rasterized: an SVG would take megabytes.
VECTORS = 200
# Width of a figure in inches: in a page 720 pixels wide, texts of 8 points have 10 pixels.
WIDTH = 6.8
# Characters of a title in one of two columns.
_TITLE_LENGTH = 40
# Smallest font size, in points.
SMALL = 8
# Style of means at pruning ratios: a solid line would look as if it were measured in between.
UNMEASURED: dict[str, Any] = {
    **{"marker": "o", "markersize": 4, "linestyle": ":", "linewidth": 1.1, "elinewidth": 1.4}
}
# With more twins than this, figures show fewer populations of each, and small multiples replace
# curves in one panel.
MANY = 8
# Order of drawing: lines below dots, dots below lines of means.
LINES, DOTS, MEANS = 2, 3, 4
# Visible on white and on black; color-blind readers can distinguish them by their brightness.
_RAMP = ("#3f6fdd", "#9a56cc", "#d0568c", "#de6a3c", "#c98e14")

_Draw = Callable[[Analysis], Figure | None]


@contextmanager
def styled() -> Iterator[None]:
    """Applies the matplotlib settings for drawing or saving a figure."""
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        # Zoo names may contain characters that the font lacks.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        yield


@dataclass(frozen=True)
class Drawing:
    """A figure of an analysis, and its caption.

    Attributes:
        draw: Draws the figure; None if tables are missing.
        about: Explains what the figure shows.

    Example:
        >>> figures.FIGURES["methods"](analysis)
        >>> figures.FIGURES["methods"].caption(analysis)
    """

    draw: _Draw
    about: Callable[[Analysis], str]

    def __call__(self, analysis: Analysis) -> Figure | None:
        """Draws the figure in the style of all figures; None if tables are missing."""
        with styled():
            return self.draw(analysis)

    def caption(self, analysis: Analysis) -> str:
        """The caption, which also names the zoo and counts its members."""
        return f"{self.about(analysis)} {about_members(analysis)}"


def drawing(about: str | Callable[[Analysis], str]) -> Callable[[_Draw], Drawing]:
    """Decorates a drawing function with the caption of its figure.

    Args:
        about: explains what the figure shows; a text, or a function of the analysis.

    Returns:
        The decorator.
    """
    explain = about if callable(about) else lambda _: about
    return lambda draw: Drawing(draw, explain)


def new_figure(
    width: float, height: float, *, free: bool = False, compress: bool = False
) -> Figure:
    """Creates an empty figure.

    Args:
        width: width in inches, at most `WIDTH`.
        height: height in inches.
        free: whether axes are placed manually instead of by a layout engine.
        compress: whether axes have a fixed shape, so that they are moved together.
    """
    layout = None if free else ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06, compress=compress)
    return Figure(figsize=(width, height), layout=layout)


def is_crowded(analysis: Analysis) -> bool:
    """Whether there are more twins than one panel can show."""
    return len(analysis.twin_methods()) > MANY


def method_rows(analysis: Analysis, name: str, method: Method) -> pl.DataFrame:
    """Rows of one method in a table, with NaN replaced by null; empty if there are none."""
    table = analysis.tables.get(name, pl.DataFrame())
    if "method" not in table.columns:
        return pl.DataFrame()
    return table.filter(pl.col("method") == method.key).with_columns(
        pl.selectors.float().fill_nan(None)
    )


def grid(panels: int, columns: int = 2) -> tuple[int, int]:
    """Rows and columns of a number of panels."""
    columns = min(panels, columns)
    return -(-panels // columns), columns


def group_by_ratio(table: pl.DataFrame) -> list[tuple[float, pl.DataFrame]]:
    """Groups a table as (ratio, rows), in ascending order."""
    return [
        (ratio, table.filter(pl.col("ratio") == ratio))
        for ratio in table["ratio"].drop_nulls().unique().sort().to_list()
    ]


def at_last_epoch(table: pl.DataFrame) -> pl.DataFrame:
    """The rows of the last epoch."""
    return table.filter(pl.col("epoch") == pl.col("epoch").max())


def percent(column: pl.Series) -> np.ndarray:
    """Converts fractions to percent, and null to NaN."""
    return 100 * column.cast(pl.Float64).to_numpy()


def scaled(column: pl.Series, metric: Metric) -> np.ndarray:
    """Converts values of a metric to its unit, and null to NaN."""
    return metric.scale * column.cast(pl.Float64).to_numpy()


def format_percent(fraction: float) -> str:
    """Formats a fraction: 0.8 as "80 %", 0.975 as "97.5 %"."""
    return f"{100 * fraction:.4g} %"


def evenly_spaced(values: Sequence, count: int) -> list:
    """At most `count` of the values, evenly spaced and including the last."""
    if len(values) <= count:
        return list(values)
    return [values[i] for i in np.linspace(0, len(values) - 1, count).round().astype(int)]


def color_sequence(count: int) -> list[str]:
    """A sequence of colors from dark to light."""
    ramp = LinearSegmentedColormap.from_list("ramp", _RAMP)
    return [to_hex(color) for color in ramp(np.linspace(0, 1, count))]


def color_of(method: Method) -> str:
    """Color of a method; black and gray follow the text color."""
    color = to_hex(method.color)
    return INK if color[1:3] == color[3:5] == color[5:7] else color


def wrapped(text: str) -> str:
    """Wraps a title to the width of a panel, escaped for matplotlib."""
    # Escaped after wrapping, so that no line ends within an escape.
    return "\n".join(map(for_matplotlib, textwrap.wrap(text, _TITLE_LENGTH)))


def abbreviations(analysis: Analysis) -> str:
    """A sentence that explains the abbreviations of the twins' methods."""
    names = [f"{method.short}: {printable(method.label)}" for method in analysis.twin_methods()]
    return f"{'; '.join(names)}." if names else ""


def signed(value: float, digits: int = 2) -> str:
    """Formats a number with a minus sign instead of a hyphen."""
    return f"{value:.{digits}f}".replace("-", "−")


def legend_below(axes: Axes, columns: int = 1, offset: float = 0.42) -> None:
    """Adds a legend below the label of the x axis.

    Args:
        axes: axes with labeled artists.
        columns: number of columns.
        offset: distance from the axes in inches.
    """
    figure = axes.figure
    below = ScaledTranslation(0, -offset, figure.dpi_scale_trans)
    entries = zip(*axes.get_legend_handles_labels(), strict=True)
    # Matplotlib puts them last, but they are methods.
    bars_first = sorted(entries, key=lambda entry: not isinstance(entry[0], ErrorbarContainer))
    axes.legend(
        *zip(*bars_first, strict=True),
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=axes.transAxes + below,
        ncols=columns,
        columnspacing=1.2,
        handlelength=1.4,
        borderaxespad=0,
    )


def opacity(count: float) -> float:
    """Opacity at which overlapping lines or dots show their density."""
    return float(np.clip(1.2 / np.sqrt(max(count, 1)), 0.04, 0.5))
