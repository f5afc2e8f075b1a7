"""Predictions and agreement of members, against counting."""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import zoo_fixtures
from tests.support.altered_zoos import with_diverged_member
from zoojax import analysis
from zoojax.architectures.base import logits as member_logits
from zoojax.runtime import population
from zoojax.storage import zoo_images
from zoojax.storage.zoo import MEMBERS, open_zoo
from zoojax.training import inference


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 2500), st.integers(2, 9))
@settings(max_examples=30)
def test_pairwise_agreement_by_counting(members, others, images, classes):
    rng = np.random.default_rng(images)
    one = rng.integers(0, classes, (members, images)).astype(np.uint16)
    other = rng.integers(0, classes, (others, images)).astype(np.uint16)
    expected = [[np.mean(a == b) for b in other] for a in one]
    np.testing.assert_allclose(analysis.pairwise(one, other), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", [pytest.param("dense", marks=pytest.mark.slow), "mp", "vd"])
def test_predictions_are_the_argmax_of_the_logits(tmp_path_factory, kind):
    zoo = zoo_fixtures.KINDS[kind](tmp_path_factory)
    images = jnp.asarray(zoo_images.load_images(zoo, None).test.images)
    params, model = zoo.sparse_params(), zoo.config.shape.module("tanh", "uniform")
    one = jax.jit(lambda p: member_logits(model, {"params": p}, images))
    logits = [one(population.take(params, i)) for i in range(len(zoo))]
    np.testing.assert_array_equal(analysis.predictions(zoo), np.argmax(logits, axis=-1))


def test_predictions_of_a_grid_keep_the_order_of_members(family):
    zoo = family["dense"]
    images = zoo_images.load_images(zoo, None).test.images[:50]
    predicted, params = inference.predict(zoo, images), zoo.params()
    assert zoo.members_table["activation"].n_unique() == 2
    for i in (0, 23, 24, 47):
        model = zoo.config.shape.module(zoo.members_table["activation"][i], "uniform")
        logits = jax.jit(functools.partial(member_logits, model))(
            {"params": population.take(params, i)}, images
        )
        np.testing.assert_array_equal(predicted[i], np.argmax(logits, axis=-1))


@pytest.mark.parametrize("kind", ["mp", "vd"])
def test_agreement_of_twins_with_parents(tmp_path_factory, kind):
    zoo, twin = zoo_fixtures.dense(tmp_path_factory), zoo_fixtures.KINDS[kind](tmp_path_factory)
    table = analysis.agreement(zoo, twin)
    before, after = analysis.predictions(zoo), analysis.predictions(twin)
    ids = zoo.members_table["id"].to_list()
    for row, parent in enumerate(twin.members_table["parent_id"].to_list()):
        same = sum(before[ids.index(parent)] == after[row]) / before.shape[1]
        assert table["agreement"][row] == pytest.approx(same)
        assert table["parent_id"][row] == parent
    if kind == "vd":  # Before training, a twin equals its parent.
        assert (analysis.agreement(zoo, twin, 0)["agreement"] > 0.9).all()


def test_agreement_matrix_of_one_zoo(tmp_path_factory):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    table = analysis.agreement_matrix(zoo)
    matrix = table.drop("member").to_numpy()
    assert table.columns == ["member", *map(str, zoo.members_table["id"])]
    np.testing.assert_array_equal(np.diag(matrix), 1)
    np.testing.assert_array_equal(matrix, matrix.T)


def test_diverged_twin_has_no_agreement(tmp_path_factory, tmp_path):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    twin = with_diverged_member(
        zoo_fixtures.variational_dropout(tmp_path_factory), tmp_path / "vd", 1
    )
    agreements = analysis.agreement(zoo, twin)["agreement"].to_list()
    assert agreements[1] is None and None not in (agreements[0], agreements[2])
    matrix = analysis.agreement_matrix(zoo, twin).drop("member").to_numpy()
    assert np.isnan(matrix[:, 1]).all() and np.isfinite(matrix[:, [0, 2]]).all()


def test_matrices_are_in_the_order_of_parents(family, result, tmp_path):
    """Twins in reversed order."""
    copy = zoo_fixtures.copied(family["vd"], tmp_path / "vd")
    table = pl.read_parquet(copy / MEMBERS)
    reversed_ids = table["parent_id"].reverse().to_list()
    table.with_columns(pl.Series("parent_id", reversed_ids)).write_parquet(copy / MEMBERS)
    reversed_matrix = analysis.analyze(family["dense"], [open_zoo(copy)]).matrices["vd epoch 5"]
    matrix = result.matrices["vd epoch 5"]
    np.testing.assert_array_equal(reversed_matrix, matrix[::-1, ::-1])


@pytest.mark.slow
def test_time_of_one_million_pairs():
    """1,000 x 1,000 members on 10,000 images."""
    predicted = np.random.default_rng(0).integers(0, 10, (1000, 10_000)).astype(np.uint16)
    analysis.pairwise(predicted[:, :2000])
    start = time.monotonic()
    matrix = analysis.pairwise(predicted)
    seconds = time.monotonic() - start
    print(f"{seconds:.1f} s")
    assert matrix[3, 5] == pytest.approx((predicted[3] == predicted[5]).mean())
    assert seconds < 10
