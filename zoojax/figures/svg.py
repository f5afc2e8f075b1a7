"""Makes the SVG files of matplotlib follow the color of the page that includes them."""

import re
import xml.etree.ElementTree as ET

from zoojax.figures.style import FONTS, INK
from zoojax.text import printable

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
# For files that are viewed alone: in a page, the root element is not an svg element.
_STYLE = (
    "svg:root{color-scheme:light dark;color:#1a1a1a}"
    "@media(prefers-color-scheme:dark){svg:root{color:#e8e8e8}}"
)
_FONT = re.compile(r"font: (.*?)(\d[\d.]*)px [^;]*")
_MAX_CAPTION_LENGTH = 2000


def themed(svg: str, name: str, caption: str) -> str:
    """Rewrites an SVG file of matplotlib so that it can be inlined in a page.

    The foreground color becomes `currentColor`; viewed alone, the file follows the color scheme
    of the viewer. Fonts are those of the root element. Ids begin with the name, since ids of a
    page must be unique. The caption becomes the description. Style rules that would apply to the
    whole page, and the metadata, which depend on the version of matplotlib, are removed.

    Args:
        svg: the file.
        name: name of the figure, unique in a page.
        caption: the caption.

    Returns:
        The rewritten file.
    """
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", _XLINK)
    root = ET.fromstring(svg)
    for parent in root.findall(f".//{{{_SVG}}}metadata/.."):
        parent.remove(_only(parent, "metadata"))
    for parent in root.findall(f".//{{{_SVG}}}style/.."):
        parent.remove(_only(parent, "style"))
    for element in root.iter():
        for key, value in element.attrib.items():
            element.set(key, _attribute(key, value, name))
    description = f"{name}-caption"
    root.attrib |= {
        # Inherited, as matplotlib's style rule for all elements was.
        **{"stroke-linejoin": "round", "stroke-linecap": "butt", "font-family": FONTS},
        **{"role": "img", "aria-labelledby": description},
    }
    style = ET.Element("style")
    style.text = _STYLE
    text = ET.Element("desc", {"id": description})
    text.text = printable(caption, _MAX_CAPTION_LENGTH)
    root[:0] = [text, style]
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _only(parent: ET.Element, tag: str) -> ET.Element:
    (element,) = parent.findall(f"{{{_SVG}}}{tag}")
    return element


def _attribute(key: str, value: str, name: str) -> str:
    """The new value of an attribute."""
    if key == "id":
        return f"{name}-{value}"
    if key == f"{{{_XLINK}}}href" and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    value = value.replace("url(#", f"url(#{name}-")
    if key == "style":
        value = _FONT.sub(_font, value)
        return re.sub(rf"(fill|stroke): {INK}\b", r"\1: currentColor", value)
    if key in ("fill", "stroke") and value == INK:
        return "currentColor"
    return value


def _font(match: re.Match[str]) -> str:
    """A font of matplotlib without its families."""
    keywords, size = match[1].split(), match[2]
    weight = [f"font-weight: {k}" for k in keywords if k.isdigit() or k == "bold"]
    slant = [f"font-style: {k}" for k in keywords if k in ("italic", "oblique")]
    return "; ".join([f"font-size: {size}px", *weight, *slant])
