"""Tables that users add to analyses."""

import numpy as np
import polars as pl
import pytest

from tests.support import synthetic_zoos
from zoojax import ZoojaxError, analysis, open_zoo
from zoojax.analysis import Analysis, added_tables
from zoojax.analysis.added_tables import analysis_table
from zoojax.report.tables import tables


@pytest.fixture
def spread(monkeypatch):
    """An added table with the spread of accuracies."""
    monkeypatch.setattr(added_tables, "_registered", {})

    @analysis_table("spread", title="Spread", about="Range of accuracies.", fractions=("range",))
    def compute(result: Analysis) -> pl.DataFrame:
        accuracies = result.tables["members"].filter(method="dense", epoch=50)["test_acc"]
        return pl.DataFrame({"method": ["dense"], "range": [np.ptp(accuracies.to_numpy())]})

    return compute


def test_added_table_is_computed_written_and_shown(spread, tmp_path):
    zoo = synthetic_zoos.dense(tmp_path / "dense", 5)
    result = analysis.analyze(open_zoo(zoo.path), [])
    table = result.tables["added_spread"]
    assert table["range"][0] > 0
    (shown,) = (each for each in tables(result) if each["name"] == "added_spread")
    assert shown["title"] == "Spread"
    assert shown["about"] == "Range of accuracies. Zoo made-up, n = 5 members."
    assert [column["kind"] for column in shown["columns"]] == ["text", "share"]
    analysis.write_tables(result, tmp_path / "tables")
    assert pl.read_parquet(tmp_path / "tables" / "added_spread.parquet").equals(table)
    result.tables.pop("added_spread")
    analysis.write_tables(result, tmp_path / "tables")
    assert not list((tmp_path / "tables").glob("added_*"))


@pytest.mark.parametrize(
    "change", [{"name": "members"}, {"name": "../x"}, {"title": ""}, {"about": "a\x1b[31m"}]
)
def test_invalid_tables_are_refused(change):
    with pytest.raises(ZoojaxError):
        analysis_table(**{"name": "valid", "title": "Title", "about": "About", **change})


def test_name_of_another_table_is_refused(spread):
    with pytest.raises(ZoojaxError, match="'spread' is already added"):
        analysis_table("spread", title="Other", about="Other")(lambda result: pl.DataFrame())
