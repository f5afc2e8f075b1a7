"""The geometry of a zoo in an analysis: tables, figures, captions, report and files."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.support import zoo_fixtures
from zoojax import ZoojaxError, analyze, figures
from zoojax.analysis import geometry_tables
from zoojax.analysis.captions import table_captions
from zoojax.report.data import payload

NAMES = {name for name in figures.FIGURES if name.startswith("geometry_")}
TABLES = {"similarity", "pairs", "layers", "curvature", "eigenvalues", "barriers", "masks"}


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    """Three members and a twin; few images, since the zoo is small anyway."""
    zoo, twin = zoo_fixtures.dense(tmp_path_factory), zoo_fixtures.pruned(tmp_path_factory)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "IMAGES": 16,
            "CURVED_IMAGES": 16,
            "SAMPLES": 2,
            "STEPS": 3,
            "EIGENVALUES": 2,
        }.items():
            patch.setattr(geometry_tables, name, value)
        done = analyze(
            zoo, twin, out=tmp_path_factory.mktemp("geometry") / "out", geometry=True, quiet=True
        )
    transfer = pl.DataFrame(
        [
            {"target": target, "ratio": 0.5, "epoch": epoch, "mask": mask, "test_acc": accuracy}
            for target in range(3)
            for epoch in (0, 2)
            for mask, accuracy in (("own", 0.8 + target / 10), ("random", 0.5))
        ]
    )
    tables = {"geometry_transfer": geometry_tables.transfer_summary(transfer)}
    return replace(done, tables=done.tables | tables)


def test_tables_are_complete_and_have_captions(analysis):
    found = {name.removeprefix("geometry_") for name in analysis.tables if "geometry_" in name}
    assert found == TABLES | {"transfer"}
    assert not [note for note in analysis.notes if "Geometry" in note]
    assert {f"geometry_{name}" for name in TABLES} < table_captions(analysis).keys()
    files = {path.name for path in (analysis.path / "tables").iterdir()}
    assert {f"geometry_{name}.csv" for name in TABLES} < files


def test_curvature_is_by_population(analysis):
    table = analysis.tables["geometry_curvature"]
    assert table.select("method", "ratio", "members").rows() == [
        ("dense", None, 3),
        *(("mp", ratio, 3) for ratio in (0.0, 0.5, 0.9)),
    ]
    assert (table["trace_low"] <= table["trace"]).all()
    ranks = analysis.tables["geometry_eigenvalues"]
    assert len(ranks) == 2 * len(table)
    first, second = (ranks.filter(rank=rank)["eigenvalue"] for rank in (1, 2))
    assert (first >= second).all()


def test_transfer_is_compared_with_own_and_random_masks(analysis):
    table = analysis.tables["geometry_transfer"]
    own, random = (
        table.filter(mask=mask, epoch=2).row(0, named=True) for mask in ("own", "random")
    )
    assert (own["members"], own["to_own"], random["to_random"]) == (3, 0, 0)
    assert own["test_acc"] == pytest.approx(0.9)
    assert own["to_random"] == pytest.approx(0.4) and random["to_own"] == pytest.approx(-0.4)
    # Student's interval of three values: 4.303 standard errors.
    assert own["to_random_high"] - 0.4 == pytest.approx(4.303 * 0.1 / 3**0.5, rel=1e-3)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_figures_are_drawn_and_have_captions(analysis, tmp_path, name):
    drawing = figures.FIGURES[name]
    figure = drawing(analysis)
    assert figure is not None
    figures.save(figure, tmp_path, name, drawing.caption(analysis))
    assert (tmp_path / f"{name}.svg").stat().st_size > 1000


def test_no_figures_without_geometry(analysis):
    without = replace(
        analysis, tables={n: t for n, t in analysis.tables.items() if "geometry_" not in n}
    )
    assert not any(figures.FIGURES[name](without) for name in NAMES)


def test_errorbars_are_the_intervals(analysis):
    figure = figures.FIGURES["geometry_masks"](analysis)
    assert figure is not None
    (axes,) = figure.axes
    table = analysis.tables["geometry_masks"]
    drawn: dict[str, Any] = {str(each.get_label()): each for each in axes.containers}
    (line, _, (bars,)) = drawn["unaligned"].lines
    np.testing.assert_allclose(line.get_xdata(), 100 * table["ratio"].to_numpy())
    np.testing.assert_allclose(line.get_ydata(), table["iou"])
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(ends, table.select("iou_low", "iou_high").to_numpy())


def test_page_shows_the_tables(analysis):
    shown = {table["name"]: table for table in payload(analysis, {}, {})["tables"]}
    # One row per pair of members is too long for the page.
    assert {n for n in analysis.tables if "geometry_" in n} - shown.keys() == {"geometry_pairs"}
    columns = {each["name"]: each for each in shown["geometry_barriers"]["columns"]}
    assert columns["aligned"]["values"][:3] == ["no", "yes", "no"]
    assert columns["loss_barrier"]["low"] and columns["acc_barrier"]["kind"] == "points"


def test_what_cannot_be_computed_is_noted(analysis, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise ZoojaxError("the images are missing")

    monkeypatch.setattr(geometry_tables, "load_images", fail)
    monkeypatch.setattr(geometry_tables.geometry, "basins", fail)
    changed = replace(analysis, tables={}, notes=[])
    geometry_tables.add_geometry(changed, None, lambda step: None)
    assert changed.tables.keys() == {f"geometry_{n}" for n in ("similarity", "pairs", "masks")}
    assert [note.partition(":")[0] for note in changed.notes] == [
        f"Geometry, {what}" for what in ("similarity of layers", "curvature", "barriers")
    ]


def test_summary_leaves_out_what_is_missing():
    table = pl.DataFrame({"key": ["a"] * 4 + ["b"], "x": [1.0, 2.0, 3.0, None, float("nan")]})
    found = geometry_tables.summarize(table, ["key"], ["x"])
    assert found["members"].to_list() == [4, 1]
    assert found["x"].to_list() == [2.0, None]
    assert found["x_low"][1] is None
