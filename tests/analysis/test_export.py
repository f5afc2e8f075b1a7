"""Files of an analysis."""

import numpy as np
import polars as pl

from zoojax import analysis


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
    assert {p.stem for p in tmp_path.glob("*.tex")} == {
        *("table1_agreement", "table2_correlation", "table5_magnitude_pruning"),
        *("table6_variational_dropout", "table7_layers_vd", "table8_layers_mp"),
    }
