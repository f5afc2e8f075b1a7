"""The report page in a browser: layout, texts, themes, and pages of incomplete analyses."""

import re
from dataclasses import replace

import polars as pl
import pytest

from tests.support import synthetic_zoos
from tests.support.report_page import NASTY, Reader, content, renamed
from tests.support.synthetic_analysis import large
from zoojax import report


@pytest.mark.parametrize("width", [400, 1400])
def test_page_fits_narrow_and_wide_windows(browser, file, width):
    reader = Reader(browser, file, width)
    reader.page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    reader.page.wait_for_function(
        "[...document.querySelectorAll('.scroll')].every((box) => box.querySelector('tbody tr'))"
    )
    wide = (
        "(() => { const e = document.scrollingElement; return [e.scrollWidth, e.clientWidth]; })()"
    )
    scroll, client = reader.page.evaluate(wide)
    boxes = "[...document.querySelectorAll('.scroll')].map((b) => b.scrollWidth - b.clientWidth)"
    overflowing = reader.page.evaluate(boxes)
    titles = reader.page.evaluate("[...document.querySelectorAll('summary h3')].length")
    reader.close()
    assert reader.complaints == []
    assert client == width
    assert scroll <= client
    # On a phone, tables scroll within their own boxes.
    assert width > 400 or max(overflowing) > 0
    assert titles == len(content(file)["tables"])


def test_names_are_shown_as_text(browser, result, tmp_path):
    report.write(renamed(result, NASTY), tmp_path / "page.html", {})
    reader = Reader(browser, tmp_path / "page.html")
    name, note = reader.text("#name"), reader.text("#notes li:last-child")
    assert reader.page.locator("main img, header img").count() == 0
    reader.close()
    assert (name, note) == (NASTY, f"A note of {NASTY}")
    assert reader.complaints == []


def test_figures_are_inlined_with_captions(reader):
    figures = reader.page.locator("figure svg")
    assert figures.count() == 2
    captions = reader.page.locator("figcaption").all_text_contents()
    assert "Test accuracy" in captions[0]
    assert captions[1] == "By <b>."
    labels = figures.evaluate_all("(all) => all.map((each) => each.getAttribute('aria-label'))")
    assert labels == captions
    # In their own size, so that their text is not smaller.
    widths = figures.evaluate_all("(all) => all.map((e) => e.getBoundingClientRect().width)")
    assert widths == [480, 480]
    ids = reader.page.evaluate("[...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(ids) == len(set(ids))
    assert reader.page.locator("figure script, figure style, figure foreignObject").count() == 0


@pytest.mark.parametrize("width", [400, 1400])
def test_no_text_is_smaller_than_nine_pixels(browser, file, width):
    reader = Reader(browser, file, width)
    reader.page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    sizes = reader.page.evaluate(
        """() => {
            const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
            const sizes = {};
            while (walker.nextNode()) {
              const { data, parentElement: element } = walker.currentNode, text = data.trim();
              const isCode = element.closest("script, template");
              if (!text || isCode || !element.checkVisibility()) continue;
              const matrix = element.ownerSVGElement ? element.getScreenCTM() : { a: 1, b: 0 };
              const scale = Math.hypot(matrix.a, matrix.b);
              sizes[text.slice(0, 40)] = scale * parseFloat(getComputedStyle(element).fontSize);
            }
            return sizes;
        }"""
    )
    reader.close()
    assert len(sizes) > 100
    assert {text: size for text, size in sizes.items() if size < 9} == {}


def test_theme_follows_system_and_button(browser, file):
    reader = Reader(browser, file, theme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    color = "document.getElementById('a')._fullLayout.font.color"
    stroke = "getComputedStyle(document.querySelector('figure path')).stroke"
    dark_stroke = reader.page.evaluate(stroke)
    dark = reader.page.evaluate(background), reader.page.evaluate(color)
    reader.page.locator("#theme").click()
    reader.drawn("a")
    light = reader.page.evaluate(background), reader.page.evaluate(color)
    assert reader.page.evaluate(stroke) == light[1] != dark_stroke == dark[1]
    reader.page.locator("#theme").click()
    reader.drawn("a")
    again = reader.page.evaluate(background), reader.page.evaluate(color)
    reader.close()
    assert light[0] == "rgb(255, 255, 255)"
    assert dark == again
    assert dark[0] != light[0]
    assert dark[1] != light[1]
    assert reader.complaints == []


def test_no_button_uploads_data(reader):
    titles = "[...document.querySelectorAll('.modebar-btn')].map((each) => each.dataset.title)"
    buttons = reader.page.evaluate(titles)
    assert any("PNG" in title for title in buttons)
    assert not [title for title in buttons if re.search("share|cloud|plotly", title, re.IGNORECASE)]
    hrefs = reader.page.locator("a[href]").evaluate_all(
        "(all) => all.map((each) => each.getAttribute('href'))"
    )
    assert len(hrefs) > 10
    assert all(href.startswith(("#", "./")) for href in hrefs)


def test_contents_lead_to_all_sections(reader):
    links = reader.page.locator("#contents a")
    assert links.all_text_contents() == [
        *("Members", "Accuracy over sparsity", "Comparison of methods", "Trajectories"),
        *("Before and after sparsification", "Hyperparameters", "Agreement of members"),
        *("Sparsity of layers", "Figures", "Tables", "Files"),
    ]
    links.nth(5).click()
    reader.page.wait_for_function("location.hash === '#hyperparameters'")
    top = "document.getElementById('hyperparameters').getBoundingClientRect().top"
    assert abs(reader.page.evaluate(top)) < 30


def test_state_is_in_the_address(browser, file):
    reader = Reader(browser, file)
    page = reader.page
    assert "?" not in page.url
    page.select_option("select[name=activation]", label="relu")
    page.select_option("#color", label="activation")
    page.select_option("#c-method", label="VD")
    reader.set("c-epoch", 3)
    page.uncheck("input[name=show-mp]")
    page.fill("#highlight", "5")
    page.locator("#contents a").nth(3).click()
    page.wait_for_function("location.hash.startsWith('#trajectories?')")
    url, title = page.url, reader.text("#c-title")
    reader.close()
    assert reader.complaints == []
    again = Reader(browser, file, address=url.partition("#")[2])
    page = again.page
    assert again.drawn("a", "each.name") == ["VD mean", "dense mean", "relu", "highlighted"]
    assert again.text("#c-title") == title != ""
    assert page.input_value("#c-epoch") == "3"
    assert "Showing 12 of 24" in page.text_content("#shown")
    assert page.url == url
    page.click("#reset")
    assert page.url.endswith("#trajectories")
    assert "Showing 24 of 24" in page.text_content("#shown")
    again.close()
    assert again.complaints == []


@pytest.mark.parametrize("address", ["?color=none&a-epoch=x&c-epoch=-5", "<img>?%", "nothing?a=b"])
def test_foreign_states_are_ignored(browser, file, address):
    reader = Reader(browser, file, address=address)
    assert reader.drawn("b")[0] == 24 * 51
    assert reader.page.input_value("#color") == ""
    reader.close()
    assert reader.complaints == []


def test_zoo_that_varies_only_in_seeds(browser, seed_zoo, tmp_path):
    report.write(seed_zoo, tmp_path / "seed_zoo.html")
    reader = Reader(browser, tmp_path / "seed_zoo.html")
    page = reader.page
    text, selects = page.text_content("#filter-fields"), page.locator("#filter-fields select")
    assert "only in their seeds" in text
    assert selects.count() == 0
    assert [page.locator(f"#{plot}-section").is_visible() for plot in "abcd"] == [
        *(False, True, False, False)
    ]
    assert reader.drawn("b", "each.name") == ["members", "mean of 3"]
    assert reader.card("Dense accuracy").keys() == {"dense n = 3"}
    assert len(reader.cards()) == 1
    page.fill("#highlight", "2")
    assert reader.drawn("b", "each.name") == ["members", "mean of 3", "highlighted"]
    assert "member 2 " in reader.drawn("b", "each.text?.[0] ?? ''")[2]
    page.select_option("#highlight-by", "seed")
    assert "member 1 " in reader.drawn("b", "each.text?.[0] ?? ''")[2]
    page.fill("#highlight", "77")
    assert len(reader.drawn("b")) == 2
    assert "No such member" in page.text_content("#shown")
    reader.close()
    assert reader.complaints == []


@pytest.mark.parametrize("kind", ["mp", "vd"])
def test_report_with_one_fully_diverged_twin(browser, result, tmp_path, kind):
    (twin,), tables = [m.zoo for m in result.twin_methods() if m.key == kind], {}
    for name in ("members", "trajectories", "layer_sparsity", "correlation", "friendliness"):
        table = result.tables[name].filter(pl.col("method").is_in(["dense", kind]))
        last = (pl.col("method") == kind) & (pl.col("epoch") == twin.epochs[-1])
        empty = [c for c in ("test_acc_mean", "pearson", "kendall") if c in table.columns]
        table = table.with_columns(pl.when(~last).then(pl.col(c)).alias(c) for c in empty)
        if name == "members":
            table = table.with_columns(pl.col("finite") & ~last)
        tables[name] = table
    report.write(replace(result, twins=[twin], tables=tables), tmp_path / "page.html")
    reader = Reader(browser, tmp_path / "page.html")
    titles = reader.cards()
    reader.set("c-epoch", twin.epochs[-1])
    shown = reader.drawn("a", "each.y.filter(Number.isFinite).length")
    title = reader.text("#c-title")
    reader.close()
    assert titles[0] == "Dense accuracy"
    # Twins with pruning ratios are compared at the last epoch only.
    assert any(title.startswith("Accuracy at") for title in titles) == (kind == "vd")
    assert shown[-1] == 0
    assert shown[1] == 2  # The dense mean.
    assert "too few members (0, not at least 20)" in title
    assert reader.complaints == []


def test_many_points_are_drawn_with_webgl_on_a_gpu(browser, result, tmp_path):
    report.write(large(result, 100), tmp_path / "large.html")
    # Pretends to be a GPU; drawing is still done in software.
    script = """const original = WebGLRenderingContext.prototype.getParameter;
        WebGLRenderingContext.prototype.getParameter = function (what) {
          return what === 0x9246 ? "A GPU" : original.call(this, what);
        };"""
    for gpu, kind in ((script, "scattergl"), ("", "scatter")):
        reader = Reader(browser, tmp_path / "large.html", script=gpu)
        assert reader.drawn("b", "each.type") == [kind, kind]
        assert set(reader.drawn("a", "each.type")) == {"scatter"}
        assert reader.drawn("b")[0] == 100 * 51
        complaints = reader.complaints
        reader.close()
        # Software rendering warns that it is slow.
        assert [c for c in complaints if "GL Driver Message" not in c or not gpu] == []


def test_map_of_embeddings_and_reconstruction(browser, seed_zoo, tmp_path):
    tables = synthetic_zoos.representation_tables()
    report.write(replace(seed_zoo, tables=seed_zoo.tables | tables), tmp_path / "report.html")
    reader = Reader(browser, tmp_path / "report.html")
    assert reader.drawn("e") == [100, 100, 100]
    assert "300" not in reader.page.inner_text("#e-title")
    training = tables["representation_embeddings"].filter(part="train")
    assert reader.drawn("e", "each.marker.color[1]")[0] == pytest.approx(
        training["test_acc"][1], abs=1e-4
    )
    reader.page.select_option("#e-property", "epoch")
    assert reader.drawn("e", "each.marker.color[1]")[0] == training["epoch"][1]
    reader.page.select_option("#e-part", "test")
    assert reader.drawn("e") == [100]
    assert reader.drawn("f") == [100, 2]
    assert "R² 60.0%." in reader.page.inner_text("#f-section")
    reader.page.select_option("#f-layer", "5")
    assert reader.drawn("f") == [100, 2]
    assert "R² 40.0%, on the scale of the loss." in reader.page.inner_text("#f-section")
    assert reader.complaints == []
    reader.close()
