"""The signed-rank test and Holm's correction, against SciPy and by enumeration."""

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from zoojax.analysis.signed_rank import holm, mean_interval, signed_rank_test


@pytest.mark.parametrize("n", [5, 12, 30])
def test_equals_scipy_without_ties(n):
    values = np.random.default_rng(n).standard_normal(n) + 0.3
    expected = scipy.stats.wilcoxon(values, method="exact").pvalue  # pyright: ignore
    assert signed_rank_test(values) == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
def test_equals_enumeration_of_all_signs(values):
    """With ties and zeros: the share of sign patterns with as extreme a sum of ranks."""
    differences = np.array(values) / 7
    ranks = scipy.stats.rankdata(np.abs(differences))[differences != 0]
    observed = abs((ranks * np.sign(differences[differences != 0])).sum())
    sums = [
        abs((ranks * np.array(signs)).sum())
        for signs in itertools.product((-1, 1), repeat=len(ranks))
    ]
    expected = np.mean([each >= observed - 1e-9 for each in sums])
    assert signed_rank_test(differences) == pytest.approx(expected)


def test_normal_approximation_joins_the_exact_distribution():
    rng = np.random.default_rng(0)
    values = rng.standard_normal(51) + 0.25
    expected = scipy.stats.wilcoxon(values, method="exact").pvalue  # pyright: ignore
    assert signed_rank_test(values) == pytest.approx(expected, rel=0.2)
    rejected = [signed_rank_test(rng.standard_normal(60)) < 0.4 for _ in range(100)]
    assert 0.2 < np.mean(rejected) < 0.6


def test_holm_rejects_step_by_step():
    p = np.array([0.04, 0.001, 0.02, 0.5])
    assert holm(p) == pytest.approx([0.08, 0.004, 0.06, 0.5])
    assert holm(np.array([])).tolist() == []
    assert (holm(np.array([0.9, 0.8])) <= 1).all()


def test_mean_interval_is_students():
    values = np.random.default_rng(1).standard_normal(9)
    expected = scipy.stats.t.interval(0.95, 8, values.mean(), scipy.stats.sem(values))
    assert mean_interval(values) == pytest.approx(expected)
