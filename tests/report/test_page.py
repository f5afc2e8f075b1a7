"""Report files: reproducible, self-contained, with all data and no unsafe markup."""

import base64
import re
from dataclasses import replace
from unittest.mock import patch
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from tests.report.conftest import HOSTILE_SVG
from tests.support.report_page import NASTY, content, renamed
from tests.support.synthetic_analysis import large
from zoojax import figures, report
from zoojax.errors import ZoojaxError
from zoojax.report.data import payload
from zoojax.report.header import header
from zoojax.report.svg import inline_svg


def test_page_is_reproducible(result, file, tmp_path):
    for name in ("one", "two"):
        report.write(result, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert len(file.read_bytes()) > len((tmp_path / "one").read_bytes())


def test_page_refers_to_nothing_outside(file):
    # Plotly names addresses of maps, but does not load them here; the data is not markup.
    text = file.read_text()
    scripts = re.sub(r"<script>(?=/\*\*\n\* plotly\.js).*?</script>", "", text, flags=re.DOTALL)
    scripts = re.sub(r"<script type=\"application/json.*?</script>", "", scripts, flags=re.DOTALL)
    assert 20_000 < len(scripts) < len(text) - 1_500_000
    assert "<link" in scripts
    assert "://" not in scripts
    assert "@import" not in scripts
    sources = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'> ]*)""", scripts)
    # Links to sections and files are made from the data.
    assert [s for s in sources if s and not s.startswith(("data:", "#figure"))] == []
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
    tables = {t["name"]: t for t in payload(result, {}, {})["tables"]}
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
    shown = {t["name"]: t for t in payload(replace(result, tables=tables), {}, {})["tables"]}
    columns = {c["name"]: c for c in shown["friendliness"]["columns"]}
    assert shown["friendliness"]["rows"] == 200
    assert f"200 of {10 * len(table)}" in shown["friendliness"]["about"]
    assert columns["learning_rate"]["kind"] == "plain"
    assert set(columns["learning_rate"]["values"]) == {1.5e-5}
    assert columns["rank"]["values"] == sorted(columns["rank"]["values"])


def test_header_has_the_settings_as_in_the_zoo(result):
    settings = dict(payload(result, {}, {})["zoo"]["settings"])
    assert settings["optimizer"] == "adam"
    assert settings["learning rate"] == "0.0003"
    assert settings["batch size"] == "10"
    assert settings["epochs"] == "50"
    assert settings["activation"] == "relu, tanh"
    assert settings["members"] == "24"


def test_settings_with_many_and_unknown_values(result):
    rates = [1e-5 * (i + 1) for i in range(24)]
    table = result.zoo.members_table.with_columns(
        pl.Series("learning_rate", rates),
        pl.lit(None, pl.String).alias("optimizer"),
        pl.when(pl.col("id") < 2).then(pl.lit("uniform")).alias("init"),
    )
    with patch.dict(result.zoo.__dict__, members_table=table):
        settings = dict(header(result)["settings"])
    assert settings["learning rate"] == "24 values from 1e-05 to 0.00024"
    assert settings["optimizer"] == "unknown"
    assert settings["initialization"] == "uniform (unknown for 22 members)"


def test_page_opens_at_what_the_figures_show(result):
    methods = {method["key"]: method for method in payload(result, {}, {})["methods"]}
    assert (methods["mp"]["ratio"], methods["mp"]["epoch"]) == (0.8, 15)
    compared = result.tables["friendliness"].filter(method="vd")["epoch"].unique().to_list()
    assert [methods["vd"]["epoch"]] == compared
    assert methods["vd"]["ratio"] is None


def test_crossovers_count_their_members(result):
    ((crossover),) = payload(result, {}, {})["crossovers"]
    row = result.tables["crossing"].row(0, named=True)
    counts = dict(result.tables["methods"].select("sparsity", "members").iter_rows())
    assert crossover["ratios"] == len(counts)
    assert (crossover["one"], crossover["other"]) == ("mp", "vd")
    assert crossover["above"] == row["above"]
    assert crossover["members"] == min(counts[row["above"]], counts[row["below"]])


def test_no_crossover_of_too_few_members(result):
    methods = result.tables["methods"].with_columns(
        pl.when(pl.col("sparsity") < 0.6).then(pl.col("difference")).alias("difference")
    )
    crossing = result.tables["crossing"].with_columns(pl.lit(None).alias("above"))
    few = replace(result, tables=result.tables | {"methods": methods, "crossing": crossing})
    ((crossover),) = payload(few, {}, {})["crossovers"]
    assert (crossover["above"], crossover["ratios"]) == (None, 1)


def test_ratios_that_few_members_reach_do_not_count(result):
    methods = result.tables["methods"].with_columns(pl.lit(6, pl.Int64).alias("members"))
    crossing = result.tables["crossing"].with_columns(pl.lit(None).alias("above"))
    few = replace(result, tables=result.tables | {"methods": methods, "crossing": crossing})
    ((crossover),) = payload(few, {}, {})["crossovers"]
    assert (crossover["ratios"], crossover["members"]) == (0, 6)


def test_missing_coefficients_have_reasons(result):
    table = result.tables["correlation"].with_columns(
        pl.lit(None, pl.Float64).alias("pearson"), pl.lit("too few members").alias("remark")
    )
    few = replace(result, tables=result.tables | {"correlation": table})
    (shown,) = [t for t in payload(few, {}, {})["tables"] if t["name"] == "correlation"]
    columns = {column["name"]: column for column in shown["columns"]}
    assert "remark" not in columns
    assert set(columns["pearson"]["reasons"]) == {"too few members"}
    assert "reasons" not in columns["epoch"]


def test_captions_of_figures_of_every_twin(result):
    names = ("layer_size", "pruning_frequency", "pruning_frequency_mp", "of_mine")
    shown = payload(result, {name: [] for name in names}, {})["figures"]
    texts = figures.captions(result)
    assert [each["caption"] for each in shown[:3]] == [texts[name] for name in names[:3]]
    further = [each["further"] for each in shown]
    assert further == [None, None, "Pruning frequency: magnitude pruning", None]
    assert shown[3]["caption"] == "Of mine."


def test_matrices_of_all_populations(result):
    shown = payload(result, {}, {})["matrices"]
    names = [(each["rows"], each["columns"]) for each in shown]
    (vd,) = {down for down, across in names if down == across and down.startswith("VD ")}
    assert names == [
        ("dense", "dense"),
        ("MP 80%", "MP 80%"),
        ("dense", "MP 80%"),
        (vd, vd),
        ("dense", vd),
    ]
    for each, matrix in zip(shown, result.matrices.values(), strict=True):
        values = np.frombuffer(base64.b64decode(each["values"]), np.uint8).reshape(each["shape"])
        np.testing.assert_allclose(values / 254, matrix, atol=1 / 500)
        pairs = matrix[np.triu_indices(24, 1)] if each["rows"] == each["columns"] else matrix
        assert each["pairs"] == pairs.size
        assert each["mean"] == pytest.approx(pairs.mean())


def test_matrices_of_many_members_are_only_summarized(result):
    many = replace(result, matrices={"dense": np.full((1000, 1000), 0.5, np.float32)})
    (shown,) = payload(many, {}, {})["matrices"]
    assert shown["values"] is None
    assert (shown["pairs"], shown["mean"]) == (499_500, 0.5)


def test_links_are_relative_and_of_files_that_exist(file):
    data = content(file)
    links = {**data["files"], **{each["name"]: each["files"] for each in data["figures"]}}
    assert {label for label, _ in links["trajectories"]} == {"SVG", "PNG"}
    assert [label for label, _ in links["by <b>"]] == ["SVG"]
    assert {label for label, _ in links["correlation"]} == {"CSV", "Parquet"}
    for _, href in (link for each in links.values() for link in each):
        assert href.startswith("./")
        assert (file.parent / unquote(href)).is_file()


@pytest.mark.parametrize("text", ["", "PNG", "<html/>", "<svg/>", "<!DOCTYPE s [<!ENTITY a 'b'>"])
def test_other_files_are_no_figures(result, tmp_path, text):
    (tmp_path / "figure.svg").write_text(text)
    with pytest.raises(ZoojaxError, match=r"figure\.svg is not an SVG image"):
        report.write(result, tmp_path / "page.html", {"figure": tmp_path / "figure.svg"})


def test_figures_keep_only_what_is_harmless(tmp_path):
    (tmp_path / "figure.svg").write_text(HOSTILE_SVG)
    text = inline_svg(tmp_path / "figure.svg", "f7-")
    for word in ("alert", "script", "style>", "example", "<a", "<b", "foreign", "onload", "xmlns"):
        assert word not in text
    root = ElementTree.fromstring(text)
    assert (root.get("width"), root.get("height")) == ("480.00", "96.00")
    assert [each.get("id") for each in root.iter() if each.get("id")] == [
        "f7-0",
        "f7-1",
    ]
    assert [each.get("clip-path") for each in root.findall("g")] == ["url(#f7-0)"]
    assert [use.get("href") for use in root.iter("use")] == ["#f7-1", None]
    assert [each.get("d") for each in root.iter("path")] == ["M0.12 1.5L10 20"]
    assert [each.get("style") for each in root.iter("path")] == ["stroke: currentColor"]
    assert ["".join(each.itertext()) for each in root.iter("text")] == ["1 < 2 and more"]
    images = [image.get("href") for image in root.iter("image")]
    assert images == [None, "data:image/png;base64,iVBORw0KGgo="]


def test_missing_figure_is_an_error(result, tmp_path):
    with pytest.raises(ZoojaxError, match=r"none\.svg is missing"):
        report.write(result, tmp_path / "page.html", {"trajectories": tmp_path / "none.svg"})
    assert not (tmp_path / "page.html").exists()


def test_page_size_with_a_thousand_members(result, tmp_path):
    report.write(large(result), tmp_path / "large.html")
    assert 3_000_000 < (tmp_path / "large.html").stat().st_size < 5_000_000
    assert len(content(tmp_path / "large.html")["members"]["id"]) == 1000


def test_page_of_64_members_is_small(result, tmp_path):
    report.write(large(result, 64), tmp_path / "page.html")
    assert 1_700_000 < (tmp_path / "page.html").stat().st_size < 2_200_000


@pytest.mark.slow
def test_page_of_64_members_with_figures_is_small(result, tmp_path):
    drawn = figures.draw(result, tmp_path / "figures")
    drawings = {path.stem: path.with_suffix(".svg") for path in drawn}
    report.write(large(result, 64), tmp_path / "page.html", drawings)
    assert 2_000_000 < (tmp_path / "page.html").stat().st_size < 3_000_000
