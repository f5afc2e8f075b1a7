"""Shared by all figures: style, colors, footers and table helpers."""

import functools
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import matplotlib as mpl
import matplotlib.style
import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from zoojax.analysis import Analysis
from zoojax.analysis.results import Method
from zoojax.text import for_matplotlib, printable

# Applied over matplotlib's defaults, independent of the user's matplotlibrc.
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "errorbar.capsize": 2,
    # Otherwise element ids in SVG files would be random.
    "svg.hashsalt": "zoojax",
}
# With more members than this, artists are rasterized: an SVG would take megabytes.
VECTORS = 200
# Width of footer text.
_CHARS_PER_INCH = 19
# Longer zoo names are truncated.
_MAX_NAME_LENGTH = 100

_Drawing = Callable[[Analysis], Figure | None]


@contextmanager
def styled() -> Iterator[None]:
    """Applies the matplotlib settings for drawing or saving a figure."""
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        # Zoo names may contain characters that the font lacks.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        yield


def in_style(draw: _Drawing) -> _Drawing:
    """Decorates a drawing function to run under `styled`."""

    @functools.wraps(draw)
    def styled_draw(analysis: Analysis) -> Figure | None:
        with styled():
            return draw(analysis)

    return styled_draw


def new_figure(
    analysis: Analysis, width: float, height: float, remark: str = "", *, free: bool = False
) -> Figure:
    """Creates an empty figure with a footer that names the zoo and counts diverged members.

    Args:
        analysis: the analysis.
        width: width in inches.
        height: height in inches.
        remark: an explanation, printed above the footer.
        free: whether axes are placed manually instead of by a layout engine.
    """
    layout = None if free else ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06)
    figure = Figure(figsize=(width, height), layout=layout)
    lines = [remark] if remark else []
    lines += [_footer(analysis)]
    figure.supxlabel(
        wrap_footer("\n".join(lines), width),
        x=0.01,
        ha="left",
        fontsize=7,
        color="0.35",
        linespacing=1.4,
    )
    return figure


def wrap_footer(text: str, width: float) -> str:
    """Wraps footer text to a width in inches and escapes it for matplotlib."""
    broken = (textwrap.wrap(line, int(_CHARS_PER_INCH * width)) for line in text.splitlines())
    # Escaped after wrapping, so that no line ends within an escape.
    return "\n".join(for_matplotlib(line) for lines in broken for line in lines)


def _footer(analysis: Analysis) -> str:
    count = len(analysis.zoo)
    name = printable(analysis.zoo.config.name, _MAX_NAME_LENGTH)
    text = f"Zoo {name}, {count:,} {'member' if count == 1 else 'members'}."
    table = analysis.tables["members"]
    excluded = []
    for method in analysis.methods:
        rows = table.filter(pl.col("method") == method.key)
        diverged = rows.filter(~pl.col("finite"))["member"].n_unique()
        if diverged:
            excluded.append(f"{diverged:,} of {len(method.zoo):,} ({method.label})")
    if excluded:
        text += f" Excluded after divergence: {', '.join(excluded)}."
    return text


def method_rows(analysis: Analysis, name: str, method: Method) -> pl.DataFrame:
    """Rows of one method in a table, with NaN replaced by null; empty if there are none."""
    table = analysis.tables.get(name, pl.DataFrame())
    if "method" not in table.columns:
        return pl.DataFrame()
    return table.filter(pl.col("method") == method.key).with_columns(
        pl.selectors.float().fill_nan(None)
    )


def grid(panels: int) -> tuple[int, int]:
    """Rows and columns of a number of panels: at most three columns, or two by two."""
    columns = 2 if panels == 4 else min(panels, 3)
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


def format_percent(fraction: float) -> str:
    """Formats a fraction: 0.8 as "80 %", 0.975 as "97.5 %"."""
    return f"{100 * fraction:.4g} %"


def evenly_spaced(values: Sequence, count: int) -> list:
    """At most `count` of the values, evenly spaced and including the last."""
    if len(values) <= count:
        return list(values)
    return [values[i] for i in np.linspace(0, len(values) - 1, count).round().astype(int)]


def color_sequence(count: int) -> list:
    """A sequence of colors from dark to light."""
    # The lightest colors are hardly visible on white.
    return list(mpl.colormaps["viridis"](np.linspace(0, 0.85, count)))


def opacity(count: float) -> float:
    """Opacity at which overlapping lines or dots show their density."""
    return float(np.clip(1.2 / np.sqrt(max(count, 1)), 0.04, 0.5))
