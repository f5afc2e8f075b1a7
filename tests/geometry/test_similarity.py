"""Distances, cosines, effective dimension and CKA against direct formulas."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.support import zoo_fixtures
from zoojax import ZoojaxError, geometry, train_zoo
from zoojax.architectures.permutations import permute
from zoojax.geometry import similarity
from zoojax.geometry.cka import layer_outputs
from zoojax.geometry.members import Members, members_at
from zoojax.runtime.population import take
from zoojax.storage.zoo_images import load_images


def flat(params):
    """All parameters as vectors, in double precision."""
    leaves = [leaf for layer in params.values() for leaf in layer.values()]
    return np.concatenate([x.reshape(len(x), -1) for x in leaves], axis=1).astype(np.float64)


def as_params(vectors):
    return {"a": {"kernel": vectors[:, :2], "bias": vectors[:, 2:]}}


VECTORS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(2, 6), st.just(5)),
    elements=st.floats(-4, 4, width=32).map(lambda x: round(x, 2)),
)


@given(VECTORS)
def test_distances_and_cosines(vectors):
    vectors = vectors + np.float32(0.125)  # None is all zero.
    distance, cosine = geometry.weight_similarity(as_params(vectors))
    x = vectors.astype(np.float64)
    np.testing.assert_allclose(distance, np.linalg.norm(x[:, None] - x[None], axis=2), atol=1e-6)
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(cosine, units @ units.T, atol=1e-9)


@given(VECTORS)
def test_effective_dimension_is_the_participation_ratio(vectors):
    values = np.linalg.eigvalsh(np.cov(vectors.astype(np.float64), rowvar=False))
    dimension = geometry.effective_dimension(as_params(vectors))
    if np.square(values).sum() < 1e-12:
        return
    assert dimension == pytest.approx(values.sum() ** 2 / np.square(values).sum(), rel=1e-6)
    assert 1 - 1e-9 <= dimension <= len(vectors) - 1 + 1e-9


@given(VECTORS)
def test_jackknife_leaves_out_each_member(vectors):
    if len(vectors) < 4:
        return
    vectors = vectors.astype(np.float64) + 5.0
    found = similarity._participation_without_each(vectors @ vectors.T)
    for i, value in enumerate(found):
        rest = np.delete(vectors, i, axis=0)
        values = np.linalg.eigvalsh(np.cov(rest, rowvar=False))
        if np.square(values).sum() > 1e-9:
            assert value == pytest.approx(values.sum() ** 2 / np.square(values).sum(), rel=1e-6)


def test_effective_dimension_of_equal_or_too_few_members():
    assert np.isnan(geometry.effective_dimension(as_params(np.ones((3, 5), np.float32))))
    with pytest.raises(ZoojaxError, match="two or more members"):
        geometry.effective_dimension(as_params(np.ones((1, 5), np.float32)))


def test_similarity_by_epoch(tmp_path_factory):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    table = geometry.similarity_by_epoch(zoo)
    assert table["epoch"].to_list() == zoo.epochs
    pairs = np.triu_indices(len(zoo), 1)
    start = flat(zoo.params(0))
    for epoch, row in zip(zoo.epochs, table.iter_rows(named=True), strict=True):
        params = zoo.params(epoch)
        distance, cosine = geometry.weight_similarity(params)
        assert row["dimension"] == pytest.approx(geometry.effective_dimension(params))
        assert row["distance"] == pytest.approx(distance[pairs].mean())
        assert row["cosine"] == pytest.approx(cosine[pairs].mean())
        moved = np.linalg.norm(flat(params) - start, axis=1).mean()
        assert row["moved"] == pytest.approx(moved, abs=1e-6)
    # Leaving out one of three members leaves one pair, with its distance and dimension 1.
    without = geometry.weight_similarity(zoo.params(0)).distance[pairs]
    error = 1.96 * np.sqrt(2 / 3 * np.square(without - without.mean()).sum())
    assert table["distance_high"][0] - table["distance"][0] == pytest.approx(error)
    with pytest.raises(ZoojaxError, match="no epoch 9"):
        geometry.similarity_by_epoch(zoo, epochs=[9])
    with pytest.raises(ZoojaxError, match="epochs is empty"):
        geometry.similarity_by_epoch(zoo, epochs=[])


# CKA


@functools.cache
def conv_zoo():
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (80, 8, 8), np.uint8)
    return train_zoo(
        architecture="chain-8-c4x3-b-a-f-d6-a-d",
        activation="tanh",
        init="kaiming_uniform",
        data=(pixels, np.arange(80) % 3),
        members=3,
        epochs=0,
        name="conv",
        quiet=True,
    )


def images(count=20):
    return jnp.asarray(load_images(conv_zoo(), None).train.images[:count])


def direct_cka(x, y):
    """|Y^T X|^2 / (|X^T X| |Y^T Y|) of centered features."""
    x, y = (each - each.mean(axis=0) for each in (x, y))
    return np.square(y.T @ x).sum() / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)


def test_cka_equals_the_direct_formula():
    zoo, members = conv_zoo(), members_at(conv_zoo())
    found, layers = geometry.cka(members, images()), zoo.config.shape.layers
    module = zoo.config.shape.module("tanh", "uniform")
    outputs = [
        layer_outputs(
            zoo.config.shape,
            module,
            {"params": take(members.params, i), **take(members.collections, i)},
            images(),
        )
        for i in range(3)
    ]
    # The last layer has no activation, so its outputs are the logits.
    for i in range(3):
        np.testing.assert_allclose(outputs[i][layers[-1]], zoo.apply(images())[i], atol=1e-5)
    for i in range(3):
        for j in range(3):
            for a, one in enumerate(layers):
                for b, other in enumerate(layers):
                    x, y = (np.asarray(o, np.float64) for o in (outputs[i][one], outputs[j][other]))
                    assert found[i, a, j, b] == pytest.approx(direct_cka(x, y), abs=1e-4)


def test_cka_does_not_depend_on_the_order_of_units():
    members = members_at(conv_zoo())
    arch, generator = conv_zoo().config.shape, np.random.default_rng(1)
    orders = [jnp.asarray(generator.permutation(units)) for units in arch.permuted_units()]
    moved = Members(
        arch,
        0,
        members.table,
        permute(members.params, orders, arch.permutations),
        {name: permute(t, orders, arch.permutations) for name, t in members.collections.items()},
        is_dense=True,
    )
    np.testing.assert_allclose(
        geometry.cka(moved, images()), geometry.cka(members, images()), atol=1e-5
    )


def test_means_over_pairs_of_layers():
    members = members_at(conv_zoo())
    found = geometry.cka(members, images())
    table = geometry.layer_similarity(members, found)
    first = table.row(1, named=True)
    pairs = [found[i, 0, j, 1] for i in range(3) for j in range(3) if i != j]
    assert first["cka"] == pytest.approx(np.mean(pairs), abs=1e-6)
    without = np.array(
        [
            np.mean(
                [
                    found[i, 0, j, 1]
                    for i in range(3)
                    for j in range(3)
                    if i != j and k not in (i, j)
                ]
            )
            for k in range(3)
        ]
    )
    error = 1.96 * np.sqrt(2 / 3 * np.square(without - np.mean(without)).sum())
    assert first["cka_high"] - first["cka"] == pytest.approx(error, abs=1e-6)
    with pytest.raises(ZoojaxError, match="three or more members"):
        geometry.layer_similarity(members_at(conv_zoo(), members=[0]), found[:1, :, :1])


def test_cka_refuses_what_does_not_fit():
    members = members_at(conv_zoo())
    with pytest.raises(ZoojaxError, match="give at most 7723 images"):
        geometry.cka(members, np.zeros((8000, 8, 8, 1), np.float32))
    with pytest.raises(ZoojaxError, match="two or more images"):
        geometry.cka(members, images(1))


def test_dead_layers_have_no_cka():
    members = members_at(conv_zoo())
    zeros = {
        name: {k: np.zeros_like(v) for k, v in t.items()} for name, t in members.params.items()
    }
    dead = Members(members.architecture, 0, members.table, zeros, members.collections, True)
    assert np.isnan(geometry.cka(dead, images())).all()
