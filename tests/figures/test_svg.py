"""SVG files that can be inlined in a page, and captions."""

import re
import xml.etree.ElementTree as ET

import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from tests.figures.test_figures import NAMES
from zoojax import figures
from zoojax.figures.style import INK, color_sequence

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
# Of a page with figures at most this wide, and its smallest font, in pixels.
PAGE, SMALLEST = 720, 9
# Figures with texts in colored cells, which are black or white on every page.
CELLS = {"method_ranking", "mask_overlap", "method_layers"}


@pytest.fixture(scope="module", params=NAMES)
def svg(written, request) -> ET.Element:
    """The SVG file of each figure."""
    file = next(path for path in written if path.stem == request.param)
    return ET.parse(file.with_suffix(".svg")).getroot()


def _styles(root: ET.Element) -> list[str]:
    return [f"{each.get('style', '')};fill: {each.get('fill', '')}" for each in root.iter()]


def test_texts_and_axes_have_the_color_of_the_page(svg, request):
    texts = list(svg.iter(f"{SVG}text"))
    colored = ["fill: currentColor" in text.get("style", "") for text in texts]
    if request.node.callspec.params["svg"] in CELLS:
        assert any(colored)
    else:
        assert texts and all(colored)
        for style in _styles(svg):
            assert INK not in style and "#ffffff" not in style and "#000000" not in style
    assert any("stroke: currentColor" in style for style in _styles(svg))


def test_background_is_transparent(svg):
    width, height = (float(number) for number in svg.get("viewBox", "").split()[2:])
    for path in svg.iter(f"{SVG}path"):
        corners = set(re.findall(r"[ML] ([\d.]+) ([\d.]+)", path.get("d", "")))
        whole = {(0.0, 0.0), (width, height)} <= {(float(x), float(y)) for x, y in corners}
        assert not whole or "fill: none" in path.get("style", "")


def test_fonts_are_large_enough(svg):
    width = float(svg.get("viewBox", "").split()[2])
    sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", str(_styles(svg)))]
    assert sizes
    # In points, as the width.
    assert width * 4 / 3 <= PAGE
    assert min(sizes) * 4 / 3 >= SMALLEST


def test_inlined_files_do_not_affect_the_page(svg, request):
    name = request.node.callspec.params["svg"]
    ids = [each.get("id") for each in svg.iter() if each.get("id")]
    assert all(each.startswith(f"{name}-") for each in ids)
    assert len(ids) == len(set(ids))
    used = {each.get(f"{XLINK}href", "#")[1:] for each in svg.iter(f"{SVG}use")}
    used |= set(re.findall(r"url\(#([^)]+)\)", ET.tostring(svg, encoding="unicode")))
    assert used <= set(ids)
    # The root element of a page is not an svg element.
    (style,) = (each.text or "" for each in svg.iter(f"{SVG}style"))
    rules, dark = style.split("@media(prefers-color-scheme:dark){")
    assert set(re.findall(r"([^{}]+){[^{}]*}", rules + dark)) == {"svg:root"}
    assert svg.find(f"{SVG}metadata") is None


def test_captions_are_in_the_files(full, written):
    captions = figures.captions(full)
    assert set(NAMES) <= set(captions)
    text = (written[0].parent / "captions.md").read_text()
    for path in written:
        caption = captions[path.stem]
        assert len(caption) > 100 and f"n = {len(full.zoo)} members" in caption
        assert not caption.lower().startswith(path.stem)
        root = ET.parse(path.with_suffix(".svg")).getroot()
        described = root.find(f"{SVG}desc")
        assert described is not None and described.text == caption
        assert root.get("aria-labelledby") == described.get("id")
        assert f"**{path.stem}.** " in text
        with Image.open(path) as image:
            assert image.info["Description"] == caption
            pixel = image.convert("RGBA").getpixel((0, 0))
            assert pixel == (255, 255, 255, 255)


def test_hostile_caption_is_only_text(tmp_path):
    caption = "a <script>alert(1)</script> & ]]> \x1b[31m"
    figures.save(Figure(figsize=(1, 1)), tmp_path, "x", caption)
    root = ET.parse(tmp_path / "x.svg").getroot()
    described = root.find(f"{SVG}desc")
    assert described is not None and described.text == caption.replace("\x1b", r"\x1b")
    assert not list(root.iter(f"{SVG}script"))


@pytest.mark.parametrize("count", [1, 5, 11])
def test_colors_are_visible_on_white_and_black(count):
    def luminance(color: str) -> float:
        linear = [c / 12.92 if c <= 0.04 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(one), luminance(other)))
        return (high + 0.05) / (low + 0.05)

    colors = color_sequence(count)
    assert len(set(colors)) == count
    for color in colors:
        assert min(contrast(color, "#ffffff"), contrast(color, "#14161a")) > 2.5
