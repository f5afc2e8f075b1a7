"""An analysis of four twins: two of them by one sparsifier, one by a toy sparsifier."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.many_twins import KEYS, many_twins, registered
from zoojax import analysis, presets
from zoojax.analysis.results import methods_of
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.storage.zoo import Zoo, open_zoo

PAIRS = [(one, other) for one in ("mp", "mp-2") for other in ("fade", "vd")]


@pytest.fixture(scope="module")
def zoos(tmp_path_factory):
    with registered():
        yield many_twins(tmp_path_factory.mktemp("many"), 24, preset="usps-s-seed")


@pytest.fixture(scope="module")
def result(zoos) -> analysis.Analysis:
    return analysis.analyze(*zoos)


def test_methods(result):
    dense, fade, mp, second, vd = result.methods
    assert [each.key for each in result.methods] == list(KEYS)
    assert [each.zoo.path.name for each in result.methods] == [
        *("dense", "fade", "pruned-1", "pruned-2", "vd")
    ]
    assert [each.zoo for each in result.methods[1:]] == result.twins
    assert (mp.label, mp.short) == ("magnitude pruning (global pruning)", "MP")
    assert (second.label, second.short) == ("magnitude pruning (layer pruning)", "MP-2")
    assert (fade.label, vd.label, dense.label) == ("fading", "variational dropout", "dense")
    assert (fade.sweep, mp.sweep, vd.sweep) == ("epoch", "ratio", "epoch")
    assert mp.color == MagnitudePruning.color and fade.color == "#0072b2"
    assert len({each.color.lower() for each in result.methods}) == len(KEYS)
    assert [(one.key, other.key) for one, other in result.pairs()] == PAIRS


def test_twins_with_equal_options_are_labeled_by_name_or_folder(family):
    def copy(path: str, name: str) -> Zoo:
        twin = open_zoo(family["mp"].path)
        return Zoo(Path(path), replace(twin.config, name=name))

    for names, labels in (("ab", "ab"), ("aa", ["one", "two"])):
        twins = [copy("x/two", names[1]), copy("x/one", names[0])]
        methods = methods_of(family["dense"], twins)[1:]
        assert [m.key for m in methods] == ["mp", "mp-2"]
        assert [m.label for m in methods] == [f"magnitude pruning ({each})" for each in labels]


def test_tables_have_all_methods(result):
    for name in ("members", "trajectories", "hyperparameters"):
        assert set(result.tables[name]["method"]) == set(KEYS)
    for name in (
        *("layer_sparsity", "correlation", "friendliness", "change_by_hyperparameters"),
        *("predictability", "pruning_frequency", "agreement", "agreement_summary"),
    ):
        assert set(result.tables[name]["method"]) == set(KEYS[1:])
    consistency = result.tables["consistency"].select("method", "ratio").unique()
    assert {method for method, _ in consistency.iter_rows()} >= {"mp", "mp-2", "fade"}
    second = result.tables["trajectories"].filter(method="mp-2")
    assert set(second["ratio"]) == {0.4, 0.8}
    assert {name.split()[0] for name in result.matrices} == set(KEYS)


def test_all_pairs_are_compared(result):
    """Each pair as if it were the only one."""
    assert len(result.tables["crossing"]) == len(PAIRS)
    compared = {(a.key, b.key): rows for a, b, rows in result.by_pair("methods")}
    assert list(compared) == PAIRS
    for one, other in result.pairs():
        rows = compared[one.key, other.key]
        names = {f"{m.sparsifier.method}_acc": f"{m.key}_acc" for m in (one, other)}
        alone = analysis.compare_methods(result.zoo, one.zoo, other.zoo).rename(names)
        assert rows.select(alone.columns).equals(alone)
        unused = {f"{key}_acc" for key in KEYS[1:]} - set(names.values())
        assert all(rows[name].null_count() == len(rows) for name in unused)


def test_one_pair_of_other_methods(zoos):
    zoo, twins = zoos
    pair = [twin for twin in twins if twin.path.name in ("fade", "pruned-2")]
    tables = analysis.analyze(zoo, pair).tables
    assert {"mp_acc", "fade_acc"} <= set(tables["methods"].columns)
    assert "method" not in tables["methods"].columns
    assert len(tables["crossing"]) == 1


def test_files_of_each_method(result, tmp_path):
    (tmp_path / "table6_older.md").write_text("from an earlier analysis")
    analysis.write_tables(result, tmp_path)
    assert {path.stem for path in tmp_path.glob("*.md")} == {
        *("captions", "table1_agreement", "table2_correlation"),
        *("table5_magnitude_pruning", "table5_magnitude_pruning-2"),
        *("table6_fading", "table6_variational_dropout"),
        *("table7_layers_fade", "table7_layers_vd", "table8_layers_mp", "table8_layers_mp-2"),
    }
    second = (tmp_path / "table5_magnitude_pruning-2.md").read_text()
    assert second.startswith("Magnitude pruning (layer pruning): test accuracy")
    assert "40% | 80%" in second
    assert (tmp_path / "table6_fading.md").read_text().startswith("Fading: test accuracy")
    agreement = (tmp_path / "table1_agreement.tex").read_text()
    assert r"magnitude pruning (layer pruning) 80\%" in agreement
    assert (tmp_path / "agreement_dense_and_mp-2_80.parquet").exists()


def test_each_matching_twin_is_compared_with_the_paper(result, monkeypatch):
    monkeypatch.setattr(presets, "difference", lambda zoo: None)
    monkeypatch.setattr(presets, "twin_difference", lambda zoo, twin: None)
    table = analysis.compare_with_paper(result).filter(table="Table 5", quantity="test_acc")
    assert set(table["method"]) == {"mp", "mp-2"}
    for ratio, methods in ((0.5, ["mp"]), (0.8, ["mp-2"])):
        assert table.filter(ratio=ratio, epoch=15)["method"].to_list() == methods
    row = table.filter(ratio=0.8, epoch=15)
    ours = result.tables["trajectories"].filter(method="mp-2", ratio=0.8, epoch=15)
    assert row["ours_mean"][0] == pytest.approx(ours["test_acc_mean"][0])
    assert "fade" not in set(analysis.compare_with_paper(result)["method"])


def test_order_of_twins_does_not_matter(zoos, result):
    zoo, twins = zoos
    again = analysis.Analysis(zoo, twins[::-1])
    assert [each.key for each in again.methods] == [each.key for each in result.methods]
    consistency = analysis.rank_consistency(zoo, twins[:2])
    assert consistency["method"].to_list()[0] == "vd"
