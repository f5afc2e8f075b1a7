"""What all figures have in common: looks, names and colours, footers, rows of tables."""

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
from zoojax.text import for_matplotlib, printable

# Over matplotlib's own defaults, whatever a user's matplotlibrc says.
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
    # Names of elements in SVG would be random.
    "svg.hashsalt": "zoojax",
}
# Okabe and Ito's, which the colour-blind tell apart.
COLOURS = {"dense": "#000000", "mp": "#D55E00", "vd": "#0072B2"}
NAMES = {"dense": "dense", "mp": "magnitude pruning", "vd": "variational dropout"}
# Above so many, single artists would make an SVG of megabytes.
VECTORS = 200
# Of a footer, an inch.
_CHARACTERS = 19
# Characters of a name that are shown.
_NAME = 100

_Drawing = Callable[[Analysis], Figure | None]


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib's settings while a figure is drawn or saved."""
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        # A name may be in a script that the font lacks.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        yield


def in_style(draw: _Drawing) -> _Drawing:
    """A figure's function, run under `styled`."""

    @functools.wraps(draw)
    def styled_draw(found: Analysis) -> Figure | None:
        with styled():
            return draw(found)

    return styled_draw


def new_figure(
    found: Analysis, width: float, height: float, remark: str = "", *, free: bool = False
) -> Figure:
    """An empty figure with a footer that names the zoo and who was left out.

    Args:
        found: the analysis.
        width: inches.
        height: inches.
        remark: what a reader should know besides; a line above.
        free: axes are placed by hand, not laid out.
    """
    layout = None if free else ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06)
    figure = Figure(figsize=(width, height), layout=layout)
    lines = [remark] if remark else []
    lines += [_footer(found)]
    figure.supxlabel(
        wrapped("\n".join(lines), width),
        x=0.01,
        ha="left",
        fontsize=7,
        color="0.35",
        linespacing=1.4,
    )
    return figure


def wrapped(text: str, width: float) -> str:
    """Lines of a footer as they fit a width in inches, drawn as they are."""
    broken = (textwrap.wrap(line, int(_CHARACTERS * width)) for line in text.splitlines())
    # Not before: a line may not end within an escape.
    return "\n".join(for_matplotlib(line) for lines in broken for line in lines)


def _footer(found: Analysis) -> str:
    count = len(found.zoo)
    name = printable(found.zoo.config.name, _NAME)
    text = f"Zoo {name}, {count:,} {'member' if count == 1 else 'members'}."
    table = found.tables["members"]
    left_out = []
    for each in (found.zoo, *found.twins):
        mine = table.filter(pl.col("method") == each.config.kind)
        diverged = mine.filter(~pl.col("finite"))["member"].n_unique()
        if diverged:
            left_out.append(f"{diverged:,} of {len(each):,} ({NAMES[each.config.kind]})")
    if left_out:
        text += f" Left out from where they diverged: {', '.join(left_out)}."
    return text


def population(found: Analysis, name: str, method: str) -> pl.DataFrame:
    """The rows of one method in a table, finite numbers or null; empty if there are none."""
    table = found.tables.get(name, pl.DataFrame())
    if "method" not in table.columns:
        return pl.DataFrame()
    return table.filter(pl.col("method") == method).with_columns(
        pl.selectors.float().fill_nan(None)
    )


def by_ratio(table: pl.DataFrame) -> list[tuple[float, pl.DataFrame]]:
    """(ratio, rows), ascending."""
    return [
        (ratio, table.filter(pl.col("ratio") == ratio))
        for ratio in table["ratio"].drop_nulls().unique().sort().to_list()
    ]


def at_last_epoch(table: pl.DataFrame) -> pl.DataFrame:
    """The rows of the newest epoch."""
    return table.filter(pl.col("epoch") == pl.col("epoch").max())


def percent(column: pl.Series) -> np.ndarray:
    """A share as percent, null as NaN."""
    return 100 * column.cast(pl.Float64).to_numpy()


def as_percent(share: float) -> str:
    """0.8 as "80 %", 0.975 as "97.5 %"."""
    return f"{100 * share:.4g} %"


def spread(values: Sequence, most: int) -> list:
    """At most so many of ascending values, evenly spread, the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[i] for i in np.linspace(0, len(values) - 1, most).round().astype(int)]


def sequence(count: int) -> list:
    """So many colours from dark to light, in an order that the eye sees."""
    # The light end of the map is lost on white.
    return list(mpl.colormaps["viridis"](np.linspace(0, 0.85, count)))


def translucency(count: float) -> float:
    """Opacity at which so many lines or dots show their density."""
    return float(np.clip(1.2 / np.sqrt(max(count, 1)), 0.04, 0.5))
