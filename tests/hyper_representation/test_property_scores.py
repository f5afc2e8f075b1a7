"""Scores of predicted properties: scopes, the mean of each epoch, differences, and null cases."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import r2_score

from zoojax.hyper_representation.block_mean import BlockMean
from zoojax.hyper_representation.dataset import PROPERTIES
from zoojax.hyper_representation.predictors import Prediction, Predictor, SplitArrays
from zoojax.hyper_representation.probes import Ridge
from zoojax.hyper_representation.property_scores import (
    SCOPES,
    PropertyScores,
    block_numbers,
    scopes,
)

EPOCHS, SIZES = (0, 3, 5), {"train": 60, "val": 20, "test": 30}


def make_metrics(seed: int = 0, **changes) -> pl.DataFrame:
    """Properties of states: progress with the epoch, a part of each member, and noise."""
    rng = np.random.default_rng(seed)
    count = sum(SIZES.values())
    own = 0.05 * rng.standard_normal(count)
    frames = [
        pl.DataFrame(
            {
                "zoo": ["zoo"] * count,
                "origin": np.arange(count),
                "epoch": np.full(count, epoch),
                "test_acc": 0.1 * epoch + own,
                "sparsity": 0.1 * epoch + 0.01 * rng.standard_normal(count),
                "ggap": 0.05 + own + 0.01 * rng.standard_normal(count),
                "part": np.repeat(list(SIZES), list(SIZES.values())),
            }
        )
        for epoch in EPOCHS
    ]
    return pl.concat(frames).with_columns(**changes)


def row(table: pl.DataFrame, **keys) -> dict:
    return table.row(
        by_predicate=pl.all_horizontal(pl.col(k) == v for k, v in keys.items()), named=True
    )


@pytest.fixture(scope="module")
def scores() -> PropertyScores:
    metrics = make_metrics()
    collected = PropertyScores(metrics)
    collected.add(Ridge("own"), metrics.select("ggap", "test_acc").to_numpy())
    collected.add(Ridge("progress"), metrics.select("epoch").to_numpy())
    collected.add(BlockMean(), block_numbers(metrics))
    return collected


def test_within_epochs_the_training_mean_is_subtracted():
    metrics = make_metrics()
    everything, within, last = scopes(metrics)
    assert [s.name for s in (everything, within, last)] == list(SCOPES)
    for epoch in EPOCHS:
        rows = (metrics["epoch"] == epoch).to_numpy()
        train = rows & (metrics["part"] == "train").to_numpy()
        expected = everything.targets[rows] - everything.targets[train].mean(axis=0)
        np.testing.assert_allclose(within.targets[rows], expected, atol=1e-12)
    assert [len(part) for part in within.parts] == [3 * size for size in SIZES.values()]
    assert [len(part) for part in last.parts] == list(SIZES.values())
    assert set(metrics["epoch"].to_numpy()[last.parts.test]) == {EPOCHS[-1]}


def test_epoch_explains_progress_but_not_members(scores):
    table = scores.table()
    by_epoch = {"features": "mean of each epoch"}
    explained = row(table, **by_epoch, scope="all states", property="test_acc")
    assert 0.8 < explained["r2_low"] < explained["r2"] < explained["r2_high"] <= 1
    for scope in ("within epochs", "last epoch"):
        inside = row(table, **by_epoch, scope=scope, property="test_acc")
        # A constant prediction has no ranks; its R2 is that of another mean.
        assert -0.5 < inside["r2"] <= 0 and inside["tau"] is None
        # The members' own part is among the features.
        best = row(table, features="own", scope=scope, property="test_acc")
        assert best["r2"] > 0.95 and best["tau"] > 0.8 and best["tau_low"] > 0.7
        progress = row(table, features="progress", scope=scope, property="ggap")
        assert progress["r2"] < 0.2


def test_mean_of_each_epoch_is_that_of_training_members(scores):
    metrics = make_metrics()
    means = metrics.filter(part="train").group_by("epoch").agg(pl.col("sparsity").mean())
    test = metrics.filter(part="test").join(means, on="epoch", suffix="_mean")
    expected = r2_score(test["sparsity"], test["sparsity_mean"])
    found = row(
        scores.table(), features="mean of each epoch", scope="all states", property="sparsity"
    )
    assert found["r2"] == pytest.approx(expected) and found["lambda"] is None


def test_epoch_is_not_predicted_from_itself_or_within_epochs(scores):
    table = scores.table().filter(property="epoch")
    known = table.filter(features="mean of each epoch")
    assert len(known) == 3 and known["r2"].null_count() == 3
    assert table.filter(pl.col("scope") != "all states")["r2"].null_count() == 6
    assert row(table, features="progress", scope="all states")["r2"] == pytest.approx(1)


def test_differences_are_those_of_the_scores(scores):
    table, differences = scores.table(), scores.differences(["own"])
    assert len(differences) == 2 * len(SCOPES) * len(PROPERTIES)
    for measured in differences.to_dicts():
        keys = {name: measured[name] for name in ("scope", "property")}
        own, other = (row(table, features=measured[name], **keys) for name in ("features", "other"))
        for score in ("r2", "tau"):
            difference = measured[f"{score}_difference"]
            if own[score] is None or other[score] is None:
                assert difference is None and measured[f"{score}_difference_low"] is None
            else:
                assert difference == pytest.approx(own[score] - other[score])
                low, high = (measured[f"{score}_difference_{end}"] for end in ("low", "high"))
                # Resamples of tau are slightly biased.
                assert low - 0.01 <= difference <= high + 0.01
    better = row(differences, other="progress", scope="within epochs", property="test_acc")
    assert better["r2_difference_low"] > 0.5


@pytest.mark.parametrize(
    "value", [pl.lit(0.3, pl.Float32), pl.lit(None, pl.Float64), pl.lit(float("nan"))]
)
def test_constant_or_missing_properties_are_null(value):
    metrics = make_metrics(sparsity=value)
    collected = PropertyScores(metrics)
    collected.add(Ridge("own"), metrics.select("test_acc").to_numpy())
    table = collected.table().filter(property="sparsity")
    assert table.drop("features", "scope", "property").null_count().row(0) == (3,) * 7
    assert collected.table().filter(property="test_acc")["r2"].null_count() == 0


def test_equal_members_of_different_epochs_are_constant_within_epochs():
    """Rounding of their mean must not look like variation."""
    values = {0: 0.1, 3: 0.3, 5: 0.7}
    metrics = make_metrics(
        sparsity=pl.col("epoch").replace_strict(values, return_dtype=pl.Float32).cast(pl.Float64)
    )
    assert (scopes(metrics)[1].targets[:, PROPERTIES.index("sparsity")] == 0).all()


class Recorder(Predictor):
    """Records the targets that a predictor is given."""

    name = "recorder"
    inputs = "nothing"
    known = ("ggap",)

    def __init__(self):
        self.shapes: list[tuple[int, ...]] = []

    def predict(self, inputs: SplitArrays, targets: SplitArrays) -> Prediction:
        self.shapes.append(targets.train.shape)
        return Prediction(np.zeros_like(targets.test))


def test_predictors_are_given_predictable_targets_only():
    metrics, recorder = make_metrics(), Recorder()
    PropertyScores(metrics).add(recorder, np.zeros((len(metrics), 1)))
    # Neither the gap, which is known, nor the epoch within epochs.
    assert recorder.shapes == [(180, 3), (180, 2), (60, 2)]
