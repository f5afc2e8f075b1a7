"""Trained curves end at their members and have lower barriers than straight lines."""

import jax
import numpy as np
import pytest

from tests.support import zoo_fixtures
from zoojax.errors import ZoojaxError
from zoojax.geometry import barriers, curves, lines
from zoojax.storage.zoo_images import load_images

PAIRS = [(0, 1), (1, 2)]


@pytest.fixture
def dense(tmp_path_factory):
    return zoo_fixtures.dense(tmp_path_factory)


def test_untrained_curves_are_straight_lines(dense):
    found = curves(dense, pairs=PAIRS, epochs=0, points=5, quiet=True)
    straight = lines(dense, pairs=PAIRS, points=5)
    np.testing.assert_allclose(found.points["loss"], straight["loss"], rtol=1e-4)
    middle = jax.tree.map(
        lambda a, b: (a + b) / 2, dense.params(2, [0, 1]), dense.params(2, [1, 2])
    )
    for a, b in zip(jax.tree.leaves(found.control), jax.tree.leaves(middle), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_trained_curves_have_lower_barriers(dense):
    options = {"pairs": PAIRS, "points": 5, "split": "train"}
    trained = curves(dense, epochs=30, learning_rate=1e-2, quiet=True, **options)
    straight = lines(dense, **options)
    before, after = barriers(straight), barriers(trained.points)
    assert (after["loss_barrier"] < before["loss_barrier"]).all()
    assert trained.pairs.rows() == PAIRS
    ends = trained.points["position"].is_in([0.0, 1.0])
    np.testing.assert_allclose(
        trained.points.filter(ends)["loss"], straight.filter(ends)["loss"], rtol=1e-4
    )
    # A point by hand, from the returned control points.
    t, split = 0.25, load_images(dense, None).train
    first, second, control = dense.member(1), dense.member(2), trained.control
    point = jax.tree.map(
        lambda a, c, b: (1 - t) ** 2 * a + 2 * t * (1 - t) * c[1] + t**2 * b, first, control, second
    )
    module = dense.config.shape.module("tanh", "uniform")
    logits = np.asarray(module.apply({"params": point}, split.images))
    expected = (logits.argmax(1) == split.labels).mean()
    found = trained.points.filter(first=1, position=t)["acc"][0]
    assert abs(found - expected) < 1e-6
    # A curve does not depend on the others.
    alone = curves(dense, epochs=2, pairs=PAIRS[1:], points=3, quiet=True)
    both = curves(dense, epochs=2, pairs=PAIRS, points=3, quiet=True)
    for a, b in zip(jax.tree.leaves(alone.control), jax.tree.leaves(both.control), strict=True):
        np.testing.assert_allclose(a[0], b[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"epochs": -1}, "-1 epochs"),
        ({"learning_rate": 0.0}, "learning"),
        ({"points": 0}, "at least 2"),
        ({"chunk": 0}, "chunk 0"),
    ],
)
def test_invalid_arguments(dense, options, message):
    with pytest.raises(ZoojaxError, match=message):
        curves(dense, pairs=PAIRS, quiet=True, **options)
