"""Figures of four twins: two of them by one sparsifier, one by a toy sparsifier."""

from collections.abc import Iterator
from unittest.mock import patch

import numpy as np
import pytest
from matplotlib.collections import PathCollection

from tests.figures.conftest import random_weights
from tests.support import synthetic_zoos
from tests.support.figure_readers import drawn
from tests.support.many_twins import many_twins, registered
from zoojax import figures
from zoojax.analysis import Analysis, analyze

LABELS = {
    "fade": "fading",
    "mp": "magnitude pruning (global pruning)",
    "mp-2": "magnitude pruning (layer pruning)",
    "vd": "variational dropout",
}
SHORT = {"fade": "Fade", "mp": "MP", "mp-2": "MP-2", "vd": "VD"}


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Iterator[Analysis]:
    with registered():
        with patch.object(synthetic_zoos, "_params", random_weights):
            zoo, twins = many_twins(tmp_path_factory.mktemp("many"), 6)
        yield analyze(zoo, twins)


def test_figures_of_every_twin(many, tmp_path):
    (tmp_path / "pruning_frequency_older.png").write_text("from an earlier analysis")
    (tmp_path / "notes_on_methods.png").write_text("the user's")
    names = [path.stem for path in figures.draw(many, tmp_path)]
    assert names[1:5] == [
        *("pruning_frequency", "pruning_frequency_mp", "pruning_frequency_mp-2"),
        "pruning_frequency_vd",
    ]
    assert {path.stem for path in tmp_path.iterdir()} == {*names, "captions", "notes_on_methods"}
    captions = figures.captions(many)
    assert "twins by magnitude pruning (layer pruning)" in captions["pruning_frequency_mp-2"]
    assert "twins by fading" in captions["pruning_frequency"]
    assert [axes.get_title() for axes in drawn("layer_size", many).axes] == list(LABELS.values())


def test_panels_and_lines_of_every_twin(many):
    assert len(drawn("trajectories", many).axes) == 1 + 4 + 2
    titles = [axes.get_title() for axes in drawn("trajectories", many).axes]
    assert "fine-tuning after magnitude pruning\n(layer pruning)" in titles
    assert titles.count("fading") == 2
    titles = [axes.get_title() for axes in drawn("correlation", many).axes]
    assert [title.split(", ")[0] for title in titles] == [
        *("Fade", "MP", "MP", "MP-2", "MP-2", "VD")
    ]
    assert all(title.endswith("too few members") for title in titles)
    axes = drawn("accuracy_over_sparsity", many).axes[0]
    ends = {"ratio": "by ratio, epoch 15", "epoch": "by epoch"}
    labels = {f"{LABELS[method.key]}, {ends[method.sweep]}" for method in many.twin_methods()}
    _, shown = axes.get_legend_handles_labels()
    assert labels <= set(shown)
    dots = [c for c in axes.collections if isinstance(c, PathCollection)]
    assert len({tuple(np.asarray(c.get_facecolor())[0]) for c in dots}) == len(LABELS)
    titles = [axes.get_title() for axes in drawn("agreement_matrix", many).axes if axes.images]
    assert [title.split(",")[0] for title in titles] == [
        "dense × dense",
        *(f"dense × {short}" for short in ("Fade", "MP", "MP-2", "VD")),
        *(f"{short} × {short}" for short in ("Fade", "MP", "MP-2", "VD")),
    ]


def test_one_panel_per_pair_of_methods(many):
    panels = drawn("methods", many).axes
    shown = [{text.get_text() for text in axes.texts} for axes in panels]
    assert len(shown) == 4
    for one, other in ((one, other) for one in ("mp", "mp-2") for other in ("fade", "vd")):
        names = {f"{SHORT[key]} more accurate" for key in (one, other)}
        assert any(names <= texts for texts in shown)
    for name in ("methods", "agreement_matrix", "correlation", "predictability"):
        for key, label in LABELS.items():
            assert f"{SHORT[key]}: {label}" in figures.captions(many)[name]


def test_no_text_is_cut_off(many):
    for name in ("trajectories", "methods", "layer_size", "correlation", "agreement_matrix"):
        figure = drawn(name, many)
        figure.draw_without_rendering()
        width, height = figure.bbox.width, figure.bbox.height
        for axes in figure.axes:
            legend = axes.get_legend()
            for text in (
                *(axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts),
                *(legend.get_texts() if legend else ()),
            ):
                if not text.get_text():
                    continue
                box = text.get_window_extent()
                assert box.x0 > -2 and box.x1 < width + 2, (name, text.get_text())
                assert box.y0 > -2 and box.y1 < height + 2, (name, text.get_text())
