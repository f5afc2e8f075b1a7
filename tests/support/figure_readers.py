"""Reads lines, bars and texts back from matplotlib figures."""

from dataclasses import replace

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.text import Text

from zoojax import figures
from zoojax.analysis import Analysis


def drawn(name: str, analysis: Analysis) -> Figure:
    """The figure of a name, which must exist."""
    figure = figures.drawings(analysis)[name]()
    assert figure is not None
    return figure


def line_with_label(axes, label: str):
    """The only line with a label."""
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return line


def points(line) -> np.ndarray:
    """Coordinates of a line, [points, 2]."""
    return np.column_stack([np.asarray(line.get_xdata()), np.asarray(line.get_ydata())])


def bars_with_label(axes, label: str):
    """The only errorbar or bar container with a label."""
    (container,) = [c for c in axes.containers if c.get_label() == label]
    return container


def texts(figure: Figure) -> str:
    """All texts in a figure."""
    figure.draw_without_rendering()
    artists = figure.findobj(lambda artist: isinstance(artist, Text))
    return "\n".join(artist.get_text() for artist in artists if isinstance(artist, Text))


def rows(analysis: Analysis, table: str, **values) -> pl.DataFrame:
    """Rows of a table with some values."""
    return analysis.tables[table].filter(
        *(pl.col(name).eq_missing(pl.lit(value)) for name, value in values.items())
    )


def with_tables(analysis: Analysis, **tables: pl.DataFrame) -> Analysis:
    """The analysis with some tables replaced."""
    return replace(analysis, tables={**analysis.tables, **tables})
