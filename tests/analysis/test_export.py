"""Files of an analysis."""

from dataclasses import replace

import numpy as np
import polars as pl

from zoojax import analysis, open_zoo, presets
from zoojax.analysis.captions import table_captions


def test_written_tables(result, tmp_path):
    (tmp_path / "paper.csv").write_text("from an earlier analysis")
    (tmp_path / "notes.txt").write_text("the user's")
    analysis.write_tables(result, tmp_path)
    assert not (tmp_path / "paper.csv").exists() and (tmp_path / "notes.txt").exists()
    for name, table in result.tables.items():
        assert pl.read_parquet(tmp_path / f"{name}.parquet").equals(table)
        assert len(pl.read_csv(tmp_path / f"{name}.csv")) == len(table)
    dense = pl.read_parquet(tmp_path / "agreement_dense.parquet")
    assert dense.columns == ["member", *map(str, range(48))]
    np.testing.assert_array_equal(dense.drop("member").to_numpy(), result.matrices["dense"])
    row = result.tables["trajectories"].filter((pl.col("method") == "vd") & (pl.col("epoch") == 4))
    cell = f"{100 * row['test_acc_mean'][0]:.1f} ({100 * row['test_acc_std'][0]:.1f})"
    markdown = (tmp_path / "table6_variational_dropout.md").read_text()
    assert cell in markdown and "| Metric | 0 | 2 | 4 |" in markdown
    latex = (tmp_path / "table5_magnitude_pruning.tex").read_text()
    assert r"50\% & 70\% & 90\% \\" in latex and r"\bottomrule" in latex
    assert r"\label{tab:table5_magnitude_pruning}" in latex
    # The zoo is not one of the paper's.
    assert "Table" not in latex and "n = 48 members" in latex
    assert {p.stem for p in tmp_path.glob("*.tex")} == {
        *("table1_agreement", "table2_correlation", "table5_magnitude_pruning"),
        *("table6_variational_dropout", "table7_layers_vd", "table8_layers_mp"),
    }


def test_captions_of_all_tables(result, tmp_path):
    analysis.write_tables(result, tmp_path)
    captions = table_captions(result)
    assert set(captions) == set(result.tables)
    text = (tmp_path / "captions.md").read_text()
    for name, caption in captions.items():
        assert "n = 48 members" in caption and len(caption) > 80
        assert f"**{name}.** " in text
    few = {name: result.tables[name] for name in ("members", "trajectories")}
    analysis.write_tables(replace(result, tables=few), tmp_path)
    assert "correlation" not in (tmp_path / "captions.md").read_text()


def test_correlation_of_few_members_is_said_to_be_missing(result):
    few = result.tables["correlation"].with_columns(
        *(pl.lit(None, pl.Float64).alias(name) for name in ("pearson", "kendall")),
        remark=pl.lit("too few members"),
    )
    changed = replace(result, tables={**result.tables, "correlation": few})
    for given, missing in ((result, False), (changed, True)):
        (table,) = (t for t in analysis.paper_tables(given) if t.name == "table2_correlation")
        cells = {cell for row in table.rows for cell in row[-2:]}
        assert (cells == {"too few members"}) == missing
        assert {row[3] for row in table.rows} == {"48"}


def test_only_tables_of_the_papers_zoos_name_its_tables(result, monkeypatch):
    monkeypatch.setattr(presets, "difference", lambda zoo: None)
    monkeypatch.setattr(
        *(presets, "twin_difference"),
        lambda zoo, twin: "no" if twin.config.sparsifier.method == "vd" else None,
    )
    zoo = open_zoo(result.zoo.path)
    zoo.config = replace(zoo.config, preset="usps-s-seed")
    named = {
        table.name: "arXiv" in table.caption
        for table in analysis.paper_tables(replace(result, zoo=zoo))
    }
    assert [name for name, known in named.items() if known] == [
        *("table5_magnitude_pruning", "table8_layers_mp")
    ]
    assert not any("arXiv" in table.caption for table in analysis.paper_tables(result))
