"""A zoo's states as samples: the split, what is read, and the normalisation."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import representations, zoo_fixtures
from zoojax import Zoo, ZoojaxError, open_zoo
from zoojax.hyper_representation.dataset import (
    MIN_MEMBERS,
    Normalization,
    normalisation,
    read,
    sound_members,
    split,
)
from zoojax.runtime import population
from zoojax.sparsifiers.variational_dropout import log_alphas


@pytest.fixture
def twin(tmp_path_factory) -> Zoo:
    return representations.twin(tmp_path_factory)


@given(st.integers(MIN_MEMBERS, 400), st.integers(0, 2**31))
@settings(max_examples=50)
def test_members_are_shared_out_70_15_15(count, seed):
    """Every member once; the seed alone decides, not the order they come in."""
    members = [3 * i for i in range(count)]
    parts = split(members, seed)
    assert sorted(m for part in parts for m in part) == members
    assert len(parts.val) == len(parts.test) == max(1, round(0.15 * count))
    assert parts == split(members[::-1], seed)
    assert all(part == sorted(part) for part in parts)


def test_the_seed_decides_the_split():
    assert len({tuple(split(range(200), seed).test) for seed in range(5)}) == 5
    assert [len(part) for part in split(range(200), 1)] == [140, 30, 30]


@pytest.mark.parametrize("count", [0, 1, MIN_MEMBERS - 1])
def test_too_few_members(count):
    with pytest.raises(ZoojaxError, match=rf"^{count} members .* {MIN_MEMBERS} or more"):
        split(range(count), 1)


def test_samples_are_states_with_their_measurements(twin):
    """Epoch by epoch in the order asked for, weights, alphas and table alike."""
    found = read(twin, [4, 2], [3, 0])
    assert len(found) == 4 and found.alphas is not None
    assert found.table.select("member", "epoch").rows() == [(4, 3), (2, 3), (4, 0), (2, 0)]
    for row, sample in enumerate(found.table.iter_rows(named=True)):
        state = population.take(twin.state(sample["epoch"]), sample["member"])
        assert zoo_fixtures.same_bits(population.take(found.weights, row), state["params"])
        expected = log_alphas(state["params"], state["log_sigma2"])
        mine = population.take(found.alphas, row)
        for layer, leaves in expected.items():
            for name, alpha in leaves.items():
                np.testing.assert_allclose(mine[layer][name], alpha, rtol=1e-5, atol=1e-5)
        (measured,) = twin.metrics.filter(member=sample["member"], epoch=sample["epoch"]).rows(
            named=True
        )
        assert sample == measured


def test_all_epochs_unless_said_otherwise(twin):
    found = read(twin, [0])
    assert found.table["epoch"].to_list() == twin.epochs


def test_log_alphas_of_one_epoch_for_every_sample(twin):
    """Weights and measurements stay those of each sample."""
    fixed, own = read(twin, [1, 5], [0, 2], alphas_of=3), read(twin, [1, 5], [0, 2])
    last = read(twin, [1, 5], [3, 3]).alphas
    assert zoo_fixtures.same_bits(fixed.alphas, last)
    assert not zoo_fixtures.same_bits(fixed.alphas, own.alphas)
    assert zoo_fixtures.same_bits(fixed.weights, own.weights)
    assert fixed.table.equals(own.table)


def test_a_dense_zoo_has_no_log_alphas(tmp_path_factory):
    found = read(representations.dense(tmp_path_factory), [0, 1], [50])
    assert found.alphas is None and len(found) == 2


def test_an_epoch_that_is_not_there(twin):
    with pytest.raises(ZoojaxError, match="no epoch 17"):
        read(twin, [0], [17])


def test_members_with_nan_are_not_sound(twin, tmp_path):
    """Whenever it was."""
    zoo = open_zoo(zoo_fixtures.copied(twin, tmp_path / "spoilt"))
    bad = (pl.col("member") == 3) & (pl.col("epoch") == 1)
    table = zoo.metrics_history.with_columns(finite=pl.col("finite") & ~bad)
    table.write_parquet(zoo.path / "metrics.parquet")
    assert sound_members(zoo) == [0, 1, 2, 4, 5, 6, 7, 8]
    assert sound_members(twin) == list(range(9))


def test_normalisation_is_of_layers(twin):
    """Mean 0 and deviation 1 over a layer's kernels and biases, and back again."""
    weights = read(twin, range(5)).weights
    norm = normalisation(weights)
    for leaves in norm.apply(weights).values():
        numbers = np.concatenate([np.ravel(x) for x in leaves.values()])
        assert numbers.mean() == pytest.approx(0, abs=1e-4)
        assert numbers.std() == pytest.approx(1, abs=1e-4)
    for layer, leaves in norm.invert(norm.apply(weights)).items():
        for name, x in leaves.items():
            np.testing.assert_allclose(x, weights[layer][name], rtol=1e-5, atol=1e-7)


def test_a_layer_that_never_varies():
    norm = normalisation({"fc2": {"kernel": np.full((3, 2), 0.5), "bias": np.full((3, 1), 0.5)}})
    assert norm == Normalization({"fc2": 0.5}, {"fc2": 1.0})
