"""Magnitude pruning compared with variational dropout at equal sparsity."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from tests.support.altered_zoos import with_metrics
from zoojax import analysis
from zoojax.analysis import method_comparison
from zoojax.errors import ZoojaxError


@pytest.mark.parametrize(
    ("target", "accuracy"),
    [(0.1, 0.9), (0.3, 0.85), (0.5, 0.8), (0.55, 0.7), (0.6, 0.6), (0.05, np.nan), (0.7, np.nan)],
)
def test_accuracy_when_a_sparsity_is_first_reached(target, accuracy):
    """Also if sparsity decreases afterwards."""
    sparsity, accuracies = np.array([0.1, 0.5, 0.6, 0.4]), np.array([0.9, 0.8, 0.6, 0.1])
    result = method_comparison.at_sparsity(sparsity, accuracies, [target])
    np.testing.assert_allclose(result, [accuracy])


def test_difference_and_crossover(family, tmp_path):
    """Pruning is better by 0.03 at 50 % and by 0.01 at 70 %, and worse by 0.01 at 90 %."""
    zoo = family["dense"]
    shift = np.random.default_rng(0).uniform(-0.02, 0.02, 48).astype(np.float32)

    def pruned(table):
        gain = {0.5: 0.03, 0.7: 0.01, 0.9: -0.01}
        members = family["mp"].members_table
        acc = [
            0.8 + float(shift[parent]) + gain[ratio]
            for parent, ratio in members.select("parent_id", "ratio").iter_rows()
        ]
        return table.with_columns(pl.Series("test_acc", acc * 16, dtype=pl.Float32))

    def dropout(table):
        epoch, member = table["epoch"].to_numpy(), table["member"].to_numpy()
        return table.with_columns(
            pl.Series("sparsity", epoch * 0.19, dtype=pl.Float32),
            pl.Series("test_acc", 0.8 + shift[member]),
        )

    mp = with_metrics(family["mp"], tmp_path / "mp", pruned)
    vd = with_metrics(family["vd"], tmp_path / "vd", dropout)
    table = analysis.compare_methods(zoo, mp, vd)
    assert table["members"].to_list() == [48] * 3
    np.testing.assert_allclose(table["difference"], [0.03, 0.01, -0.01], atol=1e-6)
    assert (table["low"] <= table["difference"] + 1e-6).all()
    row = analysis.crossover(zoo, mp, vd).row(0, named=True)
    assert (row["above"], row["below"]) == (0.7, 0.9)
    ends = [row["above_difference"], row["below_difference"]]
    assert ends == pytest.approx([0.01, -0.01], abs=1e-6)
    assert (row["sparsity"], row["members"]) == (None, 48)
    with pytest.raises(ZoojaxError, match="variational dropout varies with the epoch"):
        analysis.compare_methods(zoo, vd, mp)


def test_no_crossover(family, tmp_path):
    better = with_metrics(
        family["mp"], tmp_path / "mp", lambda t: t.with_columns(pl.lit(1.0).alias("test_acc"))
    )
    row = analysis.crossover(family["dense"], better, family["vd"]).row(0, named=True)
    assert set(row.values()) == {None}


@pytest.mark.parametrize(
    ("gains", "bracket"),
    [
        ([0.1, 0.02, -0.01, -0.2], (0.7, 0.8)),
        ([0.1, 0.02, 0.01, 0.0], (0.8, 0.9)),
        ([-0.1, 0.1, -0.1, 0.1], (0.7, 0.8)),
        ([0.1, -0.1, 0.1, -0.1], (0.8, 0.9)),
        ([0.1, np.nan, -0.1, -0.1], (0.5, 0.8)),
        ([-0.1, -0.1, 0.1, 0.2], None),
        ([0.1, 0.1, 0.1, 0.1], None),
        ([0.1, np.nan, np.nan, np.nan], None),
    ],
)
def test_crossover_is_bracketed_by_measured_ratios(monkeypatch, gains, bracket):
    ratios = np.array([0.5, 0.7, 0.8, 0.9])
    measured = ratios, np.tile(gains, (20, 1)), np.zeros((20, 4))
    monkeypatch.setattr(method_comparison, "_accuracies", lambda *zoos: measured)
    row = analysis.crossover(*[None] * 3).row(0, named=True)  # pyright: ignore[reportArgumentType]
    assert (row["above"], row["below"]) == (bracket or (None, None))
    assert row["sparsity"] is None


@pytest.mark.parametrize(
    ("ratios", "sparsity"),
    [((0.5, 0.85, 0.9), 0.86), ((0.5, 0.84, 0.9), None), ((0.84, 0.85, 0.89), 0.858)],
)
def test_crossover_is_a_point_only_between_close_ratios(monkeypatch, ratios, sparsity):
    gains = np.tile([0.1, 0.02, -0.08], (21, 1))
    gains[0, 2] = np.nan
    measured = np.array(ratios), gains, np.zeros((21, 3))
    monkeypatch.setattr(method_comparison, "_accuracies", lambda *zoos: measured)
    row = analysis.crossover(*[None] * 3).row(0, named=True)  # pyright: ignore[reportArgumentType]
    assert (row["above"], row["below"], row["members"]) == (*ratios[1:], 20)
    assert row["sparsity"] == (sparsity and pytest.approx(sparsity))


def test_interval_of_few_members_is_wide(monkeypatch):
    """A bootstrap of four values would stay within their range."""
    difference = np.array([0.01, 0.02, 0.03, 0.04])[:, None]
    measured = np.array([0.5]), 0.5 + difference, np.full((4, 1), 0.5)
    monkeypatch.setattr(method_comparison, "_accuracies", lambda *zoos: measured)
    zoo = SimpleNamespace(config=SimpleNamespace(sparsifier=SimpleNamespace(method="x")))
    other = SimpleNamespace(config=SimpleNamespace(sparsifier=SimpleNamespace(method="y")))
    row = analysis.compare_methods(*cast(Any, (None, zoo, other))).row(0, named=True)
    assert row["difference"] == pytest.approx(0.025)
    # Student's t with three degrees of freedom: 3.182 standard errors.
    assert row["high"] - row["difference"] == pytest.approx(3.182 * 0.01291 / 2, rel=1e-3)
    assert row["low"] < 0.01 and row["high"] > 0.04


def test_no_crossover_from_few_members(monkeypatch):
    measured = np.array([0.5, 0.9]), np.tile([0.1, -0.1], (19, 1)), np.zeros((19, 2))
    monkeypatch.setattr(method_comparison, "_accuracies", lambda *zoos: measured)
    row = analysis.crossover(*[None] * 3).row(0)  # pyright: ignore[reportArgumentType]
    assert set(row) == {None}
