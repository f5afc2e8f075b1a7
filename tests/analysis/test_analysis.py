"""Every statistic against an independent computation, or a population whose answer is known."""

import functools
import json
import os
import shutil
import subprocess
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import ROOT, synthetic_zoos, zoo_fixtures
from zoojax import analysis, presets
from zoojax.analysis import method_comparison, paper_comparison, prunability, rank_correlation
from zoojax.analysis.layer_statistics import layer_statistics
from zoojax.architectures import cnn
from zoojax.errors import ZoojaxError
from zoojax.presets import PRESETS
from zoojax.runtime import population
from zoojax.storage import zoo_images
from zoojax.storage.zoo import CONFIG, MEMBERS, METRICS, Zoo, open_zoo
from zoojax.training import inference
from zoojax.training.hyperparameters import Grid

RATIOS = (0.5, 0.7, 0.9)
ALL = ("dense", "mp", "vd")


@pytest.fixture(scope="module")
def family(tmp_path_factory) -> dict[str, Zoo]:
    """48 members of two activations, and both their twins; metrics made up."""
    root = tmp_path_factory.mktemp("family")
    dense = synthetic_zoos.dense(root / "dense", 24, Grid(activations=("tanh", "relu")))
    return {
        "dense": dense,
        "mp": synthetic_zoos.pruned(root / "mp", dense, RATIOS),
        "vd": synthetic_zoos.dropped_out(root / "vd", dense, epochs=5),
    }


@pytest.fixture(scope="module")
def found(family) -> analysis.Analysis:
    return analysis.analyze(family["dense"], [family["vd"], family["mp"]])


def changed(zoo: Zoo, to, change) -> Zoo:
    """A copy of a zoo with other metrics."""
    copy = zoo_fixtures.copied(zoo, to)
    change(zoo.metrics_history).write_parquet(copy / METRICS)
    return open_zoo(copy)


def spoilt(zoo: Zoo, to, member: int, epoch: int = 0) -> Zoo:
    """A copy of a zoo in which one member diverged at an epoch."""
    gone = (pl.col("member") == member) & (pl.col("epoch") >= epoch)
    return changed(
        zoo,
        to,
        lambda table: table.with_columns(
            pl.when(gone).then(np.nan).otherwise(pl.col("test_acc")).alias("test_acc"),
            pl.col("finite") & ~gone,
        ),
    )


# Populations over epochs.


@pytest.mark.parametrize("kind", ALL)
def test_summary_is_the_mean_and_deviation_over_members(family, kind):
    zoo = family[kind]
    table, metrics = analysis.summary(zoo), zoo.metrics_history
    row = table.row(len(table) - 1, named=True)
    rows = metrics.filter(pl.col("epoch") == row["epoch"])["test_acc"].to_numpy()
    if kind == "mp":
        rows = rows[zoo.members_table["ratio"].to_numpy() == row["ratio"]]
    assert row["members"] == len(rows) == 48
    np.testing.assert_allclose(row["test_acc_mean"], rows.mean(dtype=float), rtol=1e-6)
    np.testing.assert_allclose(row["test_acc_std"], rows.std(dtype=float), rtol=1e-4)


def test_a_diverged_member_is_counted_and_left_out(family, tmp_path):
    zoo = spoilt(family["dense"], tmp_path / "dense", 3, epoch=20)
    table = analysis.summary(zoo)
    sound = family["dense"].metrics_history.filter(pl.col("member") != 3)
    for epoch, diverged in ((19, 0), (20, 1)):
        row = table.filter(pl.col("epoch") == epoch).row(0, named=True)
        assert (row["members"], row["diverged"]) == (48, diverged)
    expected = sound.filter(pl.col("epoch") == 20)["test_acc"].mean()
    np.testing.assert_allclose(row["test_acc_mean"], expected, rtol=1e-6)


def test_layer_sparsity_counts_the_weights_of_each_layer(family):
    table = analysis.layer_sparsity(family["vd"])
    sizes = dict(table.select("layer", "weights").unique().iter_rows())
    assert sizes == {"conv1": 200, "conv2": 1200, "conv3": 96, "fc1": 720, "fc2": 200}
    last = table.filter((pl.col("epoch") == 5) & (pl.col("layer") == "fc1"))
    metrics = family["vd"].metrics_history.filter(pl.col("epoch") == 5)
    np.testing.assert_allclose(last["mean"][0], metrics["sparsity_fc1"].mean(), rtol=1e-6)


def test_by_hyperparameters_splits_the_members(family):
    table = analysis.by_hyperparameters(family["dense"], 50)
    assert table["hyperparameter"].unique().to_list() == ["activation"]
    mine = family["dense"].members_table.filter(pl.col("activation") == "relu")["id"]
    rows = family["dense"].metrics_history.filter(pl.col("member").is_in(mine.to_list()))
    expected = rows.filter(pl.col("epoch") == 50)["test_acc"].mean()
    row = table.filter(pl.col("value") == "relu").row(0, named=True)
    assert row["members"] == 24
    np.testing.assert_allclose(row["test_acc_mean"], expected, rtol=1e-6)


def test_pruning_frequency_of_every_weight(family):
    zoo = family["mp"]
    table = analysis.pruning_frequency(zoo, 15, 0.7)
    chosen = zoo.members_table["ratio"].to_numpy() == 0.7
    for layer, leaves in zoo.params(15).items():
        zero = (leaves["kernel"][chosen] == 0).mean(axis=0).ravel()
        of_layer = table.filter(pl.col("layer") == layer)
        assert of_layer["weight"].to_list() == list(range(zero.size))
        np.testing.assert_allclose(of_layer["frequency"], zero)
    assert table["frequency"].mean() == pytest.approx(0.7, abs=1e-3)


# Agreement.


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 2500), st.integers(2, 9))
@settings(max_examples=30)
def test_pairwise_agreement_by_counting(members, others, images, classes):
    rng = np.random.default_rng(images)
    one = rng.integers(0, classes, (members, images)).astype(np.uint16)
    other = rng.integers(0, classes, (others, images)).astype(np.uint16)
    expected = [[np.mean(a == b) for b in other] for a in one]
    np.testing.assert_allclose(analysis.pairwise(one, other), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ALL)
def test_predictions_are_the_largest_logits(tmp_path_factory, kind):
    zoo = zoo_fixtures.KINDS[kind](tmp_path_factory)
    images = jnp.asarray(zoo_images.load_images(zoo, None).test.images)
    params, model = zoo.sparse_params(), cnn.CNN(zoo.config.shape, "tanh")
    one = jax.jit(lambda p: cnn.logits(model, {"params": p}, images))
    logits = [one(population.take(params, i)) for i in range(len(zoo))]
    np.testing.assert_array_equal(analysis.predictions(zoo), np.argmax(logits, axis=-1))


def test_predictions_of_a_grid_are_in_the_order_of_its_members(family):
    zoo = family["dense"]
    images = zoo_images.load_images(zoo, None).test.images[:50]
    answers, params = inference.predict(zoo, images), zoo.params()
    assert zoo.members_table["activation"].n_unique() == 2
    for i in (0, 23, 24, 47):
        model = cnn.CNN(zoo.config.shape, zoo.members_table["activation"][i])
        logits = jax.jit(functools.partial(cnn.logits, model))(
            {"params": population.take(params, i)}, images
        )
        np.testing.assert_array_equal(answers[i], np.argmax(logits, axis=-1))


@pytest.mark.parametrize("kind", ["mp", "vd"])
def test_agreement_of_twins_with_their_parents(tmp_path_factory, kind):
    zoo, twin = zoo_fixtures.dense(tmp_path_factory), zoo_fixtures.KINDS[kind](tmp_path_factory)
    table = analysis.agreement(zoo, twin)
    before, after = analysis.predictions(zoo), analysis.predictions(twin)
    ids = zoo.members_table["id"].to_list()
    for row, parent in enumerate(twin.members_table["parent_id"].to_list()):
        same = sum(before[ids.index(parent)] == after[row]) / before.shape[1]
        assert table["agreement"][row] == pytest.approx(same)
        assert table["parent_id"][row] == parent
    if kind == "vd":  # before any training it is its parent
        assert (analysis.agreement(zoo, twin, 0)["agreement"] > 0.9).all()


def test_a_zoo_agrees_with_itself(tmp_path_factory):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    table = analysis.agreement_matrix(zoo)
    matrix = table.drop("member").to_numpy()
    assert table.columns == ["member", *map(str, zoo.members_table["id"])]
    np.testing.assert_array_equal(np.diag(matrix), 1)
    np.testing.assert_array_equal(matrix, matrix.T)


def test_a_diverged_twin_has_no_agreement(tmp_path_factory, tmp_path):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    twin = spoilt(zoo_fixtures.dropped_out(tmp_path_factory), tmp_path / "vd", 1)
    agreements = analysis.agreement(zoo, twin)["agreement"].to_list()
    assert agreements[1] is None and None not in (agreements[0], agreements[2])
    matrix = analysis.agreement_matrix(zoo, twin).drop("member").to_numpy()
    assert np.isnan(matrix[:, 1]).all() and np.isfinite(matrix[:, [0, 2]]).all()


# Correlation.

samples = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=4, max_size=20)


@given(samples, st.integers(0, 100))
def test_resampled_coefficients_are_those_of_the_resample(pairs, seed):
    """Ties and repetitions too."""
    x, y = np.array(pairs, float).T
    drawn = np.random.default_rng(seed).integers(0, len(x), (5, len(x)))
    times = np.stack([np.bincount(row, minlength=len(x)) for row in drawn])
    r = rank_correlation.resampled_pearson(x, y, times)
    tau = rank_correlation.resampled_kendall(x, y, times)
    for i, row in enumerate(drawn):
        if np.ptp(x[row]) == 0 or np.ptp(y[row]) == 0:
            assert np.isnan(tau[i]) and np.isnan(r[i])
            continue
        assert r[i] == pytest.approx(np.corrcoef(x[row], y[row])[0, 1], abs=1e-9)
        assert tau[i] == pytest.approx(_kendall(x[row], y[row]), abs=1e-6)


def test_the_interval_is_the_bootstraps():
    """Of 40 normal pairs, beside scipy's own percentile bootstrap."""
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


def _kendall(x, y) -> float:
    """Tau-b by counting pairs."""
    i, j = np.triu_indices(len(x), 1)
    a, b = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
    return float((a * b).sum() / np.sqrt((a != 0).sum() * (b != 0).sum()))


def test_correlation_of_every_ratio_and_epoch(family):
    zoo, twin = family["dense"], family["mp"]
    table = analysis.correlation(zoo, twin, resamples=50)
    assert len(table) == len(RATIOS) * 16
    row = table.filter((pl.col("ratio") == 0.9) & (pl.col("epoch") == 15)).row(0, named=True)
    before = zoo.metrics_history.filter(pl.col("epoch") == 50)["test_acc"].to_numpy()
    mine = twin.members_table["ratio"].to_numpy() == 0.9
    after = twin.metrics_history.filter(pl.col("epoch") == 15)["test_acc"].to_numpy()[mine]
    assert row["pearson"] == pytest.approx(np.corrcoef(before, after)[0, 1])
    assert row["kendall"] == pytest.approx(_kendall(before, after))
    assert row["pearson_low"] < row["pearson"] < row["pearson_high"]


@pytest.mark.parametrize("x", [[1.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
def test_no_correlation_where_there_is_none(x):
    assert set(rank_correlation.coefficients(np.array(x), np.arange(len(x))).values()) == {None}


# Friendly and hard members.


def test_friendly_members_lost_least(family):
    zoo, twin = family["dense"], family["vd"]
    table = analysis.member_prunability(zoo, twin)
    before = zoo.metrics_history.filter(pl.col("epoch") == 50)["test_acc"].to_numpy()
    after = twin.metrics_history.filter(pl.col("epoch") == 5)["test_acc"].to_numpy()
    np.testing.assert_allclose(table["change"], after - before, atol=1e-6)
    order = np.argsort(-(after - before))
    assert table.sort("rank")["parent_id"].to_list() == order.tolist()
    friendly_ones = table.filter(pl.col("group") == "friendly")["parent_id"].to_list()
    hard_ones = table.filter(pl.col("group") == "hard")["parent_id"].to_list()
    assert set(friendly_ones) == set(order[:5].tolist())
    assert set(hard_ones) == set(order[-5:].tolist())
    assert "activation" in table.columns


def test_change_by_hyperparameters_is_that_of_its_members(family):
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


def test_a_population_is_consistent_with_its_copy(family, tmp_path):
    """All ratios of the twin with the accuracies of one: the same members are friendly."""
    accuracy = pl.col("test_acc")

    def alike(table):
        ratios = family["mp"].members_table.select(pl.col("id").alias("member"), "parent_id")
        table = table.join(ratios, on="member", maintain_order="left")
        return table.with_columns(accuracy.first().over("parent_id", "epoch")).drop("parent_id")

    twin = changed(family["mp"], tmp_path / "mp", alike)
    table = analysis.rank_consistency(family["dense"], [twin])
    assert len(table) == 3
    assert table["kendall"].to_list() == pytest.approx([1.0] * 3)
    assert table["friendly_in_both"].to_list() == [1.0] * 3
    other = analysis.rank_consistency(family["dense"], [family["mp"], family["vd"]])
    assert len(other) == 6 and (other["kendall"] < 0.9).all()


def test_what_the_weights_decide_is_predicted(family, tmp_path):
    """An accuracy that is a linear function of the layer statistics, and one that is noise."""
    statistics = layer_statistics(family["dense"].params(50))
    scaled = (statistics - statistics.mean(0)) / (statistics.std(0) + 1e-9)
    score = np.float32(0.8 + 0.01 * scaled[:, :10].sum(axis=1))

    def decided(table):
        last = table["epoch"].to_numpy() == 5
        values = table["test_acc"].to_numpy().copy()
        values[last] = score
        return table.with_columns(pl.Series("test_acc", values))

    twin = changed(family["vd"], tmp_path / "vd", decided)
    table = analysis.outcome_predictability(family["dense"], twin)
    r2 = {(t, f): r for t, f, r in table.select("target", "features", "r2").iter_rows()}
    assert r2["test_acc", "layer statistics"] > 0.8
    assert r2["test_acc", "dense accuracy"] < 0.2
    assert r2["sparsity", "layer statistics"] < 0.5


def test_layer_statistics_by_hand(family):
    params = family["dense"].params(50)
    found = layer_statistics(params)
    kernel = params["conv1"]["kernel"][7].ravel().astype(float)
    expected = [kernel.mean(), kernel.var(), *np.percentile(kernel, (1, 25, 50, 75, 99))]
    np.testing.assert_allclose(found[7, :7], expected, rtol=1e-9)
    assert found.shape == (48, 5 * 2 * 7)


def test_few_members_are_not_predicted(tmp_path_factory):
    zoo, twin = zoo_fixtures.dense(tmp_path_factory), zoo_fixtures.dropped_out(tmp_path_factory)
    assert analysis.outcome_predictability(zoo, twin)["r2"].null_count() == 6
    assert analysis.member_prunability(zoo, twin)["group"].to_list() == [""] * 3
    assert len(zoo) < prunability.MIN_MEMBERS


# Magnitude pruning against variational dropout.


@pytest.mark.parametrize(
    ("wanted", "accuracy"),
    [(0.1, 0.9), (0.3, 0.85), (0.5, 0.8), (0.55, 0.7), (0.6, 0.6), (0.05, np.nan), (0.7, np.nan)],
)
def test_accuracy_where_a_sparsity_is_first_reached(wanted, accuracy):
    """Sparsity may fall again afterwards."""
    sparsity, accuracies = np.array([0.1, 0.5, 0.6, 0.4]), np.array([0.9, 0.8, 0.6, 0.1])
    found = method_comparison.at_sparsity(sparsity, accuracies, [wanted])
    np.testing.assert_allclose(found, [accuracy])


def test_methods_at_equal_sparsity(family, tmp_path):
    """Pruning is better by 0.03 at 50 %, by 0.01 at 70 %, and worse by 0.01 at 90 %."""
    zoo = family["dense"]
    shift = np.random.default_rng(0).uniform(-0.02, 0.02, 48).astype(np.float32)

    def pruned(table):
        gain = {0.5: 0.03, 0.7: 0.01, 0.9: -0.01}
        roster = family["mp"].members_table
        acc = [
            0.8 + float(shift[parent]) + gain[ratio]
            for parent, ratio in roster.select("parent_id", "ratio").iter_rows()
        ]
        return table.with_columns(pl.Series("test_acc", acc * 16, dtype=pl.Float32))

    def dropped(table):
        epoch, member = table["epoch"].to_numpy(), table["member"].to_numpy()
        return table.with_columns(
            pl.Series("sparsity", epoch * 0.19, dtype=pl.Float32),
            pl.Series("test_acc", 0.8 + shift[member]),
        )

    mp = changed(family["mp"], tmp_path / "mp", pruned)
    vd = changed(family["vd"], tmp_path / "vd", dropped)
    table = analysis.compare_methods(zoo, mp, vd)
    assert table["members"].to_list() == [48] * 3
    np.testing.assert_allclose(table["difference"], [0.03, 0.01, -0.01], atol=1e-6)
    assert (table["low"] <= table["difference"] + 1e-6).all()
    row = analysis.crossover(zoo, mp, vd).row(0, named=True)
    assert (row["above"], row["below"]) == (0.7, 0.9)
    ends = [row["above_difference"], row["below_difference"]]
    assert ends == pytest.approx([0.01, -0.01], abs=1e-6)
    with pytest.raises(ZoojaxError, match="kind vd, not mp"):
        analysis.compare_methods(zoo, vd, mp)


def test_methods_that_never_cross(family, tmp_path):
    better = changed(
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
def test_a_crossing_lies_between_measured_ratios(monkeypatch, gains, bracket):
    """Whatever the differences there, only ratios that were measured are named."""
    ratios = np.array([0.5, 0.7, 0.8, 0.9])
    measured = ratios, np.tile(gains, (5, 1)), np.zeros((5, 4))
    monkeypatch.setattr(method_comparison, "_accuracies", lambda *zoos: measured)
    row = analysis.crossover(*[None] * 3).row(0, named=True)  # pyright: ignore[reportArgumentType]
    assert (row["above"], row["below"]) == (bracket or (None, None))


def test_two_members_name_no_crossing(monkeypatch):
    measured = np.array([0.5, 0.9]), np.tile([0.1, -0.1], (2, 1)), np.zeros((2, 2))
    monkeypatch.setattr(method_comparison, "_accuracies", lambda *zoos: measured)
    row = analysis.crossover(*[None] * 3).row(0)  # pyright: ignore[reportArgumentType]
    assert set(row) == {None}


# The paper.


def test_published_tables_as_printed():
    table = analysis.paper_results("usps-s-seed")

    def value(**where) -> tuple:
        row = table.filter(pl.col(k).eq_missing(v) for k, v in where.items())
        assert len(row) == 1
        return row["mean"][0], row["std"][0]

    agreed = value(table="Tables 1, 9", method="vd", quantity="agreement", sparsity=0.885)
    assert agreed == pytest.approx((0.866, 0.011))
    assert value(table="Table 2", method="mp", quantity="kendall", ratio=0.8) == (0.716, None)
    pruned = value(table="Table 5", ratio=0.9, epoch=15, quantity="test_acc")
    assert pruned == pytest.approx((0.738, 0.173))
    layer = value(table="Table 7", epoch=25, quantity="sparsity_conv1")
    assert layer[0] == pytest.approx(0.935)
    assert analysis.paper_results("digits-s-seed").is_empty()


@pytest.fixture
def papers(found, family, monkeypatch) -> analysis.Analysis:
    """The analysis as it would be if its zoo and twins were the paper's."""
    monkeypatch.setattr(presets, "difference", lambda zoo: None)
    monkeypatch.setattr(presets, "twin_difference", lambda zoo, twin: None)
    zoo = open_zoo(family["dense"].path)
    zoo.config = replace(zoo.config, preset="usps-s-seed")
    return replace(found, zoo=zoo)


def test_ours_beside_the_papers(found, papers):
    table = analysis.compare_with_paper(papers)
    row = table.filter(
        (pl.col("table") == "Table 5") & (pl.col("ratio") == 0.9) & (pl.col("epoch") == 15)
    ).filter(pl.col("quantity") == "test_acc")
    ours = found.tables["trajectories"].filter(
        (pl.col("method") == "mp") & (pl.col("ratio") == 0.9) & (pl.col("epoch") == 15)
    )
    assert row["ours_mean"][0] == pytest.approx(ours["test_acc_mean"][0])
    assert row["difference"][0] == pytest.approx(ours["test_acc_mean"][0] - 0.738)
    assert {"Tables 1, 9", "Table 6", "Table 7", "Table 8"} <= set(table["table"])
    # Five epochs come nowhere near the sparsity that the paper gives.
    agreed = table.filter((pl.col("table") == "Tables 1, 9") & (pl.col("method") == "vd"))
    assert agreed.is_empty()
    assert paper_comparison.comparison_notes(papers) == []


def test_a_twin_made_otherwise_is_comparison_notes_with_the_papers(papers, monkeypatch):
    def differs(zoo, twin) -> str | None:
        return "it is too small" if twin.config.kind == "vd" else None

    monkeypatch.setattr(presets, "twin_difference", differs)
    assert set(analysis.compare_with_paper(papers)["method"]) == {"mp"}
    (note,) = paper_comparison.comparison_notes(papers)
    assert "made-up" not in note and "twins of the paper's usps-s-seed: it is too small." in note


def test_a_zoo_that_only_says_it_is_the_papers_is_comparison_notes(family, tmp_path):
    """Digits, other members and other epochs, with usps-s-seed in zoo.json."""
    for kind in ("dense", "mp"):
        shutil.copytree(family[kind].path, tmp_path / kind)
    content = json.loads((tmp_path / "dense/zoo.json").read_text())
    (tmp_path / "dense/zoo.json").write_text(json.dumps({**content, "preset": "usps-s-seed"}))
    zoo = open_zoo(tmp_path / "dense")
    content = json.loads((tmp_path / "mp/zoo.json").read_text())
    content["parent"] |= {"fingerprint": zoo.fingerprint}
    (tmp_path / "mp/zoo.json").write_text(json.dumps(content))
    found = analysis.analyze(zoo, [open_zoo(tmp_path / "mp")])
    assert "paper" not in found.tables
    assert f"{zoo.path} is not compared with the paper's usps-s-seed" in " ".join(found.notes)
    assert analysis.compare_with_paper(found).is_empty()


# All of it.


def test_everything_is_found(found):
    assert set(found.tables) == {
        *("members", "trajectories", "layer_sparsity", "hyperparameters", "correlation"),
        *("friendliness", "consistency", "predictability", "pruning_frequency"),
        *("methods", "crossing", "agreement", "agreement_summary"),
        "change_by_hyperparameters",
    }
    (note,) = found.notes  # five epochs
    assert "no epoch within 3 points of 80% sparsity" in note
    assert set(found.tables["trajectories"]["method"]) == set(ALL)
    assert all(matrix.shape == (48, 48) for matrix in found.matrices.values())
    assert len(found.matrices) == 5


def test_a_zoo_without_twins(family):
    alone = analysis.analyze(family["dense"], [])
    assert set(alone.tables) == {"members", "trajectories", "hyperparameters"}
    assert [note for note in alone.notes if "twin was given" in note] == alone.notes
    assert len(alone.notes) == 2


def test_a_diverged_member_is_noted(family, tmp_path):
    twin = spoilt(family["vd"], tmp_path / "vd", 5, epoch=3)
    noted = analysis.analyze(family["dense"], [twin])
    assert any("1 of 48 members" in note for note in noted.notes)
    table = noted.tables["correlation"]
    assert table.filter(pl.col("epoch") == 4)["diverged"].to_list() == [1]
    assert 5 not in noted.tables["friendliness"]["parent_id"].to_list()


def test_a_single_member_has_no_correlation(tmp_path):
    zoo = synthetic_zoos.dense(tmp_path / "dense", 1)
    found = analysis.analyze(zoo, [synthetic_zoos.pruned(tmp_path / "mp", zoo, (0.5,))])
    assert found.tables["correlation"]["pearson"].null_count() == 16
    assert any("fewer than three members are left" in note for note in found.notes)


def other_parent(family, folder):
    zoo = synthetic_zoos.dense(folder / "other", 2)
    return zoo, [synthetic_zoos.pruned(folder / "twin", zoo, (0.5,)), family["vd"]]


def other_images(family, folder):
    copy = zoo_fixtures.copied(family["vd"], folder / "vd")
    text = (copy / CONFIG).read_text().replace(family["vd"].config.data_hash, "0" * 64)
    (copy / CONFIG).write_text(text)
    return family["dense"], [open_zoo(copy)]


def two_of_a_kind(family, folder):
    return family["dense"], [
        family["vd"],
        open_zoo(zoo_fixtures.copied(family["vd"], folder / "vd")),
    ]


def a_twin_first(family, folder):
    return family["vd"], [family["mp"]]


def no_twin(family, folder):
    return family["dense"], [family["dense"]]


def nothing_yet(family, folder):
    copy = zoo_fixtures.copied(family["dense"], folder / "dense")
    (copy / METRICS).unlink()
    return open_zoo(copy), []


def no_parent_metrics(family, folder):
    zoo = changed(
        family["dense"], folder / "dense", lambda table: table.filter(pl.col("epoch") < 50)
    )
    return zoo, [family["vd"]]


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (other_parent, "twin of another zoo"),
        (other_images, "other images"),
        (two_of_a_kind, "twins of one kind"),
        (a_twin_first, "is itself a twin"),
        (no_twin, "is a dense zoo, not a twin"),
        (nothing_yet, "no completed epoch yet"),
        (no_parent_metrics, "no metrics of epoch 50"),
    ],
)
def test_zoos_that_do_not_belong_together(family, tmp_path, make, named):
    zoo, twins = make(family, tmp_path)
    with pytest.raises(ZoojaxError, match=named):
        analysis.analyze(zoo, twins)


def test_a_parent_whose_states_are_gone_is_noted(family, tmp_path):
    """Metrics without states: what needs no weights is still told."""
    copy = zoo_fixtures.copied(family["dense"], tmp_path / "dense")
    for file in sorted((copy / "states/50").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    (copy / "states/50").rmdir()
    found = analysis.analyze(open_zoo(copy), [family["vd"]])
    assert any("lacks the states" in note for note in found.notes)
    assert "agreement" not in found.tables and "correlation" in found.tables


def test_tables_are_written(found, tmp_path):
    (tmp_path / "paper.csv").write_text("of an earlier analysis")
    (tmp_path / "notes.txt").write_text("a user's own")
    analysis.write_tables(found, tmp_path)
    assert not (tmp_path / "paper.csv").exists() and (tmp_path / "notes.txt").exists()
    for name, table in found.tables.items():
        assert pl.read_parquet(tmp_path / f"{name}.parquet").equals(table)
        assert len(pl.read_csv(tmp_path / f"{name}.csv")) == len(table)
    dense = pl.read_parquet(tmp_path / "agreement_dense.parquet")
    assert dense.columns == ["member", *map(str, range(48))]
    np.testing.assert_array_equal(dense.drop("member").to_numpy(), found.matrices["dense"])
    row = found.tables["trajectories"].filter((pl.col("method") == "vd") & (pl.col("epoch") == 4))
    cell = f"{100 * row['test_acc_mean'][0]:.1f} ({100 * row['test_acc_std'][0]:.1f})"
    markdown = (tmp_path / "table6_variational_dropout.md").read_text()
    assert cell in markdown and "| Metric | 0 | 2 | 4 |" in markdown
    latex = (tmp_path / "table5_magnitude_pruning.tex").read_text()
    assert r"50\% & 70\% & 90\% \\" in latex and r"\bottomrule" in latex
    assert {p.stem for p in tmp_path.glob("*.tex")} == {
        *("table1_agreement", "table2_correlation", "table5_magnitude_pruning"),
        *("table6_variational_dropout", "table7_layers_vd", "table8_layers_mp"),
    }


def test_what_is_not_reported_is_left_out(family, tmp_path):
    """Converted zoos may have members without an accuracy at an epoch."""
    unknown = (pl.col("member") == 7) & (pl.col("epoch") == 5)
    accuracy = pl.when(unknown).then(None).otherwise(pl.col("test_acc")).alias("test_acc")
    twin = changed(family["vd"], tmp_path / "vd", lambda table: table.with_columns(accuracy))
    row = analysis.correlation(family["dense"], twin, resamples=20).row(5, named=True)
    assert np.isfinite(row["pearson"]) and row["diverged"] == 1
    assert 7 not in analysis.member_prunability(family["dense"], twin)["parent_id"].to_list()


def test_columns_of_converted_members_are_no_hyper_parameters(family, tmp_path):
    copy = zoo_fixtures.copied(family["dense"], tmp_path / "dense")
    table = pl.read_parquet(copy / MEMBERS)
    extra = {"trial": [f"trial {i}" for i in range(48)], "missing_epochs": [[i] for i in range(48)]}
    table.with_columns(pl.Series(k, v) for k, v in extra.items()).write_parquet(copy / MEMBERS)
    by = analysis.by_hyperparameters(open_zoo(copy))
    assert set(by["hyperparameter"]) == {"activation"}
    assert "trial" not in analysis.member_metrics(open_zoo(copy)).columns


def test_a_population_of_which_nobody_is_left(family, tmp_path):
    """Its rows are empty, and the others are as they were."""
    lost = family["mp"].members_table.filter(pl.col("ratio") == 0.9)["id"].to_list()
    gone = pl.col("member").is_in(lost)
    twin = changed(
        family["mp"], tmp_path / "mp", lambda table: table.with_columns(pl.col("finite") & ~gone)
    )
    assert analysis.pruning_frequency(twin, 15, 0.9).is_empty()
    table = analysis.compare_methods(family["dense"], twin, family["vd"])
    whole = analysis.compare_methods(family["dense"], family["mp"], family["vd"])
    assert table["members"].to_list() == [*whole["members"].to_list()[:2], 0]
    assert table.head(2).equals(whole.head(2))
    found = analysis.analyze(family["dense"], [twin])
    assert any("rows of correlation are empty" in note for note in found.notes)


def test_matrices_stand_in_the_order_of_parents(family, tmp_path):
    """Twins in another order than their parents, and not of all of them."""
    copy = zoo_fixtures.copied(family["vd"], tmp_path / "vd")
    table = pl.read_parquet(copy / MEMBERS)
    turned = table["parent_id"].reverse().to_list()
    table.with_columns(pl.Series("parent_id", turned)).write_parquet(copy / MEMBERS)
    turned = analysis.analyze(family["dense"], [open_zoo(copy)]).matrices["vd epoch 5"]
    straight = analysis.analyze(family["dense"], [family["vd"]]).matrices["vd epoch 5"]
    np.testing.assert_array_equal(turned, straight[::-1, ::-1])


def test_members_tables_are_those_of_the_zoos(family):
    """What the made-up zoos promise: a twin a member, in the order of their parents."""
    assert pl.read_parquet(family["vd"].path / MEMBERS)["parent_id"].to_list() == list(range(48))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(family["dense"].params(50)))


@pytest.mark.slow
def test_a_thousand_members_in_ten_minutes_and_four_gigabytes(data_dir, tmp_path):
    """5 ratios and 26 epochs, on USPS's 2,007 test images; figures and page included."""
    spec = PRESETS["usps-s-seed"].data
    zoo = synthetic_zoos.dense(tmp_path / "dense", 1000, preset="usps-s-seed", spec=spec)
    synthetic_zoos.pruned(tmp_path / "mp", zoo)
    synthetic_zoos.dropped_out(tmp_path / "vd", zoo)
    begun = time.monotonic()
    command = [*zoo_fixtures.COMMAND, "analyse", *(str(tmp_path / kind) for kind in ALL)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*command, "--out", str(tmp_path / "out")], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds, page = time.monotonic() - begun, tmp_path / "out/report.html"
    print(
        f"{seconds:.0f} s, {usage.ru_maxrss / 2**20:.2f} GiB, {page.stat().st_size / 2**20:.1f} MiB"
    )
    assert process.returncode == 0
    assert seconds < 600 and usage.ru_maxrss < 4 * 2**20 and page.stat().st_size < 10e6


@pytest.mark.slow
def test_a_million_pairs_in_ten_seconds():
    """1,000 x 1,000 members on 10,000 images."""
    answers = np.random.default_rng(0).integers(0, 10, (1000, 10_000)).astype(np.uint16)
    analysis.pairwise(answers[:, :2000])
    begun = time.monotonic()
    matrix = analysis.pairwise(answers)
    seconds = time.monotonic() - begun
    print(f"{seconds:.1f} s")
    assert matrix[3, 5] == pytest.approx((answers[3] == answers[5]).mean())
    assert seconds < 10
