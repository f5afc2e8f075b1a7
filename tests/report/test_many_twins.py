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
        "Fading (Fade): made-up-fade from epoch 50, 10 epochs; 12 members.",
        "Magnitude pruning (MP): made-up-mp, global pruning from epoch 50 at 50%, 90%, "
        "then 15 epochs of fine-tuning; 24 members.",
        "Magnitude pruning (MP-2): made-up-mp, layer pruning from epoch 50 at 40%, 80%, "
        "then 15 epochs of fine-tuning; 24 members.",
        "Variational dropout (VD): made-up-vd, released variant from epoch 50, 10 epochs; "
        "12 members.",
    ]


def test_tables_name_methods_by_their_abbreviations(many):
    tables = {table["name"]: table for table in payload(many, {}, {})["tables"]}
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
    assert names[4:] == ["dense mean", *SHORT[1:]]
    assert reader.drawn("a")[5:] == [12, 24, 24, 12]
    colors = reader.drawn("a", "each.marker?.color ?? each.line.color")[5:]
    assert len(set(colors)) == 4
    # Dark colors are lightened on a dark page.
    assert (colors[0] == many.methods[1].color) == (theme == "light")
    reader.page.select_option("#d-method", label="MP-2, by ratio, last epoch")
    assert reader.drawn("d", "each.x") == [[0.4, 0.8]] * 5
    reader.page.select_option("#d-method", label="Fade, by epoch")
    expected = many.tables["layer_sparsity"].filter(pl.col("method") == "fade", layer="fc1")
    drawn = reader.drawn("d", "each.y")[3]
    assert drawn == pytest.approx(expected["mean"].to_list(), abs=1e-4)
    for method in ("dense", "MP-2", "Fade"):
        reader.page.select_option("#b-method", label=method)
        assert len(reader.drawn("b")) == 2
    reader.close()
    assert reader.complaints == []


def test_cards_of_every_method(browser, many, page):
    reader = Reader(browser, page)
    labels = list(reader.card("Accuracy at 50%"))
    assert [label.split(",")[0].split(" ")[0] for label in labels] == list(SHORT[1:])
    # The nearest ratio of MP-2 is 40 %.
    assert reader.card("Accuracy at 50%")["MP-2"] == "not near 50%"
    assert [label for label in labels if "n = 12" not in label] == ["MP-2"]
    assert [label.split(" n =")[0] for label in reader.card("Crossover")] == [
        f"{other} overtakes {one}" for one in ("MP", "MP-2") for other in ("Fade", "VD")
    ]
    assert set(reader.card("Accuracy before and after").values()) == {"too few members"}
    reader.page.uncheck("input[name=show-mp]")
    assert "MP" not in reader.drawn("a", "each.name")
    assert len(reader.card("Crossover")) == 2
    reader.close()
    assert reader.complaints == []


def test_page_of_one_toy_twin(browser, many, tmp_path):
    tables = {
        name: table.filter(pl.col("method").is_in(["dense", "fade"]))
        for name, table in many.tables.items()
        if "method" in table.columns and "other_method" not in table.columns
    }
    report.write(replace(many, twins=many.twins[:1], tables=tables), tmp_path / "page.html")
    reader = Reader(browser, tmp_path / "page.html")
    assert any(title.startswith("Accuracy at") for title in reader.cards())
    assert "Crossover" not in reader.cards()
    assert reader.drawn("a", "each.name") == ["Fade mean", "dense mean", "Fade"]
    assert not reader.page.locator("#a-ratio-field").is_visible()
    assert not reader.page.locator("#methods-section").is_visible()
    reader.close()
    assert reader.complaints == []


def test_twenty_twins(browser, many, tmp_path):
    """The controls and the cards stay small."""
    (fade,) = [method for method in many.twin_methods() if method.key == "fade"]
    twins = [type(fade.zoo)(tmp_path / f"twin-{i:02}", fade.zoo.config) for i in range(20)]
    for twin in twins:
        twin.__dict__["members_table"] = fade.zoo.members_table
    result = replace(many, twins=twins, tables={}, matrices={})
    dense = many.tables["members"].filter(method="dense")
    rows = many.tables["members"].filter(method="fade")
    keys = [method.key for method in result.twin_methods()]
    parts = [rows.with_columns(pl.lit(key).alias("method")) for key in keys]
    result.tables["members"] = pl.concat([dense, *parts])
    report.write(result, tmp_path / "page.html")
    for width in (400, 1400):
        reader = Reader(browser, tmp_path / "page.html", width)
        assert len(reader.drawn("a")) == 41
        assert reader.drawn("a", "each.showlegend === false ? 1 : 0").count(1) == 20
        assert len(reader.card("Accuracy at")) == 20
        heights = "[...document.querySelectorAll('#cards article')].map((c) => c.offsetHeight)"
        assert max(reader.page.evaluate(heights)) < 450
        assert reader.page.evaluate("document.querySelector('header').offsetHeight") < 700
        plot = "document.querySelector('#a .bglayer').getBoundingClientRect().height"
        assert reader.page.evaluate(plot) > 150
        reader.close()
        assert reader.complaints == []
