"""Compares an analysis with the values that the paper prints for the same zoo."""

import polars as pl

from zoojax import presets
from zoojax.analysis.accuracy_pairings import TRAIN_AND_TEST
from zoojax.analysis.pairing import last_epoch, nearest_sparsity
from zoojax.analysis.paper import SPARSIFIERS, paper_results
from zoojax.analysis.results import Analysis, Method
from zoojax.storage.zoo import Zoo

# Largest distance of a mean sparsity from the paper's at which the two are compared.
SPARSITY_TOLERANCE = 0.03
_AGREEMENTS = ("agreement", "sampled_agreement")
# Other quantities that a printed value is compared with, since it may be one of them instead.
_ALTERNATIVES = {
    "agreement": ("sampled_agreement",),
    "pearson": ("train_test_pearson",),
    "kendall": ("train_test_kendall",),
}


def paper_results_of(zoo: Zoo) -> pl.DataFrame:
    """`paper_results` of a dense zoo's preset; empty unless the zoo matches the preset."""
    comparable = presets.difference(zoo) is None
    return paper_results((comparable and zoo.config.preset) or "")


def comparison_notes(analysis: Analysis) -> list[str]:
    """Explains why a zoo or twin recorded as one of the paper's is not compared with it.

    Args:
        analysis: the analysis.

    Returns:
        Sentences; none if everything is compared, or the preset is not in the paper.
    """
    zoo, preset = analysis.zoo, analysis.zoo.config.preset or ""
    if paper_results(preset).is_empty():
        return []
    reason = presets.difference(zoo)
    if reason is not None:
        return [f"{zoo.path} is not compared with the paper's {preset}: {reason}."]
    # The paper has no values for other sparsifiers, so there is nothing to compare.
    known = [t for t in analysis.twins if t.config.sparsifier.name in SPARSIFIERS.values()]
    reasons = {twin.path: presets.twin_difference(zoo, twin) for twin in known}
    return [
        f"{path} is not compared with the twins of the paper's {preset}: {reason}."
        for path, reason in reasons.items()
        if reason is not None
    ]


def compare_with_paper(analysis: Analysis) -> pl.DataFrame:
    """The paper's values for this zoo next to those of the analysis.

    If the paper gives a sparsity of variational dropout instead of an epoch, the epoch that
    `nearest_sparsity_epoch` chooses is compared, provided its sparsity is within three
    percentage points.
    Magnitude-pruned twins are compared at their last epoch. Values of Tables 1, 2 and 9 are also
    compared with other quantities that they may be: `sampled_agreement` (see
    `zoojax.analysis.prediction_agreement.agreement`), and `train_test_pearson` and
    `train_test_kendall` (see `zoojax.analysis.accuracy_pairings`).

    Args:
        analysis: the analysis.

    Returns:
        `paper_results` with epochs filled in, `method` as in the analysis, and its values renamed
        `paper_mean` and `paper_std`; `members`, `ours_mean`, `ours_std`, `difference` = ours -
        paper; `remark` on correlations that are missing, as in `correlation`. If several twins
        are by one of the paper's methods, each is compared. Twins that do not match the preset
        have no rows; the table is empty if the zoo does not match it (see `zoojax.presets`).
    """
    printed = paper_results_of(analysis.zoo)
    matching: dict[str, list[Method]] = {method: [] for method in SPARSIFIERS}
    if len(printed):
        for paper_method, sparsifier in SPARSIFIERS.items():
            matching[paper_method] = [
                each
                for each in analysis.twin_methods()
                if each.sparsifier.name == sparsifier
                and not presets.twin_difference(analysis.zoo, each.zoo)
            ]
    rows = [
        {**row, "method": method.key, "epoch": _compared_epoch(method, row), "quantity": quantity}
        for row in printed.iter_rows(named=True)
        for method in matching[row["method"]]
        for quantity in (row["quantity"], *_ALTERNATIVES.get(row["quantity"], ()))
    ]
    printed = pl.DataFrame(rows, schema=printed.schema)
    keys = ["method", "ratio", "epoch", "quantity"]
    ours = _means(analysis)
    joined = printed.join(ours, on=keys, how="inner", nulls_equal=True, maintain_order="left")
    return joined.select(
        "table",
        *keys,
        "sparsity",
        pl.col("mean").alias("paper_mean"),
        pl.col("std").alias("paper_std"),
        "members",
        "ours_mean",
        "ours_std",
        (pl.col("ours_mean") - pl.col("mean")).alias("difference"),
        "remark",
    )


def _compared_epoch(method: Method, row: dict) -> int | None:
    """The epoch of a twin that is compared with a row of `paper_results`; None if there is none."""
    if row["epoch"] is not None:
        return row["epoch"]
    if method.sweep == "ratio":
        return last_epoch(method.zoo.metrics_history)
    if row["sparsity"] is None:
        return None
    epoch, distance = nearest_sparsity(method.zoo, row["sparsity"])
    return epoch if distance <= SPARSITY_TOLERANCE else None


def _means(analysis: Analysis) -> pl.DataFrame:
    """All means of an analysis, one row per method, ratio, epoch and quantity."""
    parts = []
    for name in ("trajectories", "agreement_summary"):
        table = analysis.tables.get(name, pl.DataFrame())
        for column in table.columns:
            quantity = column.removesuffix("_mean")
            if quantity == column or (name == "agreement_summary" and quantity not in _AGREEMENTS):
                continue
            parts.append(_quantity(table, quantity, column, pl.col(f"{quantity}_std")))
    table = analysis.tables.get("correlation", pl.DataFrame())
    parts += [
        _quantity(table, quantity, quantity, pl.lit(None))
        for quantity in ("pearson", "kendall")
        if quantity in table.columns
    ]
    pairings = analysis.tables.get("pairings", pl.DataFrame())
    if len(pairings):
        own = pairings.filter(pl.col("pooled").is_null(), pl.col("pairing") == TRAIN_AND_TEST)
        parts += [
            _quantity(own, f"train_test_{name}", name, pl.lit(None))
            for name in ("pearson", "kendall")
        ]
    return pl.concat(parts)


def _quantity(table: pl.DataFrame, quantity: str, mean: str, std: pl.Expr) -> pl.DataFrame:
    return table.select(
        "method",
        "ratio",
        "epoch",
        pl.lit(quantity).alias("quantity"),
        pl.col("members").cast(pl.Int64),
        pl.col(mean).cast(pl.Float64).alias("ours_mean"),
        std.cast(pl.Float64).alias("ours_std"),
        pl.col("remark") if "remark" in table.columns else pl.lit(None, pl.String).alias("remark"),
    )
