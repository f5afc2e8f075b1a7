"""Figure files, style, and figures of zoos that lack a twin."""

import xml.etree.ElementTree as ET
from dataclasses import replace

import polars as pl
from PIL import Image

from tests.support.figure_readers import drawn, texts
from zoojax import figures
from zoojax.analysis import Analysis

# Figures of hyper-representations and of the geometry are tested in tests/report.
_OTHERS = ("representation_", "geometry_")
# Figures that compare methods.
_SEVERAL = {"methods", "method_accuracy", "method_ranking", "mask_overlap", "method_layers"}
NAMES = [name for name in figures.FIGURES if not name.startswith(_OTHERS)]
NAMES.insert(NAMES.index("pruning_frequency") + 1, "pruning_frequency_mp")


def only(analysis: Analysis, *kinds: str) -> Analysis:
    """The analysis with only some twins."""
    tables = {
        name: table.filter(pl.col("method").is_in(["dense", *kinds]))
        for name, table in analysis.tables.items()
        if "method" in table.columns
    }
    matrices = {
        name: matrix
        for name, matrix in analysis.matrices.items()
        if name == "dense" or any(f"{kind} " in name for kind in kinds)
    }
    twins = [each.zoo for each in analysis.twin_methods() if each.key in kinds]
    tables = {name: table for name, table in tables.items() if len(table)}
    return replace(analysis, twins=twins, tables=tables, matrices=matrices)


def test_all_figures_are_written_as_svg_and_png(written):
    assert [path.stem for path in written] == NAMES
    for path in written:
        with Image.open(path) as image:
            image.verify()
        assert ET.parse(path.with_suffix(".svg")).getroot().tag.endswith("svg")
        assert path.with_suffix(".svg").stat().st_size < 200_000
    names = {path.name for path in written[0].parent.iterdir()}
    files = {f"{name}.{kind}" for name in NAMES for kind in ("svg", "png")}
    assert names == {*files, "captions.md"}


def test_figures_are_reproducible(full, written, tmp_path, monkeypatch):
    names = ("pruning_frequency", "methods")
    monkeypatch.setattr(figures, "FIGURES", {name: figures.FIGURES[name] for name in names})
    again = figures.draw(full, tmp_path)
    assert [path.stem for path in again] == ["pruning_frequency", "pruning_frequency_mp", "methods"]
    for path in again:
        for file in (path, path.with_suffix(".svg")):
            assert file.read_bytes() == (written[0].parent / file.name).read_bytes()


def test_matplotlib_settings_of_the_user(full):
    import matplotlib as mpl

    with mpl.rc_context({"axes.labelsize": 30, "axes.grid": False}):
        figure = drawn("methods", full)
        assert mpl.rcParams["axes.labelsize"] == 30
    assert figure.axes[0].xaxis.label.get_fontsize() == 9


def test_missing_twins(full):
    dense, mp, vd = only(full), only(full, "mp"), only(full, "vd")

    def names(analysis: Analysis) -> set[str]:
        drawings = figures.drawings(analysis)
        return {name for name, make in drawings.items() if make() is not None}

    alone = {"trajectories", "agreement_matrix"}
    assert names(dense) == alone
    assert names(mp) == names(vd) == set(NAMES) - _SEVERAL - {"pruning_frequency_mp"}
    assert "50 % pruned" in texts(drawn("layer_size", full))
    assert "50 %" in texts(drawn("pruning_frequency", mp))
    assert "epoch 5" in texts(drawn("pruning_frequency", vd))
    assert "epoch 5" in texts(drawn("pruning_frequency", full))
    assert "90 % pruned" in texts(drawn("layer_size", mp))
    assert "epoch 10" in texts(drawn("layer_size", full))
    assert [len(drawn("trajectories", analysis).axes) for analysis in (dense, mp, vd, full)] == [
        *(1, 2, 3, 4)
    ]
    assert figures.FIGURES["agreement_matrix"](replace(full, matrices={})) is None
