"""Zoos in memory equal zoos in folders, and can be saved."""

from typing import Any

import numpy as np
import polars as pl
import pytest

import zoojax
from tests.support import zoo_fixtures
from tests.support.zoo_fixtures import CHUNK, EPOCHS, assert_same_zoo, same_bits
from zoojax import MagnitudePruning, Zoo, ZoojaxError, analysis


@zoo_fixtures.once
def dense_in_memory(factory: pytest.TempPathFactory) -> Zoo:
    """Equal to `zoo_fixtures.dense`."""
    options: dict[str, Any] = {"epochs": EPOCHS, "chunk": CHUNK, "quiet": True}
    data, grid = zoo_fixtures.spec(factory), zoo_fixtures.GRID
    return zoojax.train_zoo(name="tiny", data=data, grid=grid, **options)


@zoo_fixtures.once
def pruned_in_memory(factory: pytest.TempPathFactory) -> Zoo:
    """Equal to `zoo_fixtures.pruned`."""
    pruning = MagnitudePruning((0.0, 0.5, 0.9))
    zoo = dense_in_memory(factory)
    return zoojax.sparsify(zoo, pruning, epochs=EPOCHS, chunk=CHUNK, quiet=True)


def test_zoo_and_twin_in_memory_equal_those_in_folders(tmp_path_factory):
    pairs = (
        (dense_in_memory(tmp_path_factory), zoo_fixtures.dense(tmp_path_factory)),
        (pruned_in_memory(tmp_path_factory), zoo_fixtures.pruned(tmp_path_factory)),
    )
    for in_memory, in_folder in pairs:
        assert_same_zoo(in_memory, in_folder)
        assert in_memory.store.in_memory and not in_memory.path.exists()


def test_saved_zoo_equals_the_one_in_memory(tmp_path_factory, tmp_path):
    for name, zoo in (
        ("dense", dense_in_memory(tmp_path_factory)),
        ("mp", pruned_in_memory(tmp_path_factory)),
    ):
        copy = zoo.save(tmp_path / name)
        assert_same_zoo(zoojax.open_zoo(tmp_path / name), zoo)
        assert copy.path == tmp_path / name
        before = zoo_fixtures.contents(tmp_path / name)
        zoo.save(tmp_path / name)
        assert zoo_fixtures.contents(tmp_path / name) == before
    with pytest.raises(ZoojaxError, match="created with"):
        dense_in_memory(tmp_path_factory).save(tmp_path / "mp")


def test_interrupted_save_resumes(tmp_path_factory, tmp_path, monkeypatch):
    zoo, real = dense_in_memory(tmp_path_factory), Zoo.state

    def fail_at_last(self, epoch=None, **options):
        if epoch == EPOCHS and self is zoo:
            raise KeyboardInterrupt
        return real(self, epoch, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Zoo, "state", fail_at_last)
        with pytest.raises(KeyboardInterrupt):
            zoo.save(tmp_path / "zoo")
    assert zoojax.open_zoo(tmp_path / "zoo").epochs == [0, 1]
    assert_same_zoo(zoo.save(tmp_path / "zoo"), zoo)


def test_arrays_of_a_zoo_in_memory_cannot_be_changed_by_mistake(tmp_path_factory):
    zoo = dense_in_memory(tmp_path_factory)
    before = zoo.params(1)
    zoo.params(1)["fc2"]["bias"][:] = 7
    assert same_bits(zoo.params(1), before)


def test_analysis_of_zoos_in_memory(tmp_path_factory):
    zoo, twin = dense_in_memory(tmp_path_factory), pruned_in_memory(tmp_path_factory)
    stored, stored_twin = (
        zoo_fixtures.dense(tmp_path_factory),
        zoo_fixtures.pruned(tmp_path_factory),
    )
    table = analysis.agreement(zoo, twin, epoch=EPOCHS)
    assert table.equals(analysis.agreement(stored, stored_twin, epoch=EPOCHS))


def test_zoos_in_memory_have_different_names(tmp_path_factory):
    zoo, twin = dense_in_memory(tmp_path_factory), pruned_in_memory(tmp_path_factory)
    assert zoo.path != twin.path
    assert "tiny (in memory" in repr(zoo)
    with pytest.raises(ZoojaxError, match=r"tiny \(in memory, \d+\) has no epoch 9"):
        zoo.params(9)
    assert twin.config.parent is not None and twin.config.parent.path == "unknown"


def test_optimizer_state_of_two_epochs_is_kept(tmp_path_factory):
    zoo = dense_in_memory(tmp_path_factory)
    assert same_bits(
        zoo.optimizer_state(1), zoo_fixtures.dense(tmp_path_factory).optimizer_state(1)
    )
    with pytest.raises(ZoojaxError, match="no optimizer of epoch 0"):
        zoo.optimizer_state(0)


def test_metrics_are_read_once(tmp_path_factory, monkeypatch):
    zoo = zoojax.open_zoo(zoo_fixtures.dense(tmp_path_factory).path)
    reads, real = [], zoo.store.metrics
    monkeypatch.setattr(zoo.store, "metrics", lambda: reads.append(0) or real())
    for _ in range(3):
        assert len(zoo.metrics) == 9
        assert zoo.members["diverged_epoch"].is_null().all()
    assert len(reads) == 1


def test_notebook_representation_shows_metrics_and_escapes_names(tmp_path_factory):
    zoo = dense_in_memory(tmp_path_factory)
    page = zoo._repr_html_()
    mean = zoo.metrics.filter(pl.col("epoch") == EPOCHS)["test_acc"].mean()
    assert isinstance(mean, float)
    assert f"{mean:.3f}" in page and "epochs 0 to 2" in page
    hostile = Zoo(zoo.store, zoo.config.__class__(**{**vars(zoo.config), "architecture": "small"}))
    hostile.store.path = type(zoo.path)("<script>alert(1)</script>")
    try:
        assert "<script>" not in hostile._repr_html_()
    finally:
        hostile.store.path = zoo.path


def test_module_computes_the_logits_of_its_member(tmp_path_factory):
    images = np.random.default_rng(0).standard_normal((3, 28, 28, 1), np.float32)
    for zoo in (dense_in_memory(tmp_path_factory), pruned_in_memory(tmp_path_factory)):
        module, variables = zoo.module(2, epoch=1)
        expected = zoo.apply(images, epoch=1, members=[2])[0]
        logits = np.asarray(module.apply(variables, images))
        np.testing.assert_allclose(logits, expected, atol=1e-6)
