"""The Python of each page runs as it is printed, block after block."""

import contextlib
import io
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoojax
from tests.docs.pages import PAGES, blocks
from tests.support import zoo_fixtures
from zoojax.architectures import registry as architecture_registry
from zoojax.sparsifiers import registry as sparsifier_registry
from zoojax.storage import zoo_images

# test_publishing_page.py runs this page in a process of its own, with stand-ins for services.
ELSEWHERE = {"publishing"}
# Pages with trainings that take a minute or more.
SLOW = {"architectures", "hyper_representations", "README", "start"}
# Pages whose programs, which begin with imports, are tested elsewhere on zoos of their own.
WITH_PROGRAMS = {"weight_datasets"}
EPOCHS = 25

WITH_PYTHON = [
    pytest.param(page, id=page.stem, marks=[pytest.mark.slow] if page.stem in SLOW else [])
    for page in PAGES
    if blocks(page, "python") and page.stem not in ELSEWHERE
]


@pytest.fixture
def folder(tmp_path_factory, tmp_path, monkeypatch):
    """A working folder with the zoos that pages open: zoos/usps, zoos/usps-vd and zoos/usps-mp."""
    grid = replace(zoo_fixtures.GRID, seeds=8)
    parent = zoo_fixtures.train(tmp_path_factory, tmp_path / "zoos/usps", grid, epochs=EPOCHS)
    zoo_fixtures.train_variational(tmp_path / "zoos/usps-vd", parent, epochs=EPOCHS)
    zoo_fixtures.prune(tmp_path / "zoos/usps-mp", parent, (0.5, 0.9), epochs=1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_python_of_a_page(folder, page, monkeypatch):
    zoo = zoojax.open_zoo("zoos/usps")
    test = zoo_images.load_images(zoo, None).test
    modules = {"zoojax": zoojax, "jax": jax, "jnp": jnp, "np": np}
    names = {**modules, "zoo": zoo, "other": zoo, "images": test.images, "labels": test.labels}
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    for registry in (architecture_registry, sparsifier_registry):
        monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    with contextlib.redirect_stderr(io.StringIO()):
        for block in blocks(page, "python"):
            if page.stem in WITH_PROGRAMS and block.startswith("import"):
                continue
            exec(compile(block, page.name, "exec"), names)
