"""The tables of "Sparsified Model Zoo Twins" (arXiv 2304.13718), as data.

`paper_tables/` holds them as they are printed: means and standard deviations in percent.
"""

from importlib import resources

import polars as pl

SOURCE = 'Schürholt et al., "Sparsified Model Zoo Twins", arXiv 2304.13718'


def _read(name: str) -> pl.DataFrame:
    file = resources.files("zoojax.analysis") / "paper_tables" / f"{name}.csv"
    return pl.read_csv(file.read_bytes(), infer_schema_length=None)


def paper_results(zoo: str) -> pl.DataFrame:
    """All that the paper reports of one of its zoos, as shares in [0, 1].

    Args:
        zoo: a preset's name, such as "usps-s-seed".

    Returns:
        `table` ("Table 5"), `method` ("mp" or "vd"), `ratio` (of pruning; null under
        variational dropout), `epoch` (null where the table has none), `sparsity` (where the
        table gives that in place of an epoch), `quantity` ("test_acc", "ggap", "sparsity",
        "sparsity_conv1", "agreement", "pearson", ...), `mean` and `std` (null where not
        printed). Empty for zoos that are not in the paper.
    """
    one = _read("table1_9_agreement")
    reached = one.filter(pl.col("column") == "sparsity")
    one = one.filter(pl.col("column") != "sparsity").join(
        reached.select("zoo", "method", pl.col("mean_pct").alias("sparsity_pct")),
        on=("zoo", "method"),
    )
    two = _read("table2_correlation").unpivot(
        ["pearson_r_pct", "kendall_tau_pct"],
        index=["zoo", "method", "sparsity_pct"],
        variable_name="column",
        value_name="mean_pct",
    )
    two = two.with_columns(pl.col("column").str.replace("_.*", ""))
    parts = [
        _table("Tables 1, 9", one),
        _table("Table 2", two),
        _table("Table 5", _read("table5_magnitude_pruning").with_columns(method=pl.lit("mp"))),
        _table("Table 6", _read("table6_variational_dropout").with_columns(method=pl.lit("vd"))),
        _table("Table 7", _read("table7_sparsity_per_layer_vd").with_columns(method=pl.lit("vd"))),
        _table("Table 8", _read("table8_sparsity_per_layer_mp").with_columns(method=pl.lit("mp"))),
    ]
    return pl.concat(parts).filter(pl.col("zoo") == zoo).drop("zoo")


def _table(name: str, table: pl.DataFrame) -> pl.DataFrame:
    """A printed table in the columns of `published`."""
    table = table.rename({"metric": "column"}, strict=False)
    absent = [c for c in ("epoch", "sparsity_pct", "std_pct") if c not in table.columns]
    table = table.with_columns(pl.lit(None, pl.Float64).alias(c) for c in absent)
    share = pl.col("sparsity_pct").cast(pl.Float64) / 100
    pruned = pl.col("method") == "mp"
    quantity = pl.col("column").str.replace("^(conv|fc)", "sparsity_${1}")
    return table.select(
        "zoo",
        pl.lit(name).alias("table"),
        "method",
        pl.when(pruned).then(share).alias("ratio"),
        pl.col("epoch").cast(pl.Int64),
        pl.when(~pruned).then(share).alias("sparsity"),
        quantity.alias("quantity"),
        (pl.col("mean_pct").cast(pl.Float64) / 100).alias("mean"),
        (pl.col("std_pct").cast(pl.Float64) / 100).alias("std"),
    )


def published_representations() -> pl.DataFrame:
    """Table 3 of the paper: R2 of hyper-representations, as shares.

    Returns:
        `zoo`, a preset's name, and R2 of reconstructed `weights` and `alphas`, and of probes
        of `accuracy`, `sparsity`, `epoch` and `ggap` from the embeddings.
    """
    table = _read("table3_hyper_representation")
    values = pl.selectors.ends_with("_r2_pct")
    return table.select("zoo", (values.cast(pl.Float64) / 100).name.replace("_r2_pct", ""))
