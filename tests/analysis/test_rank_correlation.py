"""Correlation of accuracy before and after, against numpy, scipy and counting."""

import numpy as np
import polars as pl
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tests.analysis.conftest import RATIOS
from tests.support.altered_zoos import with_metrics
from zoojax import analysis
from zoojax.analysis import rank_correlation

samples = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=4, max_size=20)


def _kendall(x, y) -> float:
    """Tau-b by counting pairs."""
    i, j = np.triu_indices(len(x), 1)
    a, b = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
    return float((a * b).sum() / np.sqrt((a != 0).sum() * (b != 0).sum()))


@given(samples, st.integers(0, 100))
def test_coefficients_of_resamples_with_ties(pairs, seed):
    x, y = np.array(pairs, float).T
    drawn = np.random.default_rng(seed).integers(0, len(x), (5, len(x)))
    counts = np.stack([np.bincount(row, minlength=len(x)) for row in drawn])
    r = rank_correlation.resampled_pearson(x, y, counts)
    tau = rank_correlation.resampled_kendall(x, y, counts)
    for i, row in enumerate(drawn):
        if np.ptp(x[row]) == 0 or np.ptp(y[row]) == 0:
            assert np.isnan(tau[i]) and np.isnan(r[i])
            continue
        assert r[i] == pytest.approx(np.corrcoef(x[row], y[row])[0, 1], abs=1e-9)
        assert tau[i] == pytest.approx(_kendall(x[row], y[row]), abs=1e-6)


def test_interval_matches_scipy_bootstrap():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(40)
    y = x + rng.standard_normal(40)
    ours = rank_correlation.coefficients(x, y, resamples=4000)

    def pearson(a, b):
        return np.corrcoef(a, b)[0, 1]

    theirs = scipy.stats.bootstrap(
        *((x, y), pearson),
        paired=True,
        vectorized=False,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert ours["pearson"] == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert ours["pearson_low"] == pytest.approx(theirs.low, abs=0.03)
    assert ours["pearson_high"] == pytest.approx(theirs.high, abs=0.02)


def test_correlation_of_every_ratio_and_epoch(family):
    zoo, twin = family["dense"], family["mp"]
    table = analysis.correlation(zoo, twin, resamples=50)
    assert len(table) == len(RATIOS) * 16
    row = table.filter((pl.col("ratio") == 0.9) & (pl.col("epoch") == 15)).row(0, named=True)
    before = zoo.metrics_history.filter(pl.col("epoch") == 50)["test_acc"].to_numpy()
    rows = twin.members_table["ratio"].to_numpy() == 0.9
    after = twin.metrics_history.filter(pl.col("epoch") == 15)["test_acc"].to_numpy()[rows]
    assert row["pearson"] == pytest.approx(np.corrcoef(before, after)[0, 1])
    assert row["kendall"] == pytest.approx(_kendall(before, after))
    assert row["pearson_low"] < row["pearson"] < row["pearson_high"]


@pytest.mark.parametrize(
    ("members", "constant", "remark"),
    [
        (19, False, "too few members"),
        (20, True, "all values are equal"),
        (20, False, None),
    ],
)
def test_too_few_or_constant_values_have_no_correlation(members, constant, remark):
    x = np.zeros(members) if constant else np.arange(members) % 7
    found = rank_correlation.coefficients(x, np.arange(members), resamples=20)
    assert found.pop("remark") == remark
    assert set(found) == set(rank_correlation.COEFFICIENTS)
    assert all((value is None) == (remark is not None) for value in found.values())


def test_member_without_reported_accuracy_is_excluded(family, tmp_path):
    """As in converted zoos, whose trials may not report every epoch."""
    unknown = (pl.col("member") == 7) & (pl.col("epoch") == 5)
    accuracy = pl.when(unknown).then(None).otherwise(pl.col("test_acc")).alias("test_acc")
    twin = with_metrics(family["vd"], tmp_path / "vd", lambda table: table.with_columns(accuracy))
    row = analysis.correlation(family["dense"], twin, resamples=20).row(5, named=True)
    assert np.isfinite(row["pearson"]) and row["diverged"] == 1
    assert 7 not in analysis.member_prunability(family["dense"], twin)["parent_id"].to_list()
