"""Soups and averages agree with NumPy; a greedy soup is never below its best member."""

import jax
import numpy as np
import pytest

from tests.support import zoo_fixtures
from zoojax import open_zoo
from zoojax.errors import ZoojaxError
from zoojax.geometry import average_epochs, soup


@pytest.fixture
def dense(tmp_path_factory):
    return zoo_fixtures.dense(tmp_path_factory)


def assert_close(a, b) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)


def test_uniform_soup_is_the_mean(dense, tmp_path):
    made = soup(dense, tmp_path / "soup", members=[2, 0], epoch=1)
    assert made.members == (2, 0)
    zoo = open_zoo(tmp_path / "soup")
    assert (len(zoo), zoo.epochs, zoo.config.is_dense) == (1, [0], True)
    assert "uniform soup at epoch 1 of members 2, 0" in str(zoo.config.origin)
    mean = jax.tree.map(lambda x: x.mean(0, keepdims=True), dense.params(1, [2, 0]))
    assert_close(zoo.params(), mean)
    np.testing.assert_allclose(zoo.evaluate()["test_acc"], zoo.metrics["test_acc"])


def test_soup_of_twins_is_dense(tmp_path_factory):
    twin = zoo_fixtures.pruned(tmp_path_factory)
    zoo = soup(twin, members=[1, 4]).zoo
    assert zoo.config.is_dense and zoo.config.parent is None
    assert "parent_id" not in zoo.members_table.columns
    mean = jax.tree.map(lambda x: x.mean(0, keepdims=True), twin.sparse_params(None, [1, 4]))
    assert_close(zoo.params(), mean)


def test_greedy_soup_by_hand(dense):
    """The same members as a loop that evaluates each soup as a zoo."""
    for epoch in dense.epochs:
        metrics = dense.metrics.filter(epoch=epoch).sort(
            "val_acc", descending=True, maintain_order=True
        )
        chosen, best = [metrics["member"][0]], metrics["val_acc"][0]
        for member in metrics["member"][1:]:
            accuracy = soup(dense, members=[*chosen, member], epoch=epoch).zoo.metrics["val_acc"][0]
            if accuracy >= best:
                chosen, best = [*chosen, member], accuracy
        made = soup(dense, kind="greedy", epoch=epoch)
        assert made.members == tuple(chosen)
        accuracy = made.zoo.metrics["val_acc"][0]
        assert accuracy == best >= metrics["val_acc"].max()


def test_averages_over_epochs(dense):
    params = [dense.params(epoch) for epoch in dense.epochs]
    swa = average_epochs(dense, start=0)
    assert_close(swa.params(), jax.tree.map(lambda *x: np.mean(x, axis=0), *params))
    assert swa.members_table.equals(dense.members_table)
    ema = average_epochs(dense, kind="ema", start=0, decay=0.75)
    by_hand = params[0]
    for each in params[1:]:
        by_hand = jax.tree.map(lambda m, x: 0.75 * m + 0.25 * x, by_hand, each)
    assert_close(ema.params(), by_hand)
    late = average_epochs(dense)
    assert_close(late.params(), jax.tree.map(lambda a, b: (a + b) / 2, params[1], params[2]))
    assert "swa of epochs 1, 2" in str(late.config.origin)
    np.testing.assert_allclose(late.evaluate()["test_acc"], late.metrics["test_acc"])


@pytest.mark.parametrize(
    "function, options, message",
    [
        (soup, {"kind": "cold"}, "no soup named 'cold'"),
        (soup, {"members": [9]}, "no member 9"),
        (soup, {"members": []}, "no members"),
        (soup, {"epoch": 7}, "no epoch 7"),
        (average_epochs, {"kind": "mode"}, "no average named 'mode'"),
        (average_epochs, {"decay": 1}, "decay is 1"),
        (average_epochs, {"decay": "a"}, "decay is a"),
        (average_epochs, {"start": 3}, "no epoch from 3 on"),
    ],
)
def test_invalid_arguments(dense, function, options, message):
    with pytest.raises(ZoojaxError, match=message):
        function(dense, **options)
