"""Data of the report's section on a hyper-representation: embeddings and reconstruction."""

from typing import Any

import polars as pl

from zoojax.analysis import Analysis
from zoojax.figures.representation import of_all_zoos
from zoojax.report.tables import number

# Maximum number of states in the embedding plot.
_MAX_STATES = 4000
_PROPERTIES = ("test_acc", "sparsity", "epoch", "ggap")


def representation(analysis: Analysis) -> dict[str, Any] | None:
    """Collects the data of the hyper-representation section.

    Args:
        analysis: The analysis.

    Returns:
        {"total", "states", "pairs"}: the number of states, a sample of them with
        two-dimensional embeddings, and pairs of true and reconstructed values by quantity and
        layer, with columns as lists. None without a hyper-representation.
    """
    states = analysis.tables.get("representation_embeddings", pl.DataFrame())
    if states.is_empty():
        return None
    total = len(states)
    if total > _MAX_STATES:
        states = states.with_row_index().sample(_MAX_STATES, seed=0).sort("index")
    columns = ("member", "epoch", "part", "x", "y", *_PROPERTIES)
    return {
        "total": total,
        "states": {name: _values(states[name]) for name in dict.fromkeys(columns)},
        "pairs": _pairs(analysis),
    }


def _pairs(analysis: Analysis) -> list[dict[str, Any]]:
    pairs = analysis.tables["representation_scatter"]
    fit = of_all_zoos(analysis.tables["representation_reconstruction"]).filter(part="test")
    result = []
    for (quantity, layer), rows in pairs.group_by("quantity", "layer", maintain_order=True):
        # R2 of log alphas is reported on the scale of the loss.
        scaled = "alphas" if quantity == "log alphas" else quantity
        r2 = fit.filter(quantity=scaled, layer=layer)["r2"].to_list()
        values = {name: _values(rows[name]) for name in ("true", "reconstructed")}
        result.append(
            {"quantity": quantity, "layer": layer, "r2": number(r2[0]) if r2 else None, **values}
        )
    return result


def _values(column: pl.Series) -> list[Any]:
    return [number(value) for value in column.to_list()]
