"""Schema of a zoo's tables, derived from its config alone."""

from typing import Any

import polars as pl

from zoojax.hyperparameters.grid import HYPERPARAMETERS, OPTIONAL
from zoojax.hyperparameters.tables import column_types
from zoojax.storage.zoo_config import ZooConfig
from zoojax.tasks import IMAGE_COLUMNS, SPARSITY
from zoojax.text import printable

_SEED_LIMIT = 2**32
_ID_LIMIT = 2**31
_EPOCH_LIMIT = 10**8
_FLOATS = (pl.Float32, pl.Float64)
# Length limit of strings in a members table; conversion notes may be long.
_MAX_TEXT_LENGTH = 10_000
# Optional columns that conversion adds: shown to users, not used in computations.
_CONVERSION_COLUMNS: dict[str, Any] = {
    "trial": pl.String,
    "split": pl.String,
    "image": pl.Int64,
    "label": pl.Int64,
    "notes": pl.String,
    "layers": pl.List(pl.String),
    "missing_epochs": pl.List(pl.Int64),
}
_IMAGE_TYPES: dict[str, Any] = dict(
    zip(IMAGE_COLUMNS, (pl.String, pl.Int64, pl.Int64), strict=True)
)
_SPLITS = ("train", "val", "test")


def members_problem(config: ZooConfig, table: pl.DataFrame) -> str | None:
    """Validates a members table.

    Args:
        config: Config of the zoo.
        table: One row per member, as read.

    Returns:
        A description of the first problem; None if the table is valid.
    """
    types: dict[str, Any] = {"id": pl.Int64, "seed": pl.Int64}
    types |= column_types(each for each in HYPERPARAMETERS if not each.optional)
    types |= dict.fromkeys(config.sparsifier.per_member.values(), pl.Float64)
    if config.parent is not None:
        types["parent_id"] = pl.Int64
    # Converted zoos whose images are unknown may lack the columns.
    has_own_images = config.shape.task.has_own_images and config.data_hash is not None
    if has_own_images:
        types |= _IMAGE_TYPES
    problem = _columns_problem(table, types, _CONVERSION_COLUMNS | column_types(OPTIONAL))
    if problem is not None:
        return problem
    if table.is_empty():
        return "it has no members"
    for name, limit in (("id", _ID_LIMIT), ("parent_id", _ID_LIMIT), ("seed", _SEED_LIMIT)):
        if name in table.columns:
            # Converted PyTorch zoos may lack the seeds of their members.
            values = table[name].drop_nulls() if name == "seed" else table[name]
            if values.has_nulls() or not values.is_between(0, limit - 1).all():
                return f"column {name}: values are not all from 0 to {limit - 1}"
    if table["id"].is_duplicated().any():
        return "column id: duplicate members"
    if has_own_images:
        wrong = table.filter(
            ~pl.col("split").is_in(_SPLITS).fill_null(False)
            | ~(pl.col("image") >= 0).fill_null(False)
            | ~(pl.col("label") >= 0).fill_null(False)
        )
        if len(wrong):
            return f"member {wrong['id'][0]}: its split, image or label is invalid"
    present = [each for each in HYPERPARAMETERS if each.name in table.columns]
    for name, known in ((each.name, each.choices) for each in present if each.choices):
        unknown = table.filter(pl.col(name).is_null() | ~pl.col(name).is_in(list(known)))
        if len(unknown):
            return f"member {unknown['id'][0]}: no {name} named '{printable(unknown[name][0], 40)}'"
    ranges = {each.name: each.range for each in present if not each.choices}
    ranges |= config.sparsifier.column_ranges
    for name, (low, high) in ranges.items():
        inside = (pl.col(name) >= low) & (pl.col(name) < high) & pl.col(name).is_finite()
        outside = table.filter(~inside.fill_null(False))
        if len(outside):
            return f"member {outside['id'][0]}: {name} {outside[name][0]} is not in [{low}, {high})"
    for name, dtype in table.schema.items():
        texts = table[name].explode() if dtype == pl.List(pl.String) else table[name]
        if texts.dtype == pl.String and (texts.str.len_chars() > _MAX_TEXT_LENGTH).any():
            return f"column {name}: a text is longer than {_MAX_TEXT_LENGTH} characters"
    return None


def earlier_problem(config: ZooConfig, table: pl.DataFrame) -> str | None:
    """Checks that a zoo has all members that it had before it was extended.

    Args:
        config: Config of the zoo.
        table: Its members table.

    Returns:
        A description of the first problem; None if there is none.
    """
    known_ids = set(table["id"].to_list())
    for each in config.earlier or ():
        missing = {new for _, new in each.ids or ()} - known_ids
        if missing:
            return f"it has no member {min(missing)}, which the config names as an earlier member"
    return None


def metrics_problem(config: ZooConfig, members: pl.Series, table: pl.DataFrame) -> str | None:
    """Validates a metrics table.

    Args:
        config: Config of the zoo.
        members: Ids of the zoo's members.
        table: One row per member and epoch, as read.

    Returns:
        A description of the first problem; None if the table is valid.
    """
    sparsities = ["sparsity", *(f"sparsity_{layer}" for layer in config.shape.layers)]
    ranges = {each.name: each.range for each in config.shape.task.metrics}
    ranges |= dict.fromkeys(sparsities, SPARSITY.range)
    measured = list(ranges)
    types: dict[str, Any] = {"member": pl.Int64, "epoch": pl.Int64, "finite": pl.Boolean}
    types |= dict.fromkeys(measured, _FLOATS)
    problem = _columns_problem(table, types, {})
    if problem is not None:
        return problem
    if not table["epoch"].is_between(0, _EPOCH_LIMIT).all() or table["epoch"].has_nulls():
        return f"column epoch: values are not all from 0 to {_EPOCH_LIMIT}"
    if table["finite"].has_nulls():
        return "column finite: null values"
    unknown = table.filter(pl.col("member").is_null() | ~pl.col("member").is_in(members.implode()))
    if len(unknown):
        return f"rows of member {unknown['member'][0]}, which is not in the members table"
    if len(table.select("member", "epoch").unique()) < len(table):
        return "several rows for one member and epoch"
    for name in measured:
        low, high = ranges[name]
        outside = table.filter(
            (pl.col(name) < low) | ((pl.col(name) > high) & ~pl.col(name).is_nan())
        )
        if len(outside):
            row = outside.row(0, named=True)
            return (
                f"member {row['member']}, epoch {row['epoch']}: {name} {row[name]:g} is not in "
                f"[{low}, {high}]"
            )
    return None


def with_states(metrics: pl.DataFrame) -> pl.DataFrame:
    """Selects the rows that were measured on saved states.

    Args:
        metrics: Metrics table; rows without a state have null sparsities by layer.

    Returns:
        The rows with sparsities by layer.
    """
    per_layer = [name for name in metrics.columns if name.startswith("sparsity_")]
    return metrics.drop_nulls(per_layer[:1]) if per_layer else metrics


def _columns_problem(
    table: pl.DataFrame, required: dict[str, Any], optional: dict[str, Any]
) -> str | None:
    """Validates the names and types of a table's columns."""
    for name in required:
        if name not in table.columns:
            return f"column {name} is missing"
    for name, dtype in table.schema.items():
        expected = required.get(name, optional.get(name))
        if expected is None:
            return f"column {printable(name, 60)} is unknown"
        if dtype not in (expected if isinstance(expected, tuple) else (expected,)):
            return f"column {name}: {printable(dtype, 60)}, not {_format_types(expected)}"
    return None


def _format_types(expected: Any) -> str:
    types = expected if isinstance(expected, tuple) else (expected,)
    return " or ".join(str(dtype) for dtype in types)
