"""The table of losses of a hyper-representation: one row per epoch."""

from pathlib import Path

import polars as pl

from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import NotFoundError, read_table
from zoojax.text import printable

_LOSS_TERMS = ("loss", "contrastive", "weights", "alphas", "probes", "behavior")


def read_losses(path: Path, epochs: int) -> pl.DataFrame:
    """Reads a table of losses.

    Args:
        path: The Parquet file.
        epochs: Epochs of the training.

    Returns:
        One row per recorded epoch; no rows if there is no file.

    Raises:
        ZoojaxError: If the table is damaged, or is not a table of losses.
    """
    try:
        table = read_table(path)
    except NotFoundError:
        return pl.DataFrame(schema={"epoch": pl.Int64})
    error = _losses_error(table, epochs)
    if error is not None:
        raise ZoojaxError(f"{path} is damaged: {error}")
    return table


def _losses_error(table: pl.DataFrame, epochs: int) -> str | None:
    """Returns what is wrong with a table of losses, or None if it is valid."""
    kinds: dict[str, pl.DataType] = {"epoch": pl.Int64()}
    kinds |= {f"{part}_{name}": pl.Float64() for part in ("train", "val") for name in _LOSS_TERMS}
    for name, kind in table.schema.items():
        if kinds.get(name) != kind:
            return f"unexpected column {printable(name, 60)} of type {printable(kind, 60)}"
        if table[name].has_nulls():
            return f"column {name} has nulls"
    if "epoch" not in table.columns:
        return "it has no column epoch"
    recorded = table["epoch"]
    if not recorded.is_between(1, epochs).all() or not (recorded.diff().drop_nulls() > 0).all():
        return f"its epochs are not ascending between 1 and {epochs}"
    return None
