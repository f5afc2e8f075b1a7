"""Relative links from the report page to the files of an analysis."""

import os
from pathlib import Path
from urllib.parse import quote

from zoojax.filesystem.atomic import is_temporary
from zoojax.filesystem.reading import entries, exists
from zoojax.text import printable

# Pairs of a short label, such as "CSV", and a relative address.
Links = list[tuple[str, str]]

_LABELS = {"tex": "LaTeX", "md": "Markdown", "parquet": "Parquet"}


def figure_files(figure: Path, page_folder: Path) -> Links:
    """Links to a figure and, if it exists, to the PNG file of the same name.

    Args:
        figure: The SVG file.
        page_folder: Folder of the page.
    """
    files = [figure, figure.with_suffix(".png")]
    return [_link(file, page_folder) for file in files if file == figure or exists(file)]


def table_files(folder: Path, page_folder: Path) -> dict[str, Links]:
    """Links to the files of a folder, by name without suffix.

    Args:
        folder: Folder with the files of the tables.
        page_folder: Folder of the page.

    Raises:
        ZoojaxError: If the folder cannot be read.
    """
    result: dict[str, Links] = {}
    for name in entries(folder):
        file = folder / name
        if file.suffix and not is_temporary(name):
            result.setdefault(printable(file.stem), []).append(_link(file, page_folder))
    return result


def _link(file: Path, page_folder: Path) -> tuple[str, str]:
    suffix = file.suffix[1:].lower()
    label = _LABELS.get(suffix) or printable(suffix.upper(), 12)
    relative = Path(os.path.relpath(file, page_folder)).as_posix()
    # "./" keeps a name with a colon from being read as the scheme of an address.
    return label, f"./{quote(relative, errors='surrogateescape')}"
