"""Members with different penalties are separate populations; their twin is one method."""

import polars as pl
import pytest

from tests.support import contracts
from zoojax.analysis.measured import measured_points, setting_means
from zoojax.analysis.pairing import member_metrics
from zoojax.analysis.results import Analysis
from zoojax.analysis.summaries import summary
from zoojax.cli.terminal import comparison
from zoojax.report import tables

ARCHITECTURE, PENALTIES = "mlp-16-12", (3e-4, 3e-2)


@pytest.fixture
def twin(tmp_path_factory):
    """Two members at two penalties."""
    return contracts.twin(tmp_path_factory, ARCHITECTURE, "l0")


@pytest.fixture
def result(tmp_path_factory, twin) -> Analysis:
    return Analysis(contracts.dense(tmp_path_factory, ARCHITECTURE), [twin])


def test_means_are_by_penalty(twin):
    table = summary(twin)
    assert table.select("penalty", "epoch").rows() == [(p, e) for p in PENALTIES for e in range(3)]
    assert set(table["members"]) == {2}
    rows = comparison(twin)
    assert [row["penalty"] for row in rows] == list(PENALTIES)


def test_each_penalty_is_a_method(result, twin):
    first, second = result.twin_methods()
    assert [first.key, second.key] == ["l0_0.0003", "l0_0.03"]
    assert [first.short, second.short] == ["L0 0.0003", "L0 0.03"]
    assert first.label == "L0 regularization, penalty 0.0003"
    assert first.twin is twin and not first.is_trajectory
    assert member_metrics(first.zoo)["penalty"].unique().to_list() == [PENALTIES[0]]
    (whole,) = result.whole_methods
    assert (whole.key, whole.zoo) == ("l0", twin)
    assert result.pairs() == []


def test_sparsities_of_the_twin_are_those_of_its_penalties(result, twin):
    (points,) = measured_points(result)
    settings = setting_means(points)
    assert set(settings["setting"]) == {"penalty 0.0003", "penalty 0.03"}
    assert set(settings["epoch"]) == {twin.config.epochs}
    assert settings["members"].to_list() == [2, 2]


def test_page_abbreviates_the_twin_and_its_penalties(result):
    """The page finds the populations of a compared method by the abbreviation of its twin."""
    result.tables["added_method_ranking"] = pl.DataFrame({"method": ["l0", "l0_0.03", "other"]})
    shown = tables._table(result, "added_method_ranking", "", "")
    assert shown["columns"][0]["values"] == ["L0", "L0 0.03", "other"]
