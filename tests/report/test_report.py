"""The report page: one file, safe, and what its buttons do in a real browser."""

import base64
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import jax
import numpy as np
import polars as pl
import pytest

from tests.support import synthetic_zoos
from zoojax import presets, report
from zoojax.analysis import Analysis, analyze
from zoojax.architectures import cnn
from zoojax.errors import ZoojaxError
from zoojax.report.data import payload
from zoojax.training import inference
from zoojax.training.hyperparameters import Grid

NASTY = '<img src=x onerror="alert(1)"></script><b>&amp;'
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
)
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)


@contextmanager
def guesses() -> Iterator[None]:
    """Weights and predictions are made up, as metrics are: real ones take minutes to compile."""

    def params(config, seeds):
        rng, one = np.random.default_rng(0), config.shape
        tree = jax.eval_shape(lambda: cnn.init_params(one, "uniform", 0))
        return jax.tree.map(lambda w: rng.standard_normal((len(seeds), *w.shape), w.dtype), tree)

    def predict(zoo, images, epoch=None):
        rng = np.random.default_rng(0 if epoch is None else epoch)
        return rng.integers(0, 2, (len(zoo), 100)).astype(np.uint16)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic_zoos, "_params", params)
        patch.setattr(inference, "predict", predict)
        yield


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Analysis:
    """Of 12 members, six with each activation, one of which diverges, and both twins."""
    folder = tmp_path_factory.mktemp("report")
    grid = Grid(activations=("tanh", "relu"))
    with (
        guesses(),
        patch.object(presets, "difference", lambda zoo: None),
        patch.object(presets, "twin_difference", lambda zoo, twin: None),
    ):
        zoo = synthetic_zoos.dense(folder / "dense", 6, grid, preset="usps-s-seed")
        mp = synthetic_zoos.pruned(folder / "mp", zoo, (0.5, 0.8, 0.9))
        found = analyze(zoo, [mp, synthetic_zoos.dropped_out(folder / "vd", zoo)])
    found.notes.append(f"A note of {NASTY}")
    members = found.tables["members"]
    ill = (pl.col("method") == "vd") & (pl.col("member") == 3) & (pl.col("epoch") > 22)
    found.tables["members"] = members.with_columns(
        pl.when(ill).then(np.nan).otherwise(pl.col("test_acc")).alias("test_acc"),
        (pl.col("finite") & ~ill).alias("finite"),
    )
    return found


@pytest.fixture(scope="module")
def lone(tmp_path_factory) -> Analysis:
    """Three members that differ in their seeds alone, without twins."""
    with guesses():
        return analyze(synthetic_zoos.dense(tmp_path_factory.mktemp("report") / "lone", 3), [])


@pytest.fixture(scope="module")
def file(found, tmp_path_factory) -> Path:
    """The page of `found`, with two figures."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "figure.png").write_bytes(PIXEL)
    figures = {"trajectories": folder / "figure.png", "by <b>": folder / "figure.png"}
    report.write(found, folder / "report.html", figures)
    return folder / "report.html"


def renamed(found: Analysis, name: str) -> Analysis:
    """The same analysis of a zoo of another name."""
    zoo = type(found.zoo)(found.zoo.path, replace(found.zoo.config, name=name))
    return replace(found, zoo=zoo)


def content(file: Path) -> dict:
    """The data within a page, as a browser finds it."""
    pattern = '<script type="application/json" id="data">(.*?)</script>'
    match = re.search(pattern, file.read_text(), re.DOTALL | re.IGNORECASE)
    assert match is not None
    return json.loads(match[1])


# ---- The file ------------------------------------------------------------------------------


def test_the_same_analysis_gives_the_same_bytes(found, file, tmp_path):
    for name in ("one", "two"):
        report.write(found, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert len(file.read_bytes()) > len((tmp_path / "one").read_bytes())


def test_the_page_refers_to_nothing_outside_it(file):
    # Plotly's own text, which names addresses that it would load maps from, is not markup;
    # nor is the data.
    whole = file.read_text()
    scripts = re.sub(r"<script>(?=/\*\*\n\* plotly\.js).*?</script>", "", whole, flags=re.DOTALL)
    scripts = re.sub(r"<script type=\"application/json.*?</script>", "", scripts, flags=re.DOTALL)
    assert 20_000 < len(scripts) < len(whole) - 4_000_000
    assert "<link" in scripts
    assert "://" not in scripts
    assert "@import" not in scripts
    sources = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'> ]*)""", scripts)
    assert [s for s in sources if s and not s.startswith("data:")] == []
    assert "default-src 'none'" in scripts


def test_names_cannot_break_out_of_the_data(found, tmp_path):
    report.write(renamed(found, NASTY), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "<img" not in text
    assert content(tmp_path / "page.html")["zoo"]["name"] == NASTY
    assert content(tmp_path / "page.html")["notes"][-1] == f"A note of {NASTY}"


def decoded(population: dict, metric: str) -> np.ndarray:
    """As page.js does it."""
    coded = population["values"][metric]
    codes = np.frombuffer(base64.b64decode(coded["codes"]), "<u2").astype(float)
    values = coded["low"] + (coded["high"] - coded["low"]) * codes / 65534
    shape = (len(population["member"]), len(population["epochs"]))
    return np.where(codes == 65535, np.nan, values).reshape(shape)


def test_every_measurement_is_in_the_page_and_none_that_is_not_finite(found, file):
    populations = {p["label"]: p for p in content(file)["populations"]}
    assert list(populations) == ["dense", "MP 50%", "MP 80%", "MP 90%", "VD"]
    members = found.tables["members"]
    for label, chosen in (
        ("dense", pl.col("method") == "dense"),
        ("MP 80%", (pl.col("method") == "mp") & (pl.col("ratio") == 0.8)),
        ("VD", pl.col("method") == "vd"),
    ):
        rows = members.filter(chosen).sort("member", "epoch")
        population = populations[label]
        assert population["member"] == rows["member"].unique().sort().to_list()
        for metric in ("test_acc", "train_acc", "ggap", "sparsity"):
            want = np.where(rows["finite"], rows[metric].to_numpy(), np.nan)
            got = decoded(population, metric)
            np.testing.assert_allclose(got.ravel(), want, rtol=0, atol=1 / 65534)
    assert np.isnan(decoded(populations["VD"], "test_acc")).sum() == 3


def test_twins_name_their_parents(found, file):
    page = content(file)
    pruned = page["populations"][2]
    roster = found.twin("mp").members_table.filter(pl.col("ratio") == 0.8)
    parents = [page["members"]["id"][row] for row in pruned["parent"]]
    assert dict(zip(pruned["member"], parents, strict=True)) == dict(
        roster.select("id", "parent_id").iter_rows()
    )


def test_tables_pair_means_with_deviations_and_ends_with_values(found):
    tables = {t["name"]: t for t in payload(found, {})["tables"]}
    assert {"paper", "trajectories", "correlation", "methods", "friendliness"} <= set(tables)
    columns = {c["name"]: c for c in tables["trajectories"]["columns"]}
    assert not [name for name in columns if name.endswith(("_mean", "_std"))]
    expected = found.tables["trajectories"]["test_acc_std"].to_list()
    assert columns["test_acc"]["spread"] == pytest.approx(expected, abs=1e-4)
    columns = {c["name"]: c for c in tables["methods"]["columns"]}
    assert columns["difference"]["low"] == pytest.approx(
        found.tables["methods"]["low"].to_list(), abs=1e-4
    )
    paper = tables["paper"]
    off = found.tables["paper"].select(pl.col("difference").abs() > pl.col("paper_std"))
    assert paper["shaded"]["rows"] == off.to_series().fill_null(False).to_list()
    assert 0 < sum(paper["shaded"]["rows"]) < paper["rows"]


def test_small_numbers_keep_their_digits_and_long_tables_say_what_is_left_out(found):
    table = found.tables["friendliness"].with_columns(pl.lit(1.5e-5).alias("learning_rate"))
    tables = {**found.tables, "friendliness": pl.concat([table] * 10)}
    shown = {t["name"]: t for t in payload(replace(found, tables=tables), {})["tables"]}
    columns = {c["name"]: c for c in shown["friendliness"]["columns"]}
    assert shown["friendliness"]["rows"] == 200
    assert f"200 of {10 * len(table)}" in shown["friendliness"]["about"]
    assert columns["learning_rate"]["kind"] == "plain"
    assert set(columns["learning_rate"]["values"]) == {1.5e-5}
    assert columns["rank"]["values"] == sorted(columns["rank"]["values"])


def test_cards_say_what_the_tables_say(found, lone):
    cards = {card["title"]: card for card in payload(found, {})["cards"]}
    # 50 % keeps its accuracy, 80 % and 90 % lose 6 and 12 points.
    assert "Accuracy at 50% sparsity" in cards
    row = found.tables["methods"].row(0, named=True)
    lines = dict(cards["Accuracy at 50% sparsity"]["lines"])
    assert lines["VD"] == f"{100 * row['vd_acc']:.1f}%"
    above, below = (found.tables["crossing"][name][0] for name in ("above", "below"))
    assert cards["Crossover"]["lines"] == [["sparsity", f"{100 * above:g}% to {100 * below:g}%"]]
    assert "interval" not in cards["Crossover"]["about"]
    assert [card["title"] for card in payload(lone, {})["cards"]] == ["Dense accuracy"]


def test_a_figure_that_is_not_there_is_an_error(found, tmp_path):
    with pytest.raises(ZoojaxError, match=r"none\.png is missing"):
        report.write(found, tmp_path / "page.html", {"trajectories": tmp_path / "none.png"})
    assert not (tmp_path / "page.html").exists()


def large(found: Analysis, size: int = 1000) -> Analysis:
    """Many members, five ratios; 51, 16 and 26 epochs: numbers that do not compress."""
    rng, parts = np.random.default_rng(0), []
    for method, ratios, epochs in (
        ("dense", [None], 51),
        ("mp", [0.5, 0.6, 0.7, 0.8, 0.9], 16),
        ("vd", [None], 26),
    ):
        members, count = size * len(ratios), size * len(ratios) * epochs
        member = np.repeat(np.arange(members), epochs)
        parts.append(
            pl.DataFrame(
                {
                    "method": [method] * count,
                    "ratio": pl.Series([ratios[m % len(ratios)] for m in member], dtype=pl.Float64),
                    "member": member,
                    "parent_id": pl.Series(
                        [None] * count if method == "dense" else member // len(ratios),
                        dtype=pl.Int64,
                    ),
                    "seed": member // len(ratios) + 1,
                    "activation": [("tanh", "relu")[m % 2] for m in member // len(ratios)],
                    "epoch": np.tile(np.arange(epochs), members),
                    **{
                        metric: rng.random(count)
                        for metric in ("test_acc", "train_acc", "ggap", "sparsity")
                    },
                    "finite": [True] * count,
                }
            )
        )
    return replace(found, tables={**found.tables, "members": pl.concat(parts)})


def test_a_thousand_members_fit_ten_megabytes(found, tmp_path):
    report.write(large(found), tmp_path / "large.html")
    assert 6_000_000 < (tmp_path / "large.html").stat().st_size < 8_000_000
    assert len(content(tmp_path / "large.html")["members"]["id"]) == 1000


# ---- In a browser --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("needs chromium on the path")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=executable, args=FLAGS)
        yield chromium
        chromium.close()


class Reader:
    """A tab with a page, and what it complained of.

    Attributes:
        page: playwright's page.
        complaints: messages of the console, errors, and addresses asked for.
    """

    def __init__(self, browser, file: Path, width: int = 1000, theme: str = "light", script=""):
        self.page = browser.new_page(
            viewport={"width": width, "height": 800}, color_scheme=theme, device_scale_factor=1
        )
        self.complaints: list[str] = []
        self.page.add_init_script(script or "0")
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._asked)
        self.page.goto(file.as_uri())
        self.page.wait_for_function("document.getElementById('b').data !== undefined")

    def _asked(self, request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.complaints.append(request.url)

    def drawn(self, plot: str, what: str = "each.x.filter((v) => v !== null).length") -> list:
        """Something of each trace of a plot, once everything is drawn."""
        self.page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))"
        )
        return self.page.evaluate(f"document.getElementById('{plot}').data.map((each) => {what})")

    def close(self) -> None:
        self.page.close()


@pytest.fixture(scope="module")
def opened(browser, file) -> Iterator[Reader]:
    """The page of `found`, opened once: that takes seconds."""
    reader = Reader(browser, file)
    yield reader
    reader.close()


@pytest.fixture
def reader(opened) -> Iterator[Reader]:
    """The page of `found` as it is when opened."""
    opened.page.evaluate(
        """() => {
            for (const each of document.querySelectorAll("select, input")) {
              if (each.tagName === "SELECT") each.selectedIndex = 0;
              else if (each.type === "text") each.value = "";
              each.dispatchEvent(new Event(each.tagName === "SELECT" ? "change" : "input"));
            }
            document.querySelectorAll("details").forEach((each) => { each.open = false; });
        }"""
    )
    opened.drawn("a")
    yield opened
    assert opened.complaints == []


@pytest.mark.parametrize("width", [400, 1400])
def test_it_opens_without_complaint_and_fits(browser, file, width):
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
    # The tables do not fit a phone: that is what they scroll in boxes of their own for.
    assert width > 400 or max(overflowing) > 0
    assert titles == len(content(file)["tables"])


def test_names_are_shown_as_text(browser, found, tmp_path):
    report.write(renamed(found, NASTY), tmp_path / "page.html", {})
    reader = Reader(browser, tmp_path / "page.html")
    name, note = reader.page.text_content("#name"), reader.page.text_content("#notes li:last-child")
    assert reader.page.locator("main img, header img").count() == 0
    reader.close()
    assert (name, note) == (NASTY, f"A note of {NASTY}")
    assert reader.complaints == []


def test_figures_are_shown_with_captions(reader):
    images = reader.page.locator("figure img")
    assert images.count() == 2
    assert images.evaluate_all("(all) => all.map((each) => each.naturalWidth)") == [1, 1]
    captions = reader.page.locator("figcaption").all_text_contents()
    assert "Test accuracy" in captions[0]
    assert captions[1] == "By <b>."
    assert images.evaluate_all("(all) => all.map((each) => each.alt)") == captions


def cells(reader: Reader, table: str, column: int) -> list[str]:
    return reader.page.locator(
        f"#table-{table} tbody td:nth-child({column + 1})"
    ).all_text_contents()


def test_a_click_sorts_numbers_and_a_second_turns_them_round(reader, found):
    columns = content_names(reader, "correlation")
    column = columns.index("Pearson's r [95%]")
    reader.page.locator("#table-correlation summary").click()
    button = reader.page.locator("#table-correlation th button").nth(column)
    header = reader.page.locator("#table-correlation th").nth(column)

    def values() -> list[float]:
        return [float(text.split()[0]) for text in cells(reader, "correlation", column)]

    before = values()
    want = sorted(found.tables["correlation"]["pearson"].round(4).to_list())
    assert before != sorted(before)
    button.click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert values() == pytest.approx(want, abs=6e-4)
    button.press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    assert values() == pytest.approx(want[::-1], abs=6e-4)
    assert reader.page.locator("#table-correlation th[aria-sort]").count() == 1


def content_names(reader: Reader, table: str) -> list[str]:
    """Headers of a table, which is opened for it."""
    reader.page.evaluate(f"document.getElementById('table-{table}').open = true")
    reader.page.locator(f"#table-{table} th button").first.wait_for()
    names = reader.page.locator(f"#table-{table} th button").all_text_contents()
    reader.page.evaluate(f"document.getElementById('table-{table}').open = false")
    return names


def test_numbers_are_not_sorted_as_text_and_nulls_stay_last(reader, found):
    columns = content_names(reader, "paper")
    reader.page.evaluate("document.getElementById('table-paper').open = true")
    buttons = reader.page.locator("#table-paper th button")
    epochs = columns.index("epoch")
    buttons.nth(epochs).click()
    numbers = [int(text) for text in cells(reader, "paper", epochs)]
    assert numbers == sorted(numbers)
    assert max(numbers) > 9 > min(numbers)
    ratios = columns.index("ratio")
    for _ in range(2):
        buttons.nth(ratios).click()
        texts = cells(reader, "paper", ratios)
        missing = found.tables["paper"]["ratio"].null_count()
        assert 0 < missing < len(texts)
        assert texts[-missing:] == ["–"] * missing
        assert "–" not in texts[:-missing]


def test_shares_are_percent_and_deviations_in_parentheses(reader, found):
    columns = content_names(reader, "trajectories")
    reader.page.evaluate("document.getElementById('table-trajectories').open = true")
    row = found.tables["trajectories"].row(0, named=True)
    shown = cells(reader, "trajectories", columns.index("test accuracy (std)"))[0]
    assert shown == f"{100 * row['test_acc_mean']:.1f}% ({100 * row['test_acc_std']:.1f})"


def test_a_filter_leaves_members_out_of_every_figure(reader):
    assert reader.drawn("a")[:2] == [36, 12]
    assert reader.drawn("b")[0] == 12 * 51
    assert reader.drawn("c")[0] == 12
    assert "Showing 12 of 12" in reader.page.text_content("#shown")
    means = reader.drawn("b", "each.name === 'mean' ? each.y.at(-1) : 0")
    reader.page.select_option("select[name=activation]", label="relu")
    assert reader.drawn("a")[:2] == [18, 6]
    assert reader.drawn("b")[0] == 6 * 51
    assert reader.drawn("c")[0] == 6
    assert "Showing 6 of 12" in reader.page.text_content("#shown")
    texts = reader.drawn("c", "each.text ?? []")[0]
    assert all("activation relu" in text for text in texts)
    reader.page.select_option("select[name=activation]", label="all")
    assert reader.drawn("c")[0] == 12
    assert reader.drawn("b", "each.name === 'mean' ? each.y.at(-1) : 0") == means


def test_the_epoch_slider_moves_the_dots(reader, found):
    members = found.tables["members"]

    def accuracies(method: str, epoch: int) -> list[float]:
        rows = members.filter(
            (pl.col("method") == method) & (pl.col("epoch") == epoch) & pl.col("finite")
        )
        return rows["test_acc"].sort().to_list()

    for chosen, mp, vd in ((0, 0, 0), (4, 4, 4), (20, 15, 20)):
        slider = reader.page.locator("#a-epoch")
        slider.evaluate(
            "(e, to) => { e.value = to; e.dispatchEvent(new Event('input')); }", str(chosen)
        )
        drawn = reader.drawn("a", "each.y.filter(Number.isFinite)")
        assert sorted(drawn[0]) == pytest.approx(accuracies("mp", mp), abs=1e-4)
        assert sorted(drawn[1]) == pytest.approx(accuracies("vd", vd), abs=1e-4)
        assert reader.page.text_content("#a-label") == f"MP epoch {mp} · VD epoch {vd}"
    # The keyboard moves it too.
    slider.focus()
    slider.press("ArrowLeft")
    reader.drawn("a")
    assert reader.page.text_content("#a-label") == "MP epoch 15 · VD epoch 19"


def test_means_are_those_of_the_tables(reader, found):
    table = found.tables["trajectories"].filter(pl.col("method") == "dense").sort("epoch")
    [drawn] = [y for y in reader.drawn("b", "each.name === 'mean' ? each.y : null") if y]
    assert drawn == pytest.approx(table["test_acc_mean"].to_list(), abs=1e-4)


def test_populations_and_metrics_can_be_chosen(reader, found):
    reader.page.select_option("#b-population", label="VD")
    reader.page.select_option("#b-metric", "sparsity")
    rows = found.tables["members"].filter((pl.col("method") == "vd") & pl.col("finite"))
    drawn = reader.drawn("b", "each.y.filter(Number.isFinite)")[0]
    assert sorted(drawn) == pytest.approx(rows["sparsity"].sort().to_list(), abs=1e-4)
    reader.page.select_option("#c-population", label="VD")
    reader.drawn("c")
    cell = found.tables["correlation"].filter((pl.col("method") == "vd") & (pl.col("epoch") == 25))
    assert f"Pearson's r {cell['pearson'][0]:.2f} [" in reader.page.text_content("#c-title")
    assert f"tau {cell['kendall'][0]:.2f} [" in reader.page.text_content("#c-title")
    reader.page.select_option("#d-population", "mp")
    assert reader.drawn("d", "each.x") == [[0.5, 0.8, 0.9]] * 5


def test_hover_names_the_member_its_seed_and_its_hyper_parameters(reader):
    for plot in "abc":
        plotted = reader.page.locator(f"#{plot}")
        plotted.scroll_into_view_if_needed()
        at = reader.page.evaluate(
            """(id) => {
                const plot = document.getElementById(id), trace = plot.data[0];
                const { xaxis, yaxis } = plot._fullLayout, box = plot.getBoundingClientRect();
                return [box.left + xaxis._offset + xaxis.d2p(trace.x[2]),
                        box.top + yaxis._offset + yaxis.d2p(trace.y[2])];
            }""",
            plot,
        )
        reader.page.mouse.move(at[0] + 1, at[1], steps=4)
        label = plotted.locator(".hoverlayer")
        label.locator("text").first.wait_for()
        text = label.text_content()
        assert re.search(r"member \d+ \((dense|MP \d+%)\)", text)
        assert re.search(r"seed \d", text)
        assert re.search(r"activation (tanh|relu)", text)
        assert re.search(r"\d\.\d%", text)


def test_the_theme_follows_the_reader_and_the_button(browser, file):
    reader = Reader(browser, file, theme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    colour = "document.getElementById('a')._fullLayout.font.color"
    dark = reader.page.evaluate(background), reader.page.evaluate(colour)
    reader.page.locator("#theme").click()
    reader.drawn("a")
    light = reader.page.evaluate(background), reader.page.evaluate(colour)
    reader.page.locator("#theme").click()
    reader.drawn("a")
    again = reader.page.evaluate(background), reader.page.evaluate(colour)
    reader.close()
    assert light[0] == "rgb(255, 255, 255)"
    assert dark == again
    assert dark[0] != light[0]
    assert dark[1] != light[1]
    assert reader.complaints == []


def test_no_button_sends_the_data_away(reader):
    titles = "[...document.querySelectorAll('.modebar-btn')].map((each) => each.dataset.title)"
    found = reader.page.evaluate(titles)
    assert any("PNG" in title for title in found)
    assert not [title for title in found if re.search("share|cloud|plotly", title, re.IGNORECASE)]
    assert reader.page.locator("a[href]").count() == 0


def test_a_seed_zoo_has_no_filters_and_highlights_a_member(browser, lone, tmp_path):
    report.write(lone, tmp_path / "lone.html")
    reader = Reader(browser, tmp_path / "lone.html")
    page = reader.page
    said, selects = page.text_content("#filter-fields"), page.locator("#filter-fields select")
    assert "only in their seeds" in said
    assert selects.count() == 0
    assert [page.locator(f"#{plot}-section").is_visible() for plot in "abcd"] == [
        *(False, True, False, False)
    ]
    assert reader.drawn("b", "each.name") == ["members", "mean"]
    page.fill("#highlight", "2")
    assert reader.drawn("b", "each.name") == ["members", "mean", "highlighted"]
    assert "member 2 " in reader.drawn("b", "each.text?.[0] ?? ''")[2]
    page.select_option("#highlight-by", "seed")
    assert "member 1 " in reader.drawn("b", "each.text?.[0] ?? ''")[2]
    page.fill("#highlight", "77")
    assert len(reader.drawn("b")) == 2
    assert "No such member" in page.text_content("#shown")
    reader.close()
    assert reader.complaints == []


@pytest.mark.parametrize("kind", ["mp", "vd"])
def test_one_twin_is_enough_though_all_its_members_end_ill(browser, found, tmp_path, kind):
    twin, tables = found.twin(kind), {}
    for name in ("members", "trajectories", "layer_sparsity", "correlation", "friendliness"):
        table = found.tables[name].filter(pl.col("method").is_in(["dense", kind]))
        last = (pl.col("method") == kind) & (pl.col("epoch") == twin.epochs[-1])
        ill = [c for c in ("test_acc_mean", "pearson", "kendall") if c in table.columns]
        table = table.with_columns(pl.when(~last).then(pl.col(c)).alias(c) for c in ill)
        if name == "members":
            table = table.with_columns(pl.col("finite") & ~last)
        tables[name] = table
    report.write(replace(found, twins=[twin], tables=tables), tmp_path / "page.html")
    titles = [c["title"] for c in content(tmp_path / "page.html")["cards"]]
    assert titles[0] == "Dense accuracy"
    assert any(title.startswith("Accuracy at") for title in titles)
    reader = Reader(browser, tmp_path / "page.html")
    reader.page.locator("#a-epoch").evaluate(
        "(e) => { e.value = e.max; e.dispatchEvent(new Event('input')); }"
    )
    shown = reader.drawn("a", "each.y.filter(Number.isFinite).length")
    title, label = reader.page.text_content("#c-title"), reader.page.text_content("#a-label")
    reader.close()
    assert shown[0] == 0
    assert shown[-1] == 2  # The dense mean.
    assert "too few members" in title
    assert label == f"{kind.upper()} epoch {twin.epochs[-1]}"
    assert reader.complaints == []


def test_a_highlighted_member_is_followed_into_its_twins(reader):
    reader.page.fill("#highlight", "3")
    for plot, count in (("a", 4), ("b", 51), ("c", 1)):
        names = reader.drawn(plot, "each.name")
        assert names[-1] == "highlighted"
        assert reader.drawn(plot)[-1] == count
    texts = reader.drawn("a", "each.text ?? []")[-1]
    assert all("of dense member 3<" in text for text in texts)


def test_with_a_graphics_card_many_points_are_drawn_by_it(browser, found, tmp_path):
    report.write(large(found, 100), tmp_path / "large.html")
    # A card that calls itself one; what is drawn is drawn by software all the same.
    script = """const ask = WebGLRenderingContext.prototype.getParameter;
        WebGLRenderingContext.prototype.getParameter = function (what) {
          return what === 0x9246 ? "A card" : ask.call(this, what);
        };"""
    for card, kind in ((script, "scattergl"), ("", "scatter")):
        reader = Reader(browser, tmp_path / "large.html", script=card)
        assert reader.drawn("b", "each.type") == [kind, kind]
        assert set(reader.drawn("a", "each.type")) == {"scatter"}
        assert reader.drawn("b")[0] == 100 * 51
        complaints = reader.complaints
        reader.close()
        # Software complains of its own slowness.
        assert [c for c in complaints if "GL Driver Message" not in c or not card] == []


def test_embeddings_are_mapped_and_reconstruction_is_shown(browser, lone, tmp_path):
    tables = synthetic_zoos.representation_tables()
    report.write(replace(lone, tables=lone.tables | tables), tmp_path / "report.html")
    reader = Reader(browser, tmp_path / "report.html")
    assert reader.drawn("e") == [100, 100, 100]
    assert "300" not in reader.page.inner_text("#e-title")
    truth = tables["representation_embeddings"].filter(part="train")
    assert reader.drawn("e", "each.marker.color[1]")[0] == pytest.approx(
        truth["test_acc"][1], abs=1e-4
    )
    reader.page.select_option("#e-property", "epoch")
    assert reader.drawn("e", "each.marker.color[1]")[0] == truth["epoch"][1]
    reader.page.select_option("#e-part", "test")
    assert reader.drawn("e") == [100]
    assert reader.drawn("f") == [100, 2]
    assert "R² 60.0%." in reader.page.inner_text("#f-section")
    reader.page.select_option("#f-layer", "5")
    assert reader.drawn("f") == [100, 2]
    assert "R² 40.0%, on the scale of the loss." in reader.page.inner_text("#f-section")
    assert reader.complaints == []
    reader.close()
