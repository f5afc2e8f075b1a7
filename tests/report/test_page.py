"""Report files: reproducible, self-contained, with all data and no unsafe markup."""

import base64
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tests.support.report_page import NASTY, content, renamed
from tests.support.synthetic_analysis import large
from zoojax import report
from zoojax.errors import ZoojaxError
from zoojax.report.data import payload


def test_page_is_reproducible(result, file, tmp_path):
    for name in ("one", "two"):
        report.write(result, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert len(file.read_bytes()) > len((tmp_path / "one").read_bytes())


def test_page_refers_to_nothing_outside(file):
    # Plotly names addresses of maps, but does not load them here; the data is no markup.
    text = file.read_text()
    scripts = re.sub(r"<script>(?=/\*\*\n\* plotly\.js).*?</script>", "", text, flags=re.DOTALL)
    scripts = re.sub(r"<script type=\"application/json.*?</script>", "", scripts, flags=re.DOTALL)
    assert 20_000 < len(scripts) < len(text) - 4_000_000
    assert "<link" in scripts
    assert "://" not in scripts
    assert "@import" not in scripts
    sources = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'> ]*)""", scripts)
    assert [s for s in sources if s and not s.startswith("data:")] == []
    assert "default-src 'none'" in scripts


def test_names_cannot_break_out_of_the_data(result, tmp_path):
    report.write(renamed(result, NASTY), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "<img" not in text
    assert content(tmp_path / "page.html")["zoo"]["name"] == NASTY
    assert content(tmp_path / "page.html")["notes"][-1] == f"A note of {NASTY}"


def decoded(population: dict, metric: str) -> np.ndarray:
    """Decodes a metric as page.js does."""
    encoded = population["values"][metric]
    codes = np.frombuffer(base64.b64decode(encoded["codes"]), "<u2").astype(float)
    values = encoded["low"] + (encoded["high"] - encoded["low"]) * codes / 65534
    shape = (len(population["member"]), len(population["epochs"]))
    return np.where(codes == 65535, np.nan, values).reshape(shape)


def test_page_has_all_metrics_that_are_finite(result, file):
    populations = {p["label"]: p for p in content(file)["populations"]}
    assert list(populations) == ["dense", "MP 50%", "MP 80%", "MP 90%", "VD"]
    members = result.tables["members"]
    for label, chosen in (
        ("dense", pl.col("method") == "dense"),
        ("MP 80%", (pl.col("method") == "mp") & (pl.col("ratio") == 0.8)),
        ("VD", pl.col("method") == "vd"),
    ):
        rows = members.filter(chosen).sort("member", "epoch")
        population = populations[label]
        assert population["member"] == rows["member"].unique().sort().to_list()
        for metric in ("test_acc", "train_acc", "ggap", "sparsity"):
            expected = np.where(rows["finite"], rows[metric].to_numpy(), np.nan)
            actual = decoded(population, metric)
            np.testing.assert_allclose(actual.ravel(), expected, rtol=0, atol=1 / 65534)
    assert np.isnan(decoded(populations["VD"], "test_acc")).sum() == 3


def test_twins_name_their_parents(result, file):
    page = content(file)
    pruned = page["populations"][2]
    members = result.twins[0].members_table.filter(pl.col("ratio") == 0.8)
    parents = [page["members"]["id"][row] for row in pruned["parent"]]
    assert dict(zip(pruned["member"], parents, strict=True)) == dict(
        members.select("id", "parent_id").iter_rows()
    )


def test_tables_merge_means_with_standard_deviations_and_intervals(result):
    tables = {t["name"]: t for t in payload(result, {})["tables"]}
    assert {"paper", "trajectories", "correlation", "methods", "friendliness"} <= set(tables)
    columns = {c["name"]: c for c in tables["trajectories"]["columns"]}
    assert not [name for name in columns if name.endswith(("_mean", "_std"))]
    expected = result.tables["trajectories"]["test_acc_std"].to_list()
    assert columns["test_acc"]["spread"] == pytest.approx(expected, abs=1e-4)
    columns = {c["name"]: c for c in tables["methods"]["columns"]}
    assert columns["difference"]["low"] == pytest.approx(
        result.tables["methods"]["low"].to_list(), abs=1e-4
    )
    paper = tables["paper"]
    exceeds = result.tables["paper"].select(pl.col("difference").abs() > pl.col("paper_std"))
    assert paper["shaded"]["rows"] == exceeds.to_series().fill_null(False).to_list()
    assert 0 < sum(paper["shaded"]["rows"]) < paper["rows"]


def test_small_values_and_long_tables(result):
    table = result.tables["friendliness"].with_columns(pl.lit(1.5e-5).alias("learning_rate"))
    tables = {**result.tables, "friendliness": pl.concat([table] * 10)}
    shown = {t["name"]: t for t in payload(replace(result, tables=tables), {})["tables"]}
    columns = {c["name"]: c for c in shown["friendliness"]["columns"]}
    assert shown["friendliness"]["rows"] == 200
    assert f"200 of {10 * len(table)}" in shown["friendliness"]["about"]
    assert columns["learning_rate"]["kind"] == "plain"
    assert set(columns["learning_rate"]["values"]) == {1.5e-5}
    assert columns["rank"]["values"] == sorted(columns["rank"]["values"])


def test_cards(result, seed_zoo):
    cards = {card["title"]: card for card in payload(result, {})["cards"]}
    # At 50 % the accuracy is kept; 80 % and 90 % lose 6 and 12 points.
    assert "Accuracy at 50% sparsity" in cards
    row = result.tables["methods"].row(0, named=True)
    lines = dict(cards["Accuracy at 50% sparsity"]["lines"])
    assert lines["VD"] == f"{100 * row['vd_acc']:.1f}%"
    above, below = (result.tables["crossing"][name][0] for name in ("above", "below"))
    assert cards["Crossover"]["lines"] == [["sparsity", f"{100 * above:g}% to {100 * below:g}%"]]
    assert "interval" not in cards["Crossover"]["about"]
    assert [card["title"] for card in payload(seed_zoo, {})["cards"]] == ["Dense accuracy"]


def test_missing_figure_is_an_error(result, tmp_path):
    with pytest.raises(ZoojaxError, match=r"none\.png is missing"):
        report.write(result, tmp_path / "page.html", {"trajectories": tmp_path / "none.png"})
    assert not (tmp_path / "page.html").exists()


def test_page_size_with_a_thousand_members(result, tmp_path):
    report.write(large(result), tmp_path / "large.html")
    assert 6_000_000 < (tmp_path / "large.html").stat().st_size < 8_000_000
    assert len(content(tmp_path / "large.html")["members"]["id"]) == 1000
