"""Accuracy change of members, its consistency, and its predictability."""

import numpy as np
import polars as pl
import pytest

from tests.analysis.conftest import RATIOS
from tests.support import zoo_fixtures
from tests.support.altered_zoos import with_metrics
from zoojax import analysis
from zoojax.analysis import prunability
from zoojax.analysis.layer_statistics import layer_statistics


def test_rank_and_group_by_accuracy_change(family):
    zoo, twin = family["dense"], family["vd"]
    table = analysis.member_prunability(zoo, twin)
    before = zoo.metrics_history.filter(pl.col("epoch") == 50)["test_acc"].to_numpy()
    after = twin.metrics_history.filter(pl.col("epoch") == 5)["test_acc"].to_numpy()
    np.testing.assert_allclose(table["change"], after - before, atol=1e-6)
    order = np.argsort(-(after - before))
    assert table.sort("rank")["parent_id"].to_list() == order.tolist()
    friendly = table.filter(pl.col("group") == "friendly")["parent_id"].to_list()
    hard = table.filter(pl.col("group") == "hard")["parent_id"].to_list()
    assert set(friendly) == set(order[:5].tolist())
    assert set(hard) == set(order[-5:].tolist())
    assert "activation" in table.columns


def test_change_by_hyperparameters(family):
    zoo, twin = family["dense"], family["mp"]
    table = analysis.change_by_hyperparameters(zoo, twin)
    assert len(table) == 2 * len(RATIOS)
    row = table.filter((pl.col("value") == "relu") & (pl.col("ratio") == 0.9)).row(0, named=True)
    members = analysis.member_prunability(zoo, twin).filter(
        (pl.col("activation") == "relu") & (pl.col("ratio") == 0.9)
    )
    assert row["members"] == 24
    assert row["change_mean"] == pytest.approx(members["change"].to_numpy().mean(), rel=1e-5)
    expected = np.corrcoef(members["dense_acc"], members["test_acc"])[0, 1]
    assert row["pearson"] == pytest.approx(expected)
    assert row["pearson_low"] < row["pearson"] < row["pearson_high"]
    assert row["remark"] is None


def test_rank_consistency_of_identical_and_independent_populations(family, tmp_path):
    """In a copy where all ratios have the same accuracies, the same members are friendly."""
    accuracy = pl.col("test_acc")

    def same_for_all_ratios(table):
        ratios = family["mp"].members_table.select(pl.col("id").alias("member"), "parent_id")
        table = table.join(ratios, on="member", maintain_order="left")
        return table.with_columns(accuracy.first().over("parent_id", "epoch")).drop("parent_id")

    twin = with_metrics(family["mp"], tmp_path / "mp", same_for_all_ratios)
    table = analysis.rank_consistency(family["dense"], [twin])
    assert len(table) == 3
    assert table["kendall"].to_list() == pytest.approx([1.0] * 3)
    assert table["friendly_in_both"].to_list() == [1.0] * 3
    other = analysis.rank_consistency(family["dense"], [family["mp"], family["vd"]])
    assert len(other) == 6 and (other["kendall"] < 0.9).all()
    assert (other["kendall_low"] < other["kendall"]).all()


def test_outcome_that_depends_on_weights_is_predicted(family, tmp_path, monkeypatch):
    """Accuracy is a linear function of the layer statistics; sparsity is noise."""
    monkeypatch.setattr(prunability, "MIN_PREDICTED", 48)
    statistics = layer_statistics(family["dense"].params(50))
    scaled = (statistics - statistics.mean(0)) / (statistics.std(0) + 1e-9)
    score = np.float32(0.8 + 0.01 * scaled[:, :10].sum(axis=1))

    def from_statistics(table):
        last = table["epoch"].to_numpy() == 5
        values = table["test_acc"].to_numpy().copy()
        values[last] = score
        return table.with_columns(pl.Series("test_acc", values))

    twin = with_metrics(family["vd"], tmp_path / "vd", from_statistics)
    table = analysis.outcome_predictability(family["dense"], twin)
    r2 = {(t, f): r for t, f, r in table.select("target", "features", "r2").iter_rows()}
    assert r2["test_acc", "layer statistics"] > 0.8
    assert r2["test_acc", "dense accuracy"] < 0.2
    assert r2["sparsity", "layer statistics"] < 0.5
    assert (table["kendall_low"] < table["kendall"]).all()
    assert set(table["members"]) == {48}


def test_layer_statistics(family):
    params = family["dense"].params(50)
    statistics = layer_statistics(params)
    kernel = params["conv1"]["kernel"][7].ravel().astype(float)
    expected = [kernel.mean(), kernel.var(), *np.percentile(kernel, (1, 25, 50, 75, 99))]
    np.testing.assert_allclose(statistics[7, :7], expected, rtol=1e-9)
    assert statistics.shape == (48, 5 * 2 * 7)


def test_few_members_are_neither_grouped_nor_predicted(tmp_path_factory):
    zoo, twin = (
        zoo_fixtures.dense(tmp_path_factory),
        zoo_fixtures.variational_dropout(tmp_path_factory),
    )
    predicted = analysis.outcome_predictability(zoo, twin)
    assert predicted["r2"].null_count() == 6
    assert set(predicted["remark"]) == {"too few members"}
    consistency = analysis.rank_consistency(zoo, [twin, zoo_fixtures.pruned(tmp_path_factory)])
    assert consistency["kendall"].null_count() == len(consistency) > 0
    assert set(consistency["remark"]) == {"too few members"}
    assert analysis.member_prunability(zoo, twin)["group"].to_list() == [""] * 3
    assert len(zoo) < prunability.MIN_MEMBERS


def test_prediction_needs_a_hundred_members(family):
    predicted = analysis.outcome_predictability(family["dense"], family["mp"])
    assert predicted["r2"].null_count() == len(predicted)
    assert set(predicted["remark"]) == {"too few members"}
