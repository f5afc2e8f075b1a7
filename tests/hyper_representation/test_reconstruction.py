"""R2 of reconstructed weights and log alphas, and pairs of true and reconstructed values."""

import numpy as np
import pytest
from sklearn.metrics import r2_score

from tests.support import representations
from zoojax.hyper_representation.bootstrap import MemberBootstrap
from zoojax.hyper_representation.dataset import read_samples
from zoojax.hyper_representation.reconstruction import R2Accumulator, r2_inputs, scatter_pairs
from zoojax.hyper_representation.representation import Representation
from zoojax.sparsifiers.variational_dropout import LOG_ALPHA_THRESHOLD


@pytest.fixture
def representation(tmp_path_factory) -> Representation:
    return representations.reconstructing(tmp_path_factory)


def random_values(seed: int) -> dict:
    """Values of two layers with different means and standard deviations."""
    rng = np.random.default_rng(seed)
    shape = {("weights", "conv1"): (3, 20), ("weights", "fc1"): (3, 300)}
    return {
        key: (10 * i + rng.standard_normal(s) * (i + 1)).astype(np.float32)
        for i, (key, s) in enumerate(shape.items())
    }


def test_r2_matches_sklearn():
    """By layer; R2 of all layers uses SST about the mean of each layer."""
    r2, members = R2Accumulator(), np.arange(3)
    batches = [(random_values(0), random_values(1)), (random_values(2), random_values(2))]
    for true, reconstructed in batches:
        r2.add("test", members, true, reconstructed)
        r2.add("train", members, true, true)
    table = r2.table()
    # Three members are too few for intervals.
    assert table["r2_low"].null_count() == table["r2_high"].null_count() == len(table)
    test = table.filter(part="test").select("layer", "count", "r2")
    errors = totals = 0.0
    for row, key in enumerate(random_values(0), start=1):
        true, reconstructed = (
            np.concatenate([np.float64(b[i][key]).ravel() for b in batches]) for i in (0, 1)
        )
        layer, count, value = test.row(row)
        assert (layer, count) == (key[1], true.size)
        assert value == pytest.approx(r2_score(true, reconstructed), rel=1e-5)
        errors += np.square(true - reconstructed, dtype=np.float64).sum()
        totals += np.square(true - true.mean(dtype=np.float64)).sum()
    assert test.row(0) == ("all", 2 * 960, pytest.approx(1 - errors / totals, rel=1e-5))
    assert table.filter(part="train")["r2"].to_list() == [1.0, 1.0, 1.0]


def test_interval_of_r2_is_over_members():
    """States of two epochs are resampled together; the first two members are reconstructed."""
    values = np.random.default_rng(0).standard_normal((12, 50))
    exact = np.where(np.arange(12)[:, None] < 2, values, 0)
    key, members, r2 = ("weights", "conv1"), np.arange(12), R2Accumulator()
    for _ in range(2):
        r2.add("test", members, {key: values}, {key: exact})
    row = r2.table().row(0, named=True)
    errors, variation = np.square(values - exact).sum(axis=1), np.square(values).sum(axis=1)
    counts = MemberBootstrap(members).counts
    # The mean is nearly zero.
    expected = np.percentile(1 - counts @ errors / (counts @ variation), [2.5, 97.5])
    assert [row["r2_low"], row["r2_high"]] == pytest.approx(expected.tolist(), abs=0.01)
    assert row["count"] == 1200 and row["r2_high"] - row["r2_low"] > 0.2


def test_constant_values_have_no_r2():
    r2, key = R2Accumulator(), ("weights", "conv1")
    constant = {key: np.full((3, 7), 0.1, np.float32)}
    r2.add("test", np.arange(3), constant, {key: np.zeros((3, 7))})
    assert r2.table()["r2"].to_list() == [None, None]


def test_r2_inputs_have_the_scales_of_the_losses(representation):
    states = read_samples(representation.training_zoo(), [0, 1], [2])
    assert states.alphas is not None
    scales = r2_inputs(representation.codec, states.weights, states.alphas)
    kernel = states.weights["fc2"]["kernel"].reshape(2, -1)
    expected = (kernel - representation.config.mean["fc2"]) / representation.config.deviation["fc2"]
    # Leaves are sorted by name, so the 10 biases come first.
    np.testing.assert_allclose(scales["weights", "fc2"][:, 10:], expected, rtol=1e-6)
    alpha = states.alphas["fc2"]["kernel"].reshape(2, -1)
    assert np.array_equal(scales["log alphas", "fc2"], alpha)
    scaled = np.tanh((alpha - LOG_ALPHA_THRESHOLD) / representation.config.settings.alpha_radius)
    np.testing.assert_allclose(scales["alphas", "fc2"], scaled, atol=1e-6)
    assert ("alphas", "conv1") in scales and scales["alphas", "conv1"].shape == (2, 208)
    without_alphas = r2_inputs(representation.codec, states.weights, None)
    assert list(without_alphas) == [("weights", layer) for layer in states.weights]
    assert len(without_alphas) == 5
    for key, values in without_alphas.items():
        assert np.array_equal(values, scales[key])


def test_scatter_pairs_are_a_bounded_sample():
    true = {("weights", "fc1"): np.arange(600.0).reshape(3, 200)}
    reconstructed = {("weights", "fc1"): -np.arange(600.0).reshape(3, 200)}
    (pairs,) = scatter_pairs(true, reconstructed, 50, np.random.default_rng(0))
    assert len(pairs) == pairs["true"].n_unique() == 50
    assert pairs["reconstructed"].equals(-pairs["true"].alias("reconstructed"))
    (pairs,) = scatter_pairs(true, reconstructed, 1000, np.random.default_rng(0))
    assert len(pairs) == 600
