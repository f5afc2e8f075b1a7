"""Correlations of accuracies: dense with sparse, and train with test of the same members.

The caption of Table 2 of "Sparsified Model Zoo Twins" (arXiv 2304.13718) says that it correlates
members before and after sparsification. This table has both pairings, also pooled over epochs and
over pruning ratios.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl

from zoojax.analysis.pairing import finite_rows, group_by_population, last_epoch, paired_metrics
from zoojax.analysis.rank_correlation import COEFFICIENTS, RESAMPLES, coefficients
from zoojax.storage.zoo import Zoo

# Columns that are correlated with the twin's test accuracy, by the name of the pairing.
PAIRINGS = {"dense and sparse test accuracy": "dense_acc", "train and test accuracy": "train_acc"}
DENSE_AND_SPARSE, TRAIN_AND_TEST = PAIRINGS
# Values of `pooled`.
EPOCHS, RATIOS = "epochs", "ratios"


def correlation_pairings(
    zoo: Zoo, twin: Zoo, *, resamples: int = RESAMPLES, seed: int = 0
) -> pl.DataFrame:
    """Correlates test accuracy of a twin with that of its parent, and with its own train accuracy.

    Args:
        zoo: the dense zoo.
        twin: its twin.
        resamples: number of bootstrap resamples of the parents.
        seed: seed of the bootstrap.

    Returns:
        One row per population and pairing: `ratio`, `epoch`, `pooled`, `pairing` (see PAIRINGS),
        `members`, Pearson's r `pearson`, Kendall's tau-b `kendall`, their intervals and `remark`
        as in `correlation`. Populations are the members of one ratio at the last epoch or, if
        sparsity varies with the epoch, those of each epoch; those of one ratio at all epochs
        after the first ("epochs" in `pooled`, and no `epoch`); and those of all ratios above zero
        at the last epoch ("ratios", and no `ratio`). Train accuracy is the running accuracy
        during the epoch, so at epoch 0 there is none.

    Raises:
        ZoojaxError: it is not a twin of this zoo.
    """
    rows = []
    for ratio, epoch, pooled, table in _populations(twin, paired_metrics(zoo, twin)):
        known = finite_rows(table)
        known = known.filter(pl.col("train_acc").is_finite())
        for pairing, column in PAIRINGS.items():
            parents = known["parent_id"].to_numpy()
            accuracies = known.select(pl.col(column, "test_acc").cast(pl.Float64)).to_numpy()
            rows.append(
                {
                    "ratio": ratio,
                    "epoch": epoch,
                    "pooled": pooled,
                    "pairing": pairing,
                    "members": len(np.unique(parents)),
                    **coefficients(accuracies[:, 0], accuracies[:, 1], resamples, seed, parents),
                }
            )
    schema = {"ratio": pl.Float64, "epoch": pl.Int64, "pooled": pl.String, "pairing": pl.String}
    schema |= {"members": pl.Int64} | dict.fromkeys(COEFFICIENTS, pl.Float64)
    return pl.DataFrame(rows, schema=schema | {"remark": pl.String})


def _populations(
    twin: Zoo, table: pl.DataFrame
) -> Iterator[tuple[float | None, int | None, str | None, pl.DataFrame]]:
    """Yields (ratio, epoch, pooled, rows) of the populations."""
    table = table.filter(pl.col("epoch") > 0)
    if table.is_empty():
        return
    last, by_ratio = last_epoch(table), twin.config.sparsifier.sweep == "ratio"
    for ratio, epoch, rows in group_by_population(table):
        if not by_ratio or epoch == last:
            yield ratio, epoch, None, rows
    if table["epoch"].n_unique() > 1:
        for (ratio,), rows in table.partition_by("ratio", as_dict=True).items():
            yield ratio, None, EPOCHS, rows
    at_end = table.filter(pl.col("epoch") == last, pl.col("ratio") > 0)
    if at_end["ratio"].n_unique() > 1:
        yield None, last, RATIOS, at_end
