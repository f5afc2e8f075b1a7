"""The report page of an analysis: one HTML file that needs no network.

    from pathlib import Path
    from zoojax import analysis, open_zoo, report

    report.write(analysis.analyze(open_zoo("zoos/usps"), []), Path("report.html"))

`page.html` is the template; the CSS and JS files, Plotly.js and the data are inserted into it.
All data from zoos is embedded as JSON, and the page only shows it as text, never as markup.
"""

import html
import json
import re
from importlib import resources
from pathlib import Path

from zoojax.analysis import Analysis
from zoojax.filesystem.atomic import atomic_write
from zoojax.report.data import payload

__all__ = ["write"]

# Concatenated in this order.
_SCRIPTS = ("page", "figures", "representation", "tables")


def write(analysis: Analysis, path: Path, figures: dict[str, Path] | None = None) -> None:
    """Writes the report page; the same analysis gives the same bytes.

    Args:
        analysis: the analysis.
        path: path of the HTML file.
        figures: PNG files to show, by name.

    Raises:
        ZoojaxError: a figure cannot be read, or writing failed.
    """
    page = _page(payload(analysis, figures or {}))
    atomic_write(path, lambda temporary: temporary.write_bytes(page.encode()))


def _page(content: dict) -> str:
    # Imported here because nothing else needs plotly.
    from plotly.offline import get_plotlyjs

    parts = {
        "title": html.escape(content["zoo"]["name"]),
        "css": _source("page.css"),
        "plotly": get_plotlyjs(),
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
