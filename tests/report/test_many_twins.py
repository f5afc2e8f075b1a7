"""The report page of four twins: two of them by one sparsifier, one by a toy sparsifier."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import polars as pl
import pytest

from tests.report.conftest import random_weights_and_predictions
from tests.support.many_twins import KEYS, many_twins, registered
from tests.support.report_page import Reader, content
from zoojax import presets, report
from zoojax.analysis import Analysis, analyze
from zoojax.report.data import payload

SHORT = ("dense", "Fade", "MP", "MP-2", "VD")


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Iterator[Analysis]:
    with (
        registered(),
        random_weights_and_predictions(),
        patch.object(presets, "difference", lambda zoo: None),
        patch.object(presets, "twin_difference", lambda zoo, twin: None),
    ):
        yield analyze(*many_twins(tmp_path_factory.mktemp("many"), 12, preset="usps-s-seed"))


@pytest.fixture(scope="module")
def page(many, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    report.write(many, path)
    return path


def test_methods_and_populations(many, page):
    data = content(page)
    assert [method["key"] for method in data["methods"]] == list(KEYS)
    assert tuple(method["short"] for method in data["methods"]) == SHORT
    assert [method["sweep"] for method in data["methods"]] == [
        *("epoch", "epoch", "ratio", "ratio", "epoch")
    ]
    assert [method["color"] for method in data["methods"]] == [m.color for m in many.methods]
    assert [(each["method"], each["label"]) for each in data["populations"]] == [
        *(("dense", "dense"), ("fade", "Fade"), ("mp", "MP 50%"), ("mp", "MP 90%")),
        *(("mp-2", "MP-2 40%"), ("mp-2", "MP-2 80%"), ("vd", "VD")),
    ]
    assert data["zoo"]["twins"] == [
        "Fading (Fade): made-up-fade from epoch 50, 10 epochs.",
        "Magnitude pruning (MP): made-up-mp, global pruning from epoch 50 at 50%, 90%, "
        "then 15 epochs of fine-tuning.",
        "Magnitude pruning (MP-2): made-up-mp, layer pruning from epoch 50 at 40%, 80%, "
        "then 15 epochs of fine-tuning.",
        "Variational dropout (VD): made-up-vd, released variant from epoch 50, 10 epochs.",
    ]


def test_cards_of_every_method(many):
    cards = {card["title"]: card for card in payload(many, {})["cards"]}
    (tradeoff,) = [card for title, card in cards.items() if title.startswith("Accuracy at 50%")]
    lines = [name.split(",")[0] for name, _ in tradeoff["lines"]]
    assert lines == list(SHORT[1:])
    assert "MP minus Fade: " in tradeoff["about"] and "MP minus VD: " in tradeoff["about"]
    assert {title for title in cards if title.startswith("Crossover")} == {
        f"Crossover of {one} and {other}" for one in ("MP", "MP-2") for other in ("Fade", "VD")
    }
    lines = cards["Agreement with the parent at 50%"]["lines"]
    assert [name.split(",")[0] for name, _ in lines] == list(SHORT[1:])


def test_tables_name_methods_by_their_abbreviations(many):
    tables = {table["name"]: table for table in payload(many, {})["tables"]}
    columns = {column["name"]: column for column in tables["methods"]["columns"]}
    assert columns["mp-2_acc"]["label"] == "MP-2 accuracy"
    assert set(columns["other_method"]["values"]) == {"Fade", "VD"}
    assert "{" not in tables["methods"]["about"] + tables["crossing"]["about"]
    (column,) = [c for c in tables["trajectories"]["columns"] if c["name"] == "method"]
    assert set(column["values"]) == set(SHORT)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_page_in_a_browser(browser, many, page, theme):
    reader = Reader(browser, page, theme=theme)
    names = reader.drawn("a", "each.name")
    assert names[:4] == list(SHORT[1:]) and names[8] == "dense mean"
    assert reader.drawn("a")[:4] == [12, 24, 24, 12]
    colors = reader.drawn("a", "each.marker?.color ?? each.line.color")
    assert len(set(colors[:4])) == 4
    # Dark colors are lightened on a dark page.
    assert (colors[0] == many.methods[1].color) == (theme == "light")
    reader.page.select_option("#d-population", label="MP-2, by ratio, last epoch")
    assert reader.drawn("d", "each.x") == [[0.4, 0.8]] * 5
    reader.page.select_option("#d-population", label="Fade, by epoch")
    expected = many.tables["layer_sparsity"].filter(pl.col("method") == "fade", layer="fc1")
    drawn = reader.drawn("d", "each.y")[3]
    assert drawn == pytest.approx(expected["mean"].to_list(), abs=1e-4)
    for population in ("dense", "MP-2 80%", "Fade"):
        reader.page.select_option("#b-population", label=population)
        assert len(reader.drawn("b")) == 2
    reader.close()
    assert reader.complaints == []


def test_page_of_one_toy_twin(browser, many, tmp_path):
    tables = {
        name: table.filter(pl.col("method").is_in(["dense", "fade"]))
        for name, table in many.tables.items()
        if "method" in table.columns and "other_method" not in table.columns
    }
    report.write(replace(many, twins=many.twins[:1], tables=tables), tmp_path / "page.html")
    titles = [card["title"] for card in content(tmp_path / "page.html")["cards"]]
    assert any(title.startswith("Accuracy at") for title in titles)
    reader = Reader(browser, tmp_path / "page.html")
    assert reader.drawn("a", "each.name")[:2] == ["Fade", "Fade mean, up to this epoch"]
    reader.close()
    assert reader.complaints == []
