"""Pairings of accuracies, against numpy and counting."""

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.analysis.conftest import RATIOS
from zoojax import analysis
from zoojax.analysis.accuracy_pairings import DENSE_AND_SPARSE, TRAIN_AND_TEST
from zoojax.analysis.rank_correlation import coefficients


def test_rows_of_both_twins(family):
    mp, vd = (
        analysis.correlation_pairings(family["dense"], family[kind], resamples=20)
        for kind in ("mp", "vd")
    )
    keys = ["ratio", "epoch", "pooled"]
    assert mp.select(keys).unique(maintain_order=True).rows() == [
        *((ratio, 15, None) for ratio in RATIOS),
        *((ratio, None, "epochs") for ratio in RATIOS),
        (None, 15, "ratios"),
    ]
    assert vd.select(keys).unique(maintain_order=True).rows() == [
        *((None, epoch, None) for epoch in range(1, 6)),
        (None, None, "epochs"),
    ]
    assert (mp["members"] == 48).all()


@pytest.mark.parametrize("pooled", ["epochs", "ratios"])
def test_pooled_values(family, pooled):
    zoo, twin = family["dense"], family["mp"]
    table = analysis.correlation_pairings(zoo, twin, resamples=20).filter(pooled=pooled)
    rows = analysis.paired_metrics(zoo, twin)
    rows = rows.filter(epoch=15) if pooled == "ratios" else rows.filter(pl.col("epoch") > 0)
    if pooled == "epochs":
        table, rows = table.filter(ratio=0.7), rows.filter(ratio=0.7)
    for pairing, column in ((DENSE_AND_SPARSE, "dense_acc"), (TRAIN_AND_TEST, "train_acc")):
        expected = np.corrcoef(rows[column].to_numpy(), rows["test_acc"].to_numpy())[0, 1]
        (row,) = table.filter(pairing=pairing).iter_rows(named=True)
        assert row["pearson"] == pytest.approx(expected)


def test_pairing_of_one_epoch_is_the_correlation_of_table_2(family):
    zoo, twin = family["dense"], family["vd"]
    pairings = analysis.correlation_pairings(zoo, twin, resamples=50)
    of_parents = pairings.filter(pl.col("pooled").is_null(), pairing=DENSE_AND_SPARSE)
    columns = ["epoch", "pearson", "kendall", "pearson_low", "pearson_high"]
    expected = analysis.correlation(zoo, twin, resamples=50).filter(pl.col("epoch") > 0)
    assert_frame_equal(of_parents.select(columns), expected.select(columns), rel_tol=1e-4)


def test_members_are_resampled_with_all_their_samples():
    """Copies of the same samples do not narrow the interval."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(30)
    y = x + rng.standard_normal(30)
    once = coefficients(x, y, resamples=100)
    members = np.tile(np.arange(30), 8)
    copies = coefficients(np.tile(x, 8), np.tile(y, 8), 100, 0, members)
    assert copies["pearson_low"] == pytest.approx(once["pearson_low"])
    assert copies["pearson_high"] == pytest.approx(once["pearson_high"])


def test_few_members_with_many_epochs_have_no_correlation():
    members = np.repeat(np.arange(19), 10)
    x = np.arange(190.0)
    assert coefficients(x, x, 10, 0, members)["remark"] == "too few members"
