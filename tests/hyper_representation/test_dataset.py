"""Training samples of a zoo: split, reading, and normalization."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import representations, zoo_fixtures
from zoojax import Zoo, ZoojaxError, open_zoo
from zoojax.hyper_representation.dataset import (
    Normalization,
    fit_normalization,
    read_samples,
)
from zoojax.hyper_representation.training_zoos import (
    MIN_MEMBERS,
    finite_members,
    split_members,
)
from zoojax.runtime import population
from zoojax.sparsifiers.variational_dropout import log_alphas


@pytest.fixture
def twin(tmp_path_factory) -> Zoo:
    return representations.twin(tmp_path_factory)


@given(st.integers(MIN_MEMBERS, 400), st.integers(0, 2**31))
@settings(max_examples=50)
def test_split_is_a_70_15_15_partition(count, seed):
    """The split does not depend on the order of the members."""
    members = [3 * i for i in range(count)]
    parts = split_members(members, seed)
    assert sorted(m for part in parts for m in part) == members
    assert len(parts[1]) == len(parts[2]) == max(1, round(0.15 * count))
    assert parts == split_members(members[::-1], seed)


def test_split_depends_on_the_seed():
    assert len({tuple(split_members(range(200), seed)[2]) for seed in range(5)}) == 5
    assert [len(part) for part in split_members(range(200), 1)] == [140, 30, 30]


@pytest.mark.parametrize("count", [0, 1, MIN_MEMBERS - 1])
def test_too_few_members(count):
    with pytest.raises(ZoojaxError, match=rf"^{count} members .* {MIN_MEMBERS} or more"):
        split_members(range(count), 1)


def test_samples_are_states_with_their_metrics(twin):
    """Weights, alphas and table have the requested order, epoch by epoch."""
    samples = read_samples(twin, [4, 2], [3, 0])
    assert len(samples) == 4 and samples.alphas is not None
    assert samples.table.select("member", "epoch").rows() == [(4, 3), (2, 3), (4, 0), (2, 0)]
    for row, sample in enumerate(samples.table.iter_rows(named=True)):
        state = population.take(twin.state(sample["epoch"]), sample["member"])
        assert zoo_fixtures.same_bits(population.take(samples.weights, row), state["params"])
        expected = log_alphas(state["params"], state["log_sigma2"])
        alphas = population.take(samples.alphas, row)
        for layer, leaves in expected.items():
            for name, alpha in leaves.items():
                np.testing.assert_allclose(alphas[layer][name], alpha, rtol=1e-5, atol=1e-5)
        (metrics,) = twin.metrics.filter(member=sample["member"], epoch=sample["epoch"]).rows(
            named=True
        )
        assert sample == metrics


def test_all_epochs_are_read_by_default(twin):
    samples = read_samples(twin, [0])
    assert samples.table["epoch"].to_list() == twin.epochs


def test_log_alphas_of_one_epoch_for_every_sample(twin):
    """Weights and metrics remain those of each sample."""
    fixed, own = read_samples(twin, [1, 5], [0, 2], alphas_of=3), read_samples(twin, [1, 5], [0, 2])
    last = read_samples(twin, [1, 5], [3, 3]).alphas
    assert zoo_fixtures.same_bits(fixed.alphas, last)
    assert not zoo_fixtures.same_bits(fixed.alphas, own.alphas)
    assert zoo_fixtures.same_bits(fixed.weights, own.weights)
    assert fixed.table.equals(own.table)


def test_dense_zoo_has_no_log_alphas(tmp_path_factory):
    samples = read_samples(representations.dense(tmp_path_factory), [0, 1], [50])
    assert samples.alphas is None and len(samples) == 2


def test_missing_epoch(twin):
    with pytest.raises(ZoojaxError, match="no epoch 17"):
        read_samples(twin, [0], [17])


def test_members_with_nan_at_any_epoch_are_excluded(twin, tmp_path):
    zoo = open_zoo(zoo_fixtures.copied(twin, tmp_path / "damaged"))
    nan = (pl.col("member") == 3) & (pl.col("epoch") == 1)
    table = zoo.metrics_history.with_columns(finite=pl.col("finite") & ~nan)
    table.write_parquet(zoo.path / "metrics.parquet")
    assert finite_members(zoo) == [0, 1, 2, 4, 5, 6, 7, 8]
    assert finite_members(twin) == list(range(9))


def test_normalization_standardizes_each_layer(twin):
    """Over weights and biases together; `invert` restores the parameters."""
    weights = read_samples(twin, range(5)).weights
    normalization = fit_normalization(weights)
    for leaves in normalization.apply(weights).values():
        values = np.concatenate([np.ravel(x) for x in leaves.values()])
        assert values.mean() == pytest.approx(0, abs=1e-4)
        assert values.std() == pytest.approx(1, abs=1e-4)
    for layer, leaves in normalization.invert(normalization.apply(weights)).items():
        for name, x in leaves.items():
            np.testing.assert_allclose(x, weights[layer][name], rtol=1e-5, atol=1e-7)


def test_normalization_of_constant_layer():
    weights = {"fc2": {"kernel": np.full((3, 2), 0.5), "bias": np.full((3, 1), 0.5)}}
    assert fit_normalization(weights) == Normalization({"fc2": 0.5}, {"fc2": 1.0})
