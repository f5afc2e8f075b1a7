"""Hyper-representations in an analysis: figures, report section, and files."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from PIL import Image

from tests.support import synthetic_zoos
from zoojax import ZoojaxError, figures, report
from zoojax.analysis import Analysis, analyze, write_tables
from zoojax.figures.representation import (
    representation_losses,
    representation_map,
    representation_reconstruction,
)
from zoojax.figures.representation_scores import representation_scores
from zoojax.hyper_representation import trainer
from zoojax.hyper_representation.settings import Settings
from zoojax.report.data import payload
from zoojax.training import inference
from zoojax.workflows.analyze import representation_tables

LAYERS = synthetic_zoos.REPRESENTED
NAMES = {name for name in figures.FIGURES if name.startswith("representation_")}


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Analysis:
    """An analysis of three members without a hyper-representation."""
    with pytest.MonkeyPatch.context() as patch:
        # Predictions take long to compile.
        patch.setattr(
            inference, "predict", lambda zoo, images, epoch=None: np.zeros((3, 9), np.uint16)
        )
        return analyze(synthetic_zoos.dense(tmp_path_factory.mktemp("report") / "dense", 3), [])


@pytest.fixture(scope="module")
def analysis(plain) -> Analysis:
    return replace(
        plain,
        tables=plain.tables | synthetic_zoos.representation_tables(),
    )


# ---- Figures -------------------------------------------------------------------------------


def test_no_figures_without_hyper_representation(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", {name: figures.FIGURES[name] for name in NAMES})
    assert not any(figures.FIGURES[name](plain) for name in NAMES)
    (tmp_path / "representation_map.png").write_text("from an earlier analysis")
    figures.draw(plain, tmp_path)
    assert not list(tmp_path.glob("representation_*"))


def test_figure_files_are_small(analysis, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", {name: figures.FIGURES[name] for name in NAMES})
    for path in figures.draw(analysis, tmp_path):
        with Image.open(path) as image:
            image.verify()
        assert path.with_suffix(".svg").stat().st_size < 400_000


def test_map_has_one_panel_per_property(analysis):
    figure = representation_map(analysis)
    assert figure is not None
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == [
        *("test accuracy, R² 90.0 %", "sparsity, R² 80.0 %", "epoch, R² 70.0 %", "gap")
    ]
    table = analysis.tables["representation_embeddings"]
    rest, held_out = panels[0].collections[:2]
    assert len(np.asarray(held_out.get_offsets())) == len(table.filter(part="test"))
    rows = table.filter(pl.col("part") != "test")
    np.testing.assert_allclose(np.asarray(rest.get_offsets()), rows.select("x", "y").to_numpy())
    np.testing.assert_allclose(np.asarray(rest.get_array()), 100 * rows["test_acc"].to_numpy())


def test_scores_have_one_panel_per_property_with_intervals(analysis):
    figure = representation_scores(analysis)
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes] == [
        *("test accuracy", "sparsity", "epoch", "gap")
    ]
    everything, within = figure.axes[0].containers
    assert [each.get_label() for each in (everything, within)] == ["all states", "within epochs"]
    for container, r2 in ((everything, 90), (within, 40)):
        assert container[0].get_xdata() == pytest.approx([r2])
        (bar,) = container[2][0].get_segments()
        assert bar[:, 0] == pytest.approx([r2 - 10, r2 + 5])
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["embedding"]


def test_scores_of_many_features_are_cut_off(analysis):
    table = analysis.tables["representation_properties"].head(8)
    many = pl.concat([table.with_columns(features=pl.lit("$x" * 300 + str(i))) for i in range(99)])
    figure = representation_scores(
        replace(analysis, tables=analysis.tables | {"representation_properties": many})
    )
    assert figure is not None and figure.get_figheight() < 12
    figure.draw_without_rendering()


def test_reconstruction_has_one_panel_per_quantity_and_layer(analysis):
    figure = representation_reconstruction(analysis)
    assert figure is not None and len(figure.axes) == 2 * len(LAYERS)
    assert [axes.get_title() for axes in figure.axes[:3]] == [
        *("conv1, R² 60 %", "fc1, R² 50 %", "fc2, R² 40 %")
    ]
    count = np.asarray(figure.axes[0].collections[0].get_array()).sum()
    assert 95 <= count <= 100


def test_losses_of_one_epoch_are_markers(analysis):
    figure = representation_losses(analysis)
    assert figure is not None
    lines = figure.axes[0].get_lines()
    assert [line.get_linestyle() for line in lines] == ["-", "--", "-", "--"]
    assert all(np.array_equal(line.get_ydata(), [1.0, 0.5]) for line in lines)
    first_epoch = analysis.tables["representation_losses"].head(1)
    single = replace(analysis, tables=analysis.tables | {"representation_losses": first_epoch})
    figure = representation_losses(single)
    assert figure is not None and figure.axes[0].get_lines()[0].get_marker() == "o"


# ---- Report and files ----------------------------------------------------------------------


def test_report_has_states_pairs_and_tables(plain, analysis, tmp_path):
    assert payload(plain, {}, {})["representation"] is None
    content = payload(analysis, {}, {})
    section = content["representation"]
    table = analysis.tables["representation_embeddings"]
    assert section["total"] == 300 and section["states"]["member"] == table["member"].to_list()
    assert section["states"]["x"] == pytest.approx(table["x"].to_list(), abs=1e-4)
    assert [(p["quantity"], p["layer"]) for p in section["pairs"]] == [
        (quantity, layer) for quantity in ("weights", "log alphas") for layer in LAYERS
    ]
    assert [pair["r2"] for pair in section["pairs"][:3]] == [0.6, 0.5, 0.4]
    shown = {each["name"]: each for each in content["tables"]}
    columns = {c["name"]: c for c in shown["representation_summary"]["columns"]}
    assert columns["epoch"]["kind"] == columns["weights"]["kind"] == "share"
    assert columns["epoch"]["values"] == [None]
    (properties,) = (
        c for c in shown["representation_properties"]["columns"] if c["name"] == "property"
    )
    assert properties["values"][0] == "test accuracy"
    report.write(analysis, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 1000


def test_states_are_subsampled_deterministically(analysis):
    many = replace(analysis, tables=analysis.tables | synthetic_zoos.representation_tables(9000))
    first, second = (payload(many, {}, {})["representation"] for _ in range(2))
    assert first == second and first["total"] == 9000 and len(first["states"]["x"]) == 4000
    assert len(set(first["states"]["member"])) == 20


def test_tables_of_an_earlier_analysis_are_removed(plain, analysis, tmp_path):
    write_tables(analysis, tmp_path)
    assert pl.read_parquet(tmp_path / "representation_scatter.parquet").equals(
        analysis.tables["representation_scatter"]
    )
    write_tables(plain, tmp_path)
    assert not list(tmp_path.glob("representation_*"))


def test_representation_of_other_zoo_or_without_evaluation_is_refused(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "_train", lambda representation, *_: representation)
    zoo = synthetic_zoos.dense(tmp_path / "dense", 8)
    trainer.train_autoencoder(tmp_path / "rep", zoo, Settings(), weights_only=True)
    with pytest.raises(ZoojaxError, match="rep was trained on none of"):
        representation_tables(tmp_path / "rep", plain.zoo)
    with pytest.raises(ZoojaxError, match="run 'zoojax represent evaluate"):
        representation_tables(tmp_path / "rep", plain.zoo, zoo)
