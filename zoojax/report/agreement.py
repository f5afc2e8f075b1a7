"""Data of the report's section on agreement: of members with each other, and with parents."""

from typing import Any

import numpy as np
import polars as pl

from zoojax.analysis import Analysis
from zoojax.report.encoding import encode

# Matrices of all pairs are embedded up to this many values in total.
_MAX_VALUES = 600_000


def matrices(analysis: Analysis) -> list[dict[str, Any]]:
    """The matrices of pairwise agreement of all populations.

    Args:
        analysis: The analysis.

    Returns:
        For each `rows` and `columns`, labels of the two populations; `shape`; `values`, encoded
        in one byte each, or None if there are too many members to embed them; `pairs`, `mean` and
        `std` over all pairs of different members. Members are in the order of their parents.
    """
    total = sum(matrix.size for matrix in analysis.matrices.values())
    result = []
    for name, matrix in analysis.matrices.items():
        down, across = _populations(analysis, name)
        within = down == across
        # Agreement is symmetric within a population: every pair counts once.
        values = matrix[np.triu_indices(len(matrix), 1)] if within else matrix.ravel()
        values = values[np.isfinite(values)]
        result.append(
            {
                "rows": down,
                "columns": across,
                "shape": list(matrix.shape),
                "values": encode(matrix, 0, 1, 1) if total <= _MAX_VALUES else None,
                "pairs": len(values),
                "mean": float(values.mean()) if len(values) else None,
                "std": float(values.std()) if len(values) > 1 else None,
            }
        )
    return result


def _populations(analysis: Analysis, name: str) -> tuple[str, str]:
    """Labels of the populations of a matrix, such as ("dense", "MP 80%")."""
    ends = name.split(" and ")
    labels = {method.key: method.short for method in analysis.methods}
    texts = []
    for end in ends:
        key, _, rest = end.partition(" ")
        texts.append(f"{labels.get(key, key)} {rest}".strip())
    return texts[0], texts[-1]


def agreement_with_parents(
    analysis: Analysis, method: str, ratio: float | None, members: pl.Series
) -> dict[str, Any] | None:
    """Agreement of the members of one population with their parents.

    Args:
        analysis: The analysis.
        method: Key of the method.
        ratio: Pruning ratio of the population, or None.
        members: Ids of its members, sorted.

    Returns:
        The `epochs` that were compared and the `codes` of [members, epochs]; None without any.
    """
    table = analysis.tables.get("agreement", pl.DataFrame())
    if table.is_empty():
        return None
    rows = table.filter(
        pl.col("method") == method,
        pl.col("ratio").eq_missing(pl.lit(ratio, pl.Float64)),
        pl.col("member").is_in(members.to_list()),
    )
    if rows.is_empty():
        return None
    epochs = rows["epoch"].unique().sort()
    grid = np.full((len(members), len(epochs)), np.nan)
    at = (np.searchsorted(members, rows["member"]), np.searchsorted(epochs, rows["epoch"]))
    grid[at] = rows["agreement"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    return {"epochs": epochs.to_list(), "codes": encode(grid, 0, 1)}
