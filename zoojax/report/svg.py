"""Inlines SVG files: only known elements and attributes, with ids that are unique on the page."""

import re
from pathlib import Path
from xml.etree import ElementTree

from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import MIB, read_bytes

_MAX_FILE_SIZE = 64 * MIB
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
# fmt: off
_ELEMENTS = {
    "svg", "g", "defs", "use", "symbol", "path", "rect", "circle", "ellipse", "line", "polyline",
    "polygon", "text", "tspan", "image", "title", "desc", "clipPath", "mask", "pattern", "marker",
    "linearGradient", "radialGradient", "stop"
}
_ATTRIBUTES = {
    "id", "viewBox", "width", "height", "x", "y", "x1", "y1", "x2", "y2", "dx", "dy", "cx", "cy",
    "r", "rx", "ry", "d", "points", "transform", "style", "fill", "stroke", "opacity", "offset",
    "clip-path", "clip-rule", "fill-rule", "fill-opacity", "stroke-opacity", "stroke-width",
    "stroke-linecap", "stroke-linejoin", "stroke-dasharray", "stroke-dashoffset",
    "stroke-miterlimit", "mask", "marker-start", "marker-mid", "marker-end", "color", "font-size",
    "font-family", "font-style", "font-weight", "text-anchor", "dominant-baseline",
    "preserveAspectRatio", "gradientUnits", "gradientTransform", "patternUnits",
    "patternTransform", "clipPathUnits", "maskUnits", "maskContentUnits", "stop-color",
    "stop-opacity", "refX", "refY", "markerWidth", "markerHeight", "orient", "image-rendering"
}
# fmt: on
# Links to elements of the same file, and images within it.
_LOCAL = re.compile(r"#([\w.:-]+)")
_IMAGE = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=\s]*")
_REFERENCE = re.compile(r"""url\(\s*['"]?#([\w.:-]+)['"]?\s*\)""")
# Anything else that could load something or run as code.
_UNSAFE = re.compile(r"url\((?!#)|@|\\|expression|javascript:|/\*", re.IGNORECASE)
# Coordinates with more digits than a screen can show.
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}(?:e-?\d+)?")
_LENGTH = re.compile(r"([\d.]+)(pt|px|)")
_PIXELS = {"pt": 4 / 3, "px": 1.0, "": 1.0}


def inline_svg(path: Path, prefix: str) -> str:
    """Reads an SVG file as markup for an HTML page.

    Elements and attributes that are not known to be harmless are left out: scripts, style
    sheets, foreign markup, event handlers and addresses.

    Args:
        path: The file.
        prefix: Put in front of all ids, so that those of several files differ.

    Returns:
        The markup of one `svg` element, with its size in pixels.

    Raises:
        ZoojaxError: If the file cannot be read or is no SVG image.
    """
    try:
        root = ElementTree.fromstring(read_bytes(path, _MAX_FILE_SIZE))
    except (ElementTree.ParseError, ValueError) as error:
        raise ZoojaxError(f"{path} is no SVG image: draw the figures again") from error
    if root.tag != f"{_SVG}svg":
        raise ZoojaxError(f"{path} is no SVG image: draw the figures again")
    clean = _copy(root, prefix)
    for name in ("width", "height"):
        clean.attrib[name] = _pixels(root.get(name, ""))
    return ElementTree.tostring(clean, "unicode", short_empty_elements=False)


def _copy(element: ElementTree.Element, prefix: str) -> ElementTree.Element:
    result = ElementTree.Element(element.tag.removeprefix(_SVG))
    for name, value in element.attrib.items():
        kept = _attribute(name, value, prefix)
        if kept is not None:
            result.set("href" if name == _LINK else name, kept)
    if result.tag in ("text", "tspan", "title", "desc"):
        result.text = element.text
    for child in element:
        # The tag of a comment is a function.
        if isinstance(child.tag, str) and child.tag.removeprefix(_SVG) in _ELEMENTS:
            result.append(_copy(child, prefix))
    return result


def _attribute(name: str, value: str, prefix: str) -> str | None:
    """The value of an attribute on the page; None if it is left out."""
    if name in (_LINK, "href"):
        local = _LOCAL.fullmatch(value)
        if local:
            return f"#{prefix}{local[1]}"
        return value if _IMAGE.fullmatch(value) else None
    if name not in _ATTRIBUTES:
        return None
    if name == "id":
        return prefix + value
    if name in ("d", "points"):
        return _LONG_NUMBER.sub(lambda number: f"{float(number[0]):.2f}", value)
    value = _REFERENCE.sub(rf"url(#{prefix}\1)", value)
    return None if _UNSAFE.search(value) else value


def _pixels(length: str) -> str:
    match = _LENGTH.fullmatch(length)
    return "100%" if match is None else f"{float(match[1]) * _PIXELS[match[2]]:.2f}"
