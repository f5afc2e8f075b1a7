"""A hyper-representation as the page draws it: a map of embeddings, and what comes back."""

from typing import Any

import polars as pl

from zoojax.analysis import Analysis
from zoojax.report.tables import number

# States that the map shows at most.
_MOST = 4000
_PROPERTIES = ("test_acc", "sparsity", "epoch", "ggap")


def representation(found: Analysis) -> dict[str, Any] | None:
    """States in two dimensions, and pairs of true and reconstructed numbers by layer.

    Returns:
        {"states", "pairs"}, columns as lists; None without a hyper-representation.
    """
    states = found.tables.get("representation_embeddings", pl.DataFrame())
    if states.is_empty():
        return None
    total = len(states)
    if total > _MOST:
        states = states.with_row_index().sample(_MOST, seed=0).sort("index")
    columns = ("member", "epoch", "part", "x", "y", *_PROPERTIES)
    return {
        "total": total,
        "states": {name: _values(states[name]) for name in dict.fromkeys(columns)},
        "pairs": _pairs(found),
    }


def _pairs(found: Analysis) -> list[dict[str, Any]]:
    pairs = found.tables["representation_scatter"]
    fit = found.tables["representation_reconstruction"].filter(part="test")
    result = []
    for (quantity, layer), rows in pairs.group_by("quantity", "layer", maintain_order=True):
        # R2 of log alphas is told on the scale of the loss.
        of = "alphas" if quantity == "log alphas" else quantity
        r2 = fit.filter(quantity=of, layer=layer)["r2"].to_list()
        numbers = {name: _values(rows[name]) for name in ("true", "reconstructed")}
        result.append(
            {"quantity": quantity, "layer": layer, "r2": number(r2[0]) if r2 else None, **numbers}
        )
    return result


def _values(column: pl.Series) -> list[Any]:
    return [number(value) for value in column.to_list()]
