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
    "polygon", "text", "tspan", "image", "clipPath", "mask", "pattern", "marker",
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
_TEXTS = ("text", "tspan")
# Images within the file.
_IMAGE = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=\s]*")
# Links to elements of the same file.
_TARGET = re.compile(r"#([\w.:-]+)")
_REFERENCE = re.compile(r"""url\(\s*['"]?#([\w.:-]+)['"]?\s*\)""")
# Anything else that could load something or run as code.
_UNSAFE = re.compile(r"url\((?!#)|@|\\|expression|javascript:|/\*", re.IGNORECASE)
# Coordinates with more digits than a screen can show, and needless spaces around commands.
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}(?:e-?\d+)?")
_COMMAND = re.compile(r"\s*([A-Za-z])\s*")
_LENGTH = re.compile(r"([\d.]+)(pt|px|)")
_PIXELS = {"pt": 4 / 3, "px": 1.0, "": 1.0}


def inline_svg(path: Path, prefix: str) -> str:
    """Reads an SVG file as markup for an HTML page.

    Elements and attributes that are not known to be harmless are left out: scripts, style
    sheets, foreign markup, event handlers and addresses.

    Args:
        path: The file.
        prefix: Begins all ids, so that those of several files differ.

    Returns:
        The markup of one `svg` element, with its size in pixels.

    Raises:
        ZoojaxError: If the file cannot be read or is not an SVG image.
    """
    try:
        root = ElementTree.fromstring(read_bytes(path, _MAX_FILE_SIZE))
    except (ElementTree.ParseError, ValueError) as error:
        raise ZoojaxError(f"{path} is not an SVG image: draw the figures again") from error
    if root.tag != f"{_SVG}svg":
        raise ZoojaxError(f"{path} is not an SVG image: draw the figures again")
    values = [value for element in root.iter() for value in element.attrib.values()]
    targets = {match[1] for match in map(_TARGET.fullmatch, values) if match}
    targets |= {target for value in values for target in _REFERENCE.findall(value)}
    # Short ids, and none for elements that nothing refers to, save a tenth of the page.
    ids = {target: f"{prefix}{i}" for i, target in enumerate(sorted(targets))}
    clean = _copy(root, ids)
    for name in ("width", "height"):
        clean.attrib[name] = _pixels(root.get(name, ""))
    return ElementTree.tostring(clean, "unicode")


def _copy(element: ElementTree.Element, ids: dict[str, str]) -> ElementTree.Element:
    result = ElementTree.Element(element.tag.removeprefix(_SVG))
    for name, value in element.attrib.items():
        kept = _attribute(name, value, ids)
        if kept is not None:
            result.set("href" if name == _LINK else name, kept)
    if result.tag in _TEXTS:
        result.text = element.text
    for child in element:
        # The tag of a comment is a function.
        if isinstance(child.tag, str) and child.tag.removeprefix(_SVG) in _ELEMENTS:
            copy = _copy(child, ids)
            if result.tag in _TEXTS:
                copy.tail = child.tail
            result.append(copy)
    return result


def _attribute(name: str, value: str, ids: dict[str, str]) -> str | None:
    """The value of an attribute on the page; None if it is left out."""
    if name in (_LINK, "href"):
        local = _TARGET.fullmatch(value)
        if local:
            return f"#{ids[local[1]]}"
        return value if _IMAGE.fullmatch(value) else None
    if name not in _ATTRIBUTES:
        return None
    if name == "id":
        return ids.get(value)
    if name in ("d", "points"):
        short = _LONG_NUMBER.sub(lambda number: f"{float(number[0]):.2f}", value)
        # "1e5" has no command.
        return short if "e" in short else _COMMAND.sub(r"\1", short)
    value = _REFERENCE.sub(lambda match: f"url(#{ids[match[1]]})", value)
    return None if _UNSAFE.search(value) else value


def _pixels(length: str) -> str:
    match = _LENGTH.fullmatch(length)
    return "100%" if match is None else f"{float(match[1]) * _PIXELS[match[2]]:.2f}"
