"""The tables of "Sparsified Model Zoo Twins" (arXiv 2304.13718) as data frames.

`paper_tables/` holds them as printed: means and standard deviations in percent.
"""

from importlib import resources

import polars as pl

from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.variational_dropout import VariationalDropout

SOURCE = 'Schürholt et al., "Sparsified Model Zoo Twins", arXiv 2304.13718'
# Sparsifiers of the paper by their method in `paper_results`.
SPARSIFIERS = {"mp": MagnitudePruning.name, "vd": VariationalDropout.name}
# Decimals of a fraction; the paper prints percentages with one.
_DECIMALS = 4


def _read(name: str) -> pl.DataFrame:
    file = resources.files("zoojax.analysis") / "paper_tables" / f"{name}.csv"
    return pl.read_csv(file.read_bytes(), infer_schema_length=None)


def _fraction(percent: pl.Expr) -> pl.Expr:
    """Percent as a fraction, the float nearest to the printed decimal.

    Polars divides by a scalar by multiplying with its reciprocal, so 70 / 100 alone is not
    0.7, and a join on the pruning ratio would lose those rows.
    """
    return (percent.cast(pl.Float64) / 100).round(_DECIMALS)


def paper_results(zoo: str) -> pl.DataFrame:
    """Everything the paper reports for one of its zoos, as fractions in [0, 1].

    Args:
        zoo: name of a preset, such as "usps-s-seed".

    Returns:
        `table` ("Table 5"), `method` ("mp" or "vd"), `ratio` (pruning ratio; null for
        variational dropout), `epoch` (null if the table gives none), `sparsity` (if the
        table gives a sparsity instead of an epoch), `quantity` ("test_acc", "ggap",
        "sparsity", "sparsity_conv1", "agreement", "pearson", ...), `mean` and `std` (null if
        not printed). Empty for zoos that are not in the paper.
    """
    agreement = _read("table1_9_agreement")
    sparsities = agreement.filter(pl.col("column") == "sparsity")
    agreement = agreement.filter(pl.col("column") != "sparsity").join(
        sparsities.select("zoo", "method", pl.col("mean_pct").alias("sparsity_pct")),
        on=("zoo", "method"),
    )
    correlation = _read("table2_correlation").unpivot(
        ["pearson_r_pct", "kendall_tau_pct"],
        index=["zoo", "method", "sparsity_pct"],
        variable_name="column",
        value_name="mean_pct",
    )
    correlation = correlation.with_columns(pl.col("column").str.replace("_.*", ""))
    parts = [
        _table("Tables 1, 9", agreement),
        _table("Table 2", correlation),
        _table("Table 5", _read("table5_magnitude_pruning").with_columns(method=pl.lit("mp"))),
        _table("Table 6", _read("table6_variational_dropout").with_columns(method=pl.lit("vd"))),
        _table("Table 7", _read("table7_sparsity_per_layer_vd").with_columns(method=pl.lit("vd"))),
        _table("Table 8", _read("table8_sparsity_per_layer_mp").with_columns(method=pl.lit("mp"))),
    ]
    return pl.concat(parts).filter(pl.col("zoo") == zoo).drop("zoo")


def _table(name: str, table: pl.DataFrame) -> pl.DataFrame:
    """A printed table with the columns of `paper_results`, and `zoo`."""
    table = table.rename({"metric": "column"}, strict=False)
    absent = [c for c in ("epoch", "sparsity_pct", "std_pct") if c not in table.columns]
    table = table.with_columns(pl.lit(None, pl.Float64).alias(c) for c in absent)
    sparsity = _fraction(pl.col("sparsity_pct"))
    pruned = pl.col("method") == "mp"
    quantity = pl.col("column").str.replace("^(conv|fc)", "sparsity_${1}")
    return table.select(
        "zoo",
        pl.lit(name).alias("table"),
        "method",
        pl.when(pruned).then(sparsity).alias("ratio"),
        pl.col("epoch").cast(pl.Int64),
        pl.when(~pruned).then(sparsity).alias("sparsity"),
        quantity.alias("quantity"),
        _fraction(pl.col("mean_pct")).alias("mean"),
        _fraction(pl.col("std_pct")).alias("std"),
    )


def published_representations() -> pl.DataFrame:
    """Table 3 of the paper: R2 of hyper-representations, as fractions.

    Returns:
        `zoo` (name of a preset); R2 of reconstructed `weights` and `alphas`; R2 of probes
        that predict `accuracy`, `sparsity`, `epoch` and `ggap` from the embeddings.
    """
    table = _read("table3_hyper_representation")
    values = pl.selectors.ends_with("_r2_pct")
    return table.select("zoo", _fraction(values).name.replace("_r2_pct", ""))
