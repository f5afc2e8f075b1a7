"""Analyses of synthetic zoos, their report pages, and a browser."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import jax
import numpy as np
import polars as pl
import pytest

from tests.support import synthetic_zoos
from tests.support.report_page import NASTY, Reader
from zoojax import presets, report
from zoojax.analysis import Analysis, analyze, write_tables
from zoojax.architectures.base import variable_shapes
from zoojax.hyperparameters.grid import Grid
from zoojax.training import inference, sampling

_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
)
# With all that a page may not take over.
HOSTILE_SVG = """<?xml version="1.0" encoding="utf-8"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
 width="360pt" height="72pt" viewBox="0 0 360 72" onload="alert(1)">
<style>* { display: none }</style><script>alert(1)</script>
<defs><clipPath id="clip"><rect id="box" width="360" height="72"/></clipPath></defs>
<g clip-path="url(#clip)" style="fill: currentColor">
<path id="line" d="M 0.123456 1.5 L 10 20" style="stroke: currentColor" onclick="alert(1)"/>
<use xlink:href="#line" x="3"/><use href="https://example.org/a.svg#b"/>
<a href="javascript:alert(1)"><text>linked</text></a>
<text style="fill: url(https://example.org)">1 &lt; <tspan>2</tspan> and more</text>
<image href="https://example.org/a.png"/><image href="data:image/png;base64,iVBORw0KGgo="/>
<foreignObject><b>markup</b></foreignObject></g></svg>"""


@contextmanager
def random_weights_and_predictions() -> Iterator[None]:
    """Replaces initialization and inference, which take minutes to compile."""

    def params(config, seeds):
        rng, shape = np.random.default_rng(0), config.shape
        tree = variable_shapes(shape)["params"]
        return jax.tree.map(lambda w: rng.standard_normal((len(seeds), *w.shape), w.dtype), tree)

    def predict(zoo, images, epoch=None):
        rng = np.random.default_rng(0 if epoch is None else epoch)
        return rng.integers(0, 2, (len(zoo), 100)).astype(np.uint16)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(synthetic_zoos, "_params", params)
        monkeypatch.setattr(inference, "predict", predict)
        monkeypatch.setattr(sampling, "sampled_predictions", predict)
        yield


@pytest.fixture(scope="session")
def result(tmp_path_factory) -> Analysis:
    """A zoo of 24 members, twelve per activation, with both twins and one diverged member."""
    folder = tmp_path_factory.mktemp("report")
    grid = Grid(activations=("tanh", "relu"))
    with (
        random_weights_and_predictions(),
        patch.object(presets, "difference", lambda zoo: None),
        patch.object(presets, "twin_difference", lambda zoo, twin: None),
    ):
        zoo = synthetic_zoos.dense(folder / "dense", 12, grid, preset="usps-s-seed")
        mp = synthetic_zoos.pruned(folder / "mp", zoo, (0.5, 0.8, 0.9))
        result = analyze(zoo, [mp, synthetic_zoos.variational_dropout(folder / "vd", zoo)])
    result.notes.append(f"A note of {NASTY}")
    members = result.tables["members"]
    diverged = (pl.col("method") == "vd") & (pl.col("member") == 3) & (pl.col("epoch") > 22)
    result.tables["members"] = members.with_columns(
        pl.when(diverged).then(np.nan).otherwise(pl.col("test_acc")).alias("test_acc"),
        (pl.col("finite") & ~diverged).alias("finite"),
    )
    return result


@pytest.fixture(scope="session")
def seed_zoo(tmp_path_factory) -> Analysis:
    """Three members that differ only in their seeds, without twins."""
    with random_weights_and_predictions():
        folder = tmp_path_factory.mktemp("report")
        return analyze(synthetic_zoos.dense(folder / "dense", 3), [])


@pytest.fixture(scope="session")
def file(result, tmp_path_factory) -> Path:
    """The page of `result`, with two figures and links to files."""
    folder = tmp_path_factory.mktemp("report")
    write_tables(result, folder / "tables")
    (folder / "figures").mkdir()
    figures = {"trajectories": folder / "figures" / "trajectories.svg"}
    figures["by <b>"] = folder / "figures" / "by <b>.svg"
    for figure in figures.values():
        figure.write_text(HOSTILE_SVG)
    figures["trajectories"].with_suffix(".png").touch()
    report.write(result, folder / "report.html", figures, folder / "tables")
    return folder / "report.html"


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("needs chromium on the path")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=executable, args=_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def opened(browser, file) -> Iterator[Reader]:
    """The page of `result`, opened once, since that takes seconds."""
    reader = Reader(browser, file)
    yield reader
    reader.close()


@pytest.fixture
def reader(opened) -> Iterator[Reader]:
    """The page of `result` with all inputs reset."""
    opened.reset()
    yield opened
    assert opened.complaints == []
