"""The paper's tables, and the comparison of an analysis with them."""

import json
import shutil
from dataclasses import replace

import polars as pl
import pytest

from tests.analysis.conftest import RATIOS
from zoojax import analysis, presets
from zoojax.analysis import paper_comparison
from zoojax.storage.zoo import open_zoo


@pytest.fixture
def paper_analysis(result, family, monkeypatch) -> analysis.Analysis:
    """The analysis, as if its zoo and twins matched the preset."""
    monkeypatch.setattr(presets, "difference", lambda zoo: None)
    monkeypatch.setattr(presets, "twin_difference", lambda zoo, twin: None)
    zoo = open_zoo(family["dense"].path)
    zoo.config = replace(zoo.config, preset="usps-s-seed")
    return replace(result, zoo=zoo)


def test_paper_tables_as_printed():
    table = analysis.paper_results("usps-s-seed")

    def value(**where) -> tuple:
        row = table.filter(pl.col(k).eq_missing(v) for k, v in where.items())
        assert len(row) == 1
        return row["mean"][0], row["std"][0]

    agreement = value(table="Tables 1, 9", method="vd", quantity="agreement", sparsity=0.885)
    assert agreement == pytest.approx((0.866, 0.011))
    assert value(table="Table 2", method="mp", quantity="kendall", ratio=0.8) == (0.716, None)
    pruned = value(table="Table 5", ratio=0.9, epoch=15, quantity="test_acc")
    assert pruned == pytest.approx((0.738, 0.173))
    layer = value(table="Table 7", epoch=25, quantity="sparsity_conv1")
    assert layer[0] == pytest.approx(0.935)
    assert analysis.paper_results("digits-s-seed").is_empty()


@pytest.mark.parametrize("zoo", ["usps-s-seed", "mnist-s-seed"])
def test_paper_values_are_the_floats_nearest_to_the_printed_decimals(zoo):
    table = analysis.paper_results(zoo)
    assert set(table["ratio"].drop_nulls()) == {0.0, 0.5, 0.6, 0.7, 0.8, 0.9}
    for column in ("ratio", "sparsity", "mean", "std"):
        values = table[column].drop_nulls().to_list()
        assert values == [float(f"{value:.4f}") for value in values]


@pytest.mark.parametrize("ratio", RATIOS)
def test_every_printed_pruning_ratio_is_compared(paper_analysis, ratio):
    """Ratios are joined as floats: 0.7 was once read as 0.7000000000000001 and lost."""
    printed = analysis.paper_results("usps-s-seed").filter(ratio=ratio)
    compared = analysis.compare_with_paper(paper_analysis).filter(ratio=ratio)
    assert {"Table 5", "Table 8"} <= set(compared["table"])
    assert len(compared) >= 11
    missing = printed.join(compared, on=["table", "quantity"], how="anti")
    assert missing.is_empty()


def test_comparison_with_the_paper(result, paper_analysis):
    table = analysis.compare_with_paper(paper_analysis)
    row = table.filter(
        (pl.col("table") == "Table 5") & (pl.col("ratio") == 0.9) & (pl.col("epoch") == 15)
    ).filter(pl.col("quantity") == "test_acc")
    ours = result.tables["trajectories"].filter(
        (pl.col("method") == "mp") & (pl.col("ratio") == 0.9) & (pl.col("epoch") == 15)
    )
    assert row["ours_mean"][0] == pytest.approx(ours["test_acc_mean"][0])
    assert row["difference"][0] == pytest.approx(ours["test_acc_mean"][0] - 0.738)
    assert {"Tables 1, 9", "Table 6", "Table 7", "Table 8"} <= set(table["table"])
    # None of the five epochs is near the sparsity that the paper gives.
    agreement = table.filter((pl.col("table") == "Tables 1, 9") & (pl.col("method") == "vd"))
    assert agreement.is_empty()
    assert paper_comparison.comparison_notes(paper_analysis) == []


def test_twin_that_does_not_match_the_preset_is_not_compared(paper_analysis, monkeypatch):
    def differs(zoo, twin) -> str | None:
        return "it is too small" if twin.config.sparsifier.method == "vd" else None

    monkeypatch.setattr(presets, "twin_difference", differs)
    assert set(analysis.compare_with_paper(paper_analysis)["method"]) == {"mp"}
    (note,) = paper_comparison.comparison_notes(paper_analysis)
    assert "made-up" not in note and "twins of the paper's usps-s-seed: it is too small." in note


def test_zoo_that_only_claims_the_preset_is_not_compared(family, tmp_path):
    """A zoo of digits with "usps-s-seed" in zoo.json."""
    for kind in ("dense", "mp"):
        shutil.copytree(family[kind].path, tmp_path / kind)
    content = json.loads((tmp_path / "dense/zoo.json").read_text())
    (tmp_path / "dense/zoo.json").write_text(json.dumps({**content, "preset": "usps-s-seed"}))
    zoo = open_zoo(tmp_path / "dense")
    content = json.loads((tmp_path / "mp/zoo.json").read_text())
    content["parent"] |= {"fingerprint": zoo.fingerprint}
    (tmp_path / "mp/zoo.json").write_text(json.dumps(content))
    result = analysis.analyze(zoo, [open_zoo(tmp_path / "mp")])
    assert "paper" not in result.tables
    assert f"{zoo.path} is not compared with the paper's usps-s-seed" in " ".join(result.notes)
    assert analysis.compare_with_paper(result).is_empty()
