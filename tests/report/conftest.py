"""Analyses of synthetic zoos, their report pages, and a browser."""

import base64
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
from zoojax.analysis import Analysis, analyze
from zoojax.architectures.base import variable_shapes
from zoojax.hyperparameters.grid import Grid
from zoojax.training import inference

_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
)
_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)


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
        yield


@pytest.fixture(scope="session")
def result(tmp_path_factory) -> Analysis:
    """A zoo of 12 members, six per activation, with both twins and one diverged member."""
    folder = tmp_path_factory.mktemp("report")
    grid = Grid(activations=("tanh", "relu"))
    with (
        random_weights_and_predictions(),
        patch.object(presets, "difference", lambda zoo: None),
        patch.object(presets, "twin_difference", lambda zoo, twin: None),
    ):
        zoo = synthetic_zoos.dense(folder / "dense", 6, grid, preset="usps-s-seed")
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
    """The page of `result`, with two figures."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "figure.png").write_bytes(_PIXEL)
    figures = {"trajectories": folder / "figure.png", "by <b>": folder / "figure.png"}
    report.write(result, folder / "report.html", figures)
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
