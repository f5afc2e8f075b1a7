"""A hyper-representation in an analysis: its figures, its section of the page, its files."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from PIL import Image

from tests.support import synthetic_zoos
from zoojax import ZoojaxError, figures, report
from zoojax.analysis import Analysis, analyze, write_tables
from zoojax.cli.analyze import representation_tables
from zoojax.figures.representation import (
    representation_losses,
    representation_map,
    representation_reconstruction,
)
from zoojax.hyper_representation import trainer
from zoojax.hyper_representation.settings import Settings
from zoojax.report.data import payload
from zoojax.training import inference

LAYERS = synthetic_zoos.REPRESENTED
NAMES = {name for name in figures.FIGURES if name.startswith("representation_")}


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Analysis:
    """Of three members, without a hyper-representation."""
    with pytest.MonkeyPatch.context() as patch:
        # Real predictions take long to compile.
        patch.setattr(
            inference, "predict", lambda zoo, images, epoch=None: np.zeros((3, 9), np.uint16)
        )
        return analyze(synthetic_zoos.dense(tmp_path_factory.mktemp("report") / "dense", 3), [])


@pytest.fixture(scope="module")
def found(bare) -> Analysis:
    return replace(bare, tables=bare.tables | synthetic_zoos.representation_tables())


# ---- Figures -------------------------------------------------------------------------------


def test_without_a_hyper_representation_there_are_no_figures(bare, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", {name: figures.FIGURES[name] for name in NAMES})
    assert not any(figures.FIGURES[name](bare) for name in NAMES)
    (tmp_path / "representation_map.png").write_text("of an earlier analysis")
    figures.draw(bare, tmp_path)
    assert not list(tmp_path.glob("representation_*"))


def test_figures_are_written_small(found, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", {name: figures.FIGURES[name] for name in NAMES})
    for path in figures.draw(found, tmp_path):
        with Image.open(path) as image:
            image.verify()
        assert path.with_suffix(".svg").stat().st_size < 400_000


def test_the_map_has_a_panel_a_property_with_its_r2(found):
    figure = representation_map(found)
    assert figure is not None
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == [
        *("test accuracy, R² 90.0 %", "sparsity, R² 80.0 %", "epoch, R² 70.0 %", "gap")
    ]
    table = found.tables["representation_embeddings"]
    free, held = panels[0].collections[:2]
    assert len(np.asarray(held.get_offsets())) == len(table.filter(part="test"))
    rows = table.filter(pl.col("part") != "test")
    np.testing.assert_allclose(np.asarray(free.get_offsets()), rows.select("x", "y").to_numpy())
    np.testing.assert_allclose(np.asarray(free.get_array()), 100 * rows["test_acc"].to_numpy())


def test_reconstruction_has_a_panel_a_quantity_and_layer(found):
    figure = representation_reconstruction(found)
    assert figure is not None and len(figure.axes) == 2 * len(LAYERS)
    assert [axes.get_title() for axes in figure.axes[:3]] == [
        *("conv1, R² 60 %", "fc1, R² 50 %", "fc2, R² 40 %")
    ]
    counted = np.asarray(figure.axes[0].collections[0].get_array()).sum()
    assert 95 <= counted <= 100


def test_losses_of_one_epoch_are_dots(found):
    figure = representation_losses(found)
    assert figure is not None
    lines = figure.axes[0].get_lines()
    assert [line.get_linestyle() for line in lines] == ["-", "--", "-", "--"]
    assert all(np.array_equal(line.get_ydata(), [1.0, 0.5]) for line in lines)
    short = found.tables["representation_losses"].head(1)
    one = replace(found, tables=found.tables | {"representation_losses": short})
    figure = representation_losses(one)
    assert figure is not None and figure.axes[0].get_lines()[0].get_marker() == "o"


# ---- The page, and files -------------------------------------------------------------------


def test_the_page_has_states_pairs_and_tables(bare, found, tmp_path):
    assert payload(bare, {})["representation"] is None
    content = payload(found, {})
    learned = content["representation"]
    table = found.tables["representation_embeddings"]
    assert learned["total"] == 300 and learned["states"]["member"] == table["member"].to_list()
    assert learned["states"]["x"] == pytest.approx(table["x"].to_list(), abs=1e-4)
    assert [(p["quantity"], p["layer"]) for p in learned["pairs"]] == [
        (quantity, layer) for quantity in ("weights", "log alphas") for layer in LAYERS
    ]
    assert [pair["r2"] for pair in learned["pairs"][:3]] == [0.6, 0.5, 0.4]
    shown = {each["name"]: each for each in content["tables"]}
    columns = {c["name"]: c for c in shown["representation_summary"]["columns"]}
    assert columns["epoch"]["kind"] == columns["weights"]["kind"] == "share"
    assert columns["epoch"]["values"] == [None]
    (of,) = (c for c in shown["representation_properties"]["columns"] if c["name"] == "property")
    assert of["values"][0] == "test accuracy"
    report.write(found, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 1000


def test_of_many_states_the_same_few_are_shown(found):
    many = replace(found, tables=found.tables | synthetic_zoos.representation_tables(9000))
    one, other = (payload(many, {})["representation"] for _ in range(2))
    assert one == other and one["total"] == 9000 and len(one["states"]["x"]) == 4000
    assert len(set(one["states"]["member"])) == 20


def test_tables_are_written_and_those_of_an_earlier_analysis_go(bare, found, tmp_path):
    write_tables(found, tmp_path)
    assert pl.read_parquet(tmp_path / "representation_scatter.parquet").equals(
        found.tables["representation_scatter"]
    )
    write_tables(bare, tmp_path)
    assert not list(tmp_path.glob("representation_*"))


def test_a_representation_of_another_zoo_or_not_evaluated_is_refused(bare, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "_train", lambda made, *_: made)
    zoo = synthetic_zoos.dense(tmp_path / "dense", 8)
    trainer.train_representation(tmp_path / "rep", zoo, Settings(), weights_only=True)
    with pytest.raises(ZoojaxError, match="rep was trained on none of"):
        representation_tables(tmp_path / "rep", bare.zoo)
    with pytest.raises(ZoojaxError, match="run 'zoojax represent evaluate"):
        representation_tables(tmp_path / "rep", bare.zoo, zoo)
