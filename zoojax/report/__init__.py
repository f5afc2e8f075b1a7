"""The report page of an analysis: one HTML file that needs no network.

    from pathlib import Path
    from zoojax import analysis, open_zoo, report

    report.write(analysis.analyze(open_zoo("zoos/usps"), []), Path("report.html"))

`page.html` is the template; the CSS and JS files, Plotly.js, the figures and the data are inserted
into it. All data from zoos is embedded as JSON, and the page only shows it as text, never as
markup. Figures are parsed and rebuilt from allowed elements and attributes.
"""

import html
import json
import re
from importlib import resources
from pathlib import Path

from zoojax.analysis import Analysis
from zoojax.filesystem.atomic import atomic_write
from zoojax.report.data import payload
from zoojax.report.links import figure_files, table_files
from zoojax.report.svg import inline_svg

__all__ = ["write"]

# Concatenated in this order.
_SCRIPTS = (
    *("page", "groups", "plots", "figures", "hyperparameters", "agreement", "representation"),
    *("cards", "tables", "comparison", "state", "start"),
)
# The traces scatter and scattergl are needed: a third of the size of all of Plotly.js.
_PLOTLY = "plotly/plotly-gl2d.min.js"


def write(
    analysis: Analysis,
    path: Path,
    figures: dict[str, Path] | None = None,
    tables: Path | None = None,
) -> None:
    """Writes the report page; the same analysis gives the same bytes.

    Args:
        analysis: The analysis.
        path: Path of the HTML file.
        figures: SVG files to show, by name. The page links to them, and to the PNG files of the
            same names.
        tables: Folder with the files of the analysis' tables, to which the page links.

    Raises:
        ZoojaxError: If a figure is not an SVG file or cannot be read, or writing failed.

    Example:
        >>> report.write(analysis, Path("report.html"))
    """
    figures = figures or {}
    content = payload(
        analysis,
        {name: figure_files(file, path.parent) for name, file in figures.items()},
        {} if tables is None else table_files(tables, path.parent),
    )
    drawings = [inline_svg(file, f"figure{i}-") for i, file in enumerate(figures.values())]
    page = _page(content, drawings)
    atomic_write(path, lambda temporary: temporary.write_bytes(page.encode()))


def _page(content: dict, drawings: list[str]) -> str:
    parts = {
        "title": html.escape(content["zoo"]["name"]),
        "css": _source("page.css"),
        "figures": "\n".join(f"<template>{drawing}</template>" for drawing in drawings),
        "plotly": _source(_PLOTLY),
        "data": _json(content),
        "js": "\n".join(_source(f"{name}.js") for name in _SCRIPTS),
    }
    # A single pass: placeholders in inserted text are not expanded.
    return re.sub(r"\{\{(\w+)\}\}", lambda name: parts[name[1]], _source("page.html"))


def _json(content: dict) -> str:
    """JSON that is safe within a script element: a name may contain "</script>"."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _source(name: str) -> str:
    return (resources.files(__name__) / name).read_text("utf-8")
