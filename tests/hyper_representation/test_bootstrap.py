"""Bootstrap over members, compared with resampled states and with known cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from zoojax.analysis.rank_correlation import kendall
from zoojax.hyper_representation import bootstrap
from zoojax.hyper_representation.bootstrap import MIN_MEMBERS, RESAMPLES, MemberBootstrap, squares

MEMBERS = np.repeat(np.arange(12), 3)


def resampled(members: MemberBootstrap, sample: int, x: np.ndarray) -> np.ndarray:
    """The states of a resample: those of each member as often as it was drawn."""
    counts = members.counts[sample].astype(int)
    rows = [np.flatnonzero(m == MEMBERS) for m, count in enumerate(counts) for _ in range(count)]
    return x[np.concatenate(rows)]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_resamples_equal_those_of_states(seed):
    rng = np.random.default_rng(seed)
    # Rounded, so that there are ties.
    true = np.round(rng.standard_normal(len(MEMBERS)), 1) + 100
    predicted = np.round(true + rng.standard_normal(len(MEMBERS)), 1)
    members = MemberBootstrap(MEMBERS)
    r2, tau = members.r2(true, predicted), members.kendall(true, predicted)
    assert r2.value == pytest.approx(r2_score(true, predicted), rel=1e-9)
    assert tau.value == pytest.approx(kendall(true, predicted))
    assert len(r2.samples) == len(tau.samples) == RESAMPLES
    for sample in (0, 1, RESAMPLES - 1):
        x, y = (resampled(members, sample, v) for v in (true, predicted))
        assert r2.samples[sample] == pytest.approx(r2_score(x, y), rel=1e-9)
        assert tau.samples[sample] == pytest.approx(kendall(x, y), abs=1e-9)


def test_order_of_states_does_not_matter():
    rng = np.random.default_rng(0)
    true, predicted = rng.standard_normal((2, len(MEMBERS)))
    order = rng.permutation(len(MEMBERS))
    first, second = MemberBootstrap(MEMBERS), MemberBootstrap(MEMBERS[order])
    for name in ("r2", "kendall"):
        a = getattr(first, name)(true, predicted)
        b = getattr(second, name)(true[order], predicted[order])
        assert a.value == pytest.approx(b.value)
        np.testing.assert_allclose(a.samples, b.samples, atol=1e-9)


def test_interval_of_a_known_case():
    """Members whose squared errors are 0 or 1: the interval is that of a binomial distribution."""
    size = 100
    members = MemberBootstrap(np.arange(size))
    values = np.tile([1.0, -1.0], size // 2)
    sums = squares(values[:, None], (np.arange(size) < 20)[:, None].astype(float))
    # The sum of squares about the mean is replaced by a constant, so that R2 = 1 - mean error.
    sums[:, 1] = 0
    low, high = members.r2_of_sums([sums]).interval
    assert low is not None and high is not None
    # The standard deviation of the mean of 100 Bernoulli variables with p = 0.2 is 0.04.
    assert low == pytest.approx(0.8 - 1.96 * 0.04, abs=0.015)
    assert high == pytest.approx(0.8 + 1.96 * 0.04, abs=0.015)


def test_states_of_a_member_are_not_independent():
    """Copies of states do not make an interval narrower."""
    rng = np.random.default_rng(1)
    true, predicted = rng.standard_normal((2, 40)).cumsum(axis=0)
    once = MemberBootstrap(np.arange(40)).r2(true, predicted)
    copies = MemberBootstrap(np.repeat(np.arange(40), 25))
    many = copies.r2(np.repeat(true, 25), np.repeat(predicted, 25))
    assert many.interval == pytest.approx(once.interval)
    states = MemberBootstrap(np.arange(1000)).r2(np.repeat(true, 25), np.repeat(predicted, 25))
    wide, narrow = (high - low for low, high in (once.interval, states.interval))  # pyright: ignore
    assert narrow < 0.4 * wide


def test_differences_are_paired():
    """Of predictions whose errors differ by a constant factor, the difference hardly varies."""
    rng = np.random.default_rng(2)
    true, error = rng.standard_normal((2, 200))
    members = MemberBootstrap(np.arange(200))
    better, worse = members.r2(true, true + 0.99 * error), members.r2(true, true + error)
    difference = better.minus(worse)
    assert difference.value == pytest.approx(better.value - worse.value)  # pyright: ignore
    low, high = difference.interval
    assert low is not None and high is not None and 0 < low < high
    own_low, own_high = worse.interval
    assert own_low is not None and own_high is not None
    assert high - low < 0.1 * (own_high - own_low)


def test_layers_have_their_own_means():
    rng = np.random.default_rng(3)
    layers = [rng.standard_normal((12, 40)) + 10 * i for i in range(2)]
    errors = [rng.standard_normal((12, 40)) for _ in layers]
    members = MemberBootstrap(np.arange(12))
    sums = [squares(x, e) for x, e in zip(layers, errors, strict=True)]
    variation = sum(np.square(x - x.mean()).sum() for x in layers)
    expected = 1 - sum(np.square(e).sum() for e in errors) / variation
    assert members.r2_of_sums(sums).value == pytest.approx(expected, rel=1e-9)


def test_few_members_and_constants_have_no_interval():
    few = np.arange(MIN_MEMBERS - 1)
    estimate = MemberBootstrap(few).r2(few * 1.0, few + 0.1)
    assert estimate.value is not None and estimate.interval == (None, None)
    members, values = MemberBootstrap(MEMBERS), np.arange(len(MEMBERS)) * 1.0
    constant = np.full(len(MEMBERS), 0.1)
    for unknown in (
        members.r2(constant, values),
        members.kendall(constant, values),
        members.kendall(values, constant),
        members.r2(values, values).minus(bootstrap.UNKNOWN),
    ):
        assert unknown.columns("r2") == {"r2": None, "r2_low": None, "r2_high": None}


def test_resamples_are_reproducible():
    first, second = MemberBootstrap(MEMBERS), MemberBootstrap(MEMBERS + 7)
    assert np.array_equal(first.counts, second.counts)
    assert (first.counts.sum(axis=1) == 12).all()
