"""The cost of sparsifiers on digits: one row for each, from the difference of two runs."""

import json

import pytest

from tests.support import zoo_fixtures
from zoojax import ZoojaxError
from zoojax.experiments.bench import sparsifier_costs
from zoojax.sparsifiers.dense import Dense
from zoojax.sparsifiers.registry import sparsifiers


@pytest.mark.parametrize("kind", [k for k in sparsifiers().values() if k is not Dense])
def test_one_member_per_parent_at_the_common_ratio(kind):
    chosen = sparsifier_costs.single(kind)
    for option, column in kind.per_member.items():
        (value,) = getattr(chosen, option)
        assert value in getattr(kind(), option)
        assert column != "ratio" or abs(value - sparsifier_costs.RATIO) < 0.06


def test_rows_and_table(monkeypatch, tmp_path_factory, tmp_path, capsys):
    """Seconds are those of the additional members."""
    clock = iter([0.0, 100.0, 100.0, 107.0, 107.0, 117.0])
    monkeypatch.setattr(sparsifier_costs, "perf_counter", lambda: next(clock))
    dense = zoo_fixtures.dense(tmp_path_factory)
    monkeypatch.setattr(sparsifier_costs, "train_zoo", lambda preset, **options: dense)
    words = ("--members", "1", "--methods", "magnitude-pruning", "--epochs", "1")
    sparsifier_costs.main([*words, "--out", str(tmp_path / "costs.md")])
    row = json.loads(capsys.readouterr().out)
    assert row["name"] == "magnitude-pruning" and row["epochs"] == 1
    assert row["seconds_per_member"] == 3.0
    assert row["sparsity"] == pytest.approx(0.8, abs=1e-3)
    table = (tmp_path / "costs.md").read_text()
    assert "| magnitude pruning | 1 | 3.000 | 80.0 | " in table


def test_unknown_method_is_refused():
    with pytest.raises(ZoojaxError, match="no sparsifier named 'unknown'; there are: magnitude_"):
        next(sparsifier_costs.measure(1, ["unknown"]))
