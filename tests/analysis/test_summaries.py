"""Mean metrics by epoch, layer and hyperparameter, against independent computations."""

import numpy as np
import polars as pl
import pytest

from tests.support import zoo_fixtures
from tests.support.altered_zoos import with_diverged_member
from zoojax import analysis
from zoojax.storage.zoo import MEMBERS, open_zoo


@pytest.mark.parametrize("kind", ["dense", "mp", "vd"])
def test_mean_and_standard_deviation_over_members(family, kind):
    zoo = family[kind]
    table, metrics = analysis.summary(zoo), zoo.metrics_history
    row = table.row(len(table) - 1, named=True)
    rows = metrics.filter(pl.col("epoch") == row["epoch"])["test_acc"].to_numpy()
    if kind == "mp":
        rows = rows[zoo.members_table["ratio"].to_numpy() == row["ratio"]]
    assert row["members"] == len(rows) == 48
    np.testing.assert_allclose(row["test_acc_mean"], rows.mean(dtype=float), rtol=1e-6)
    np.testing.assert_allclose(row["test_acc_std"], rows.std(dtype=float), rtol=1e-4)


def test_diverged_member_is_counted_and_excluded(family, tmp_path):
    zoo = with_diverged_member(family["dense"], tmp_path / "dense", 3, epoch=20)
    table = analysis.summary(zoo)
    others = family["dense"].metrics_history.filter(pl.col("member") != 3)
    for epoch, diverged in ((19, 0), (20, 1)):
        row = table.filter(pl.col("epoch") == epoch).row(0, named=True)
        assert (row["members"], row["diverged"]) == (48, diverged)
    expected = others.filter(pl.col("epoch") == 20)["test_acc"].mean()
    np.testing.assert_allclose(row["test_acc_mean"], expected, rtol=1e-6)


def test_layer_sparsity_and_layer_sizes(family):
    table = analysis.layer_sparsity(family["vd"])
    sizes = dict(table.select("layer", "weights").unique().iter_rows())
    assert sizes == {"conv1": 200, "conv2": 1200, "conv3": 96, "fc1": 720, "fc2": 200}
    last = table.filter((pl.col("epoch") == 5) & (pl.col("layer") == "fc1"))
    metrics = family["vd"].metrics_history.filter(pl.col("epoch") == 5)
    np.testing.assert_allclose(last["mean"][0], metrics["sparsity_fc1"].mean(), rtol=1e-6)


def test_by_hyperparameters(family):
    table = analysis.by_hyperparameters(family["dense"], 50)
    assert table["hyperparameter"].unique().to_list() == ["activation"]
    relu = family["dense"].members_table.filter(pl.col("activation") == "relu")["id"]
    rows = family["dense"].metrics_history.filter(pl.col("member").is_in(relu.to_list()))
    expected = rows.filter(pl.col("epoch") == 50)["test_acc"].mean()
    row = table.filter(pl.col("value") == "relu").row(0, named=True)
    assert row["members"] == 24
    np.testing.assert_allclose(row["test_acc_mean"], expected, rtol=1e-6)


def test_extra_columns_of_converted_zoos_are_not_hyperparameters(family, tmp_path):
    copy = zoo_fixtures.copied(family["dense"], tmp_path / "dense")
    table = pl.read_parquet(copy / MEMBERS)
    extra = {"trial": [f"trial {i}" for i in range(48)], "missing_epochs": [[i] for i in range(48)]}
    table.with_columns(pl.Series(k, v) for k, v in extra.items()).write_parquet(copy / MEMBERS)
    by = analysis.by_hyperparameters(open_zoo(copy))
    assert set(by["hyperparameter"]) == {"activation"}
    assert "trial" not in analysis.member_metrics(open_zoo(copy)).columns


def test_pruning_frequency_of_each_weight(family):
    zoo = family["mp"]
    table = analysis.pruning_frequency(zoo, 15, 0.7)
    rows = zoo.members_table["ratio"].to_numpy() == 0.7
    for layer, leaves in zoo.params(15).items():
        zero = (leaves["kernel"][rows] == 0).mean(axis=0).ravel()
        of_layer = table.filter(pl.col("layer") == layer)
        assert of_layer["weight"].to_list() == list(range(zero.size))
        np.testing.assert_allclose(of_layer["frequency"], zero)
    assert table["frequency"].mean() == pytest.approx(0.7, abs=1e-3)
