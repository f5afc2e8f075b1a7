"""The report page of an analysis: one HTML file that needs no network.

    from pathlib import Path
    from zoojax import analysis, open_zoo, report

    report.write(analysis.analyse(open_zoo("zoos/usps"), []), Path("report.html"))

`page.html` names the parts; the CSS and JS files are put into it as they are, with
Plotly.js and the data. What comes from zoos travels as JSON, and the page shows it as text.
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

# In this order: one script.
_SCRIPTS = ("page", "figures", "representation", "tables")


def write(found: Analysis, path: Path, figures: dict[str, Path] | None = None) -> None:
    """Writes the report page; the same analysis gives the same bytes.

    Args:
        found: what was found.
        path: of the HTML file.
        figures: PNG files by name, shown as they are.

    Raises:
        ZoojaxError: a figure cannot be read, or the disk refused.
    """
    page = _page(payload(found, figures or {}))
    atomic_write(path, lambda temporary: temporary.write_bytes(page.encode()))


def _page(content: dict) -> str:
    # Only here: no other part of zoojax needs it.
    from plotly.offline import get_plotlyjs

    parts = {
        "title": html.escape(content["zoo"]["name"]),
        "css": _source("page.css"),
        "plotly": get_plotlyjs(),
        "data": _json(content),
        "js": "\n".join(_source(f"{name}.js") for name in _SCRIPTS),
    }
    # Once over the page itself: what is put in is not looked at again.
    return re.sub(r"\{\{(\w+)\}\}", lambda name: parts[name[1]], _source("page.html"))


def _json(content: dict) -> str:
    """JSON that no text within can end: a name may hold "</script>"."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _source(name: str) -> str:
    return (resources.files(__name__) / name).read_text("utf-8")
