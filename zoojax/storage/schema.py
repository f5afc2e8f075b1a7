"""Schema of a zoo's tables and states, derived from its config alone."""

import functools
import math
from typing import Any

import jax
import polars as pl

from zoojax.architectures import cnn, layers
from zoojax.architectures.base import Architecture
from zoojax.optimizers import OPTIMIZERS
from zoojax.sparsifiers.variational_dropout import init_log_sigma2
from zoojax.storage.zoo_config import ZooConfig
from zoojax.text import printable

_SEED_LIMIT = 2**32
_ID_LIMIT = 2**31
_EPOCH_LIMIT = 10**8
_FLOATS = (pl.Float32, pl.Float64)
# Length limit of strings in a members table; conversion notes may be long.
_MAX_TEXT_LENGTH = 10_000
# Ranges [low, high) of numeric hyperparameters.
_HYPERPARAMETER_RANGES: dict[str, tuple[float, float]] = {
    "learning_rate": (0, math.inf),
    "weight_decay": (0, math.inf),
    "dropout": (0, 1),
}
_NAMES = {
    "activation": frozenset(layers.ACTIVATIONS),
    "init": frozenset(layers.INITS),
    "optimizer": frozenset(OPTIMIZERS),
}
# Optional columns that conversion adds: shown to users, not used in computations.
_CONVERSION_COLUMNS: dict[str, Any] = {
    "trial": pl.String,
    "split": pl.String,
    "notes": pl.String,
    "layers": pl.List(pl.String),
    "missing_epochs": pl.List(pl.Int64),
}
_PERFORMANCE_COLUMNS = tuple(
    f"{split}_{metric}" for split in ("train", "val", "test") for metric in ("loss", "acc")
)


def members_problem(config: ZooConfig, table: pl.DataFrame) -> str | None:
    """Validates a members table.

    Args:
        config: Config of the zoo.
        table: One row per member, as read.

    Returns:
        A description of the first problem; None if the table is valid.
    """
    types: dict[str, Any] = {"id": pl.Int64, "seed": pl.Int64}
    types |= dict.fromkeys(_NAMES, pl.String) | dict.fromkeys(_HYPERPARAMETER_RANGES, pl.Float64)
    if config.kind == "mp":
        types["ratio"] = pl.Float64
    if config.parent is not None:
        types["parent_id"] = pl.Int64
    problem = _columns_problem(table, types, _CONVERSION_COLUMNS)
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
    for name, known in _NAMES.items():
        unknown = table.filter(pl.col(name).is_null() | ~pl.col(name).is_in(list(known)))
        if len(unknown):
            return f"member {unknown['id'][0]}: no {name} named '{printable(unknown[name][0], 40)}'"
    ranges = _HYPERPARAMETER_RANGES | ({"ratio": (0, 1)} if config.kind == "mp" else {})
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
    measured = [*_PERFORMANCE_COLUMNS, "ggap", *sparsities]
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
        low, high = (-1, 1) if name == "ggap" else (0, 1)
        if name.endswith("_loss"):
            continue
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


@functools.cache
def _param_shapes(shape: Architecture) -> dict[str, Any]:
    return jax.eval_shape(lambda: cnn.init_params(shape, "uniform", 0))


def state_like(config: ZooConfig, members: int) -> dict[str, Any]:
    """Shapes and dtypes of a saved state.

    Args:
        config: Config of the zoo.
        members: Number of its members.

    Returns:
        A pytree of `jax.ShapeDtypeStruct`: {"params"}, with {"log_sigma2"} (kind "vd") or
        {"mask"} (kind "mp", packed into bits).
    """
    member: dict[str, Any] = {"params": _param_shapes(config.shape)}
    if config.kind == "vd":
        assert config.variant is not None
        variant = config.variant
        member["log_sigma2"] = jax.eval_shape(
            lambda p: init_log_sigma2(p, variant), member["params"]
        )
    if config.kind == "mp":
        weights = sum(math.prod(leaves["kernel"].shape) for leaves in member["params"].values())
        member["mask"] = jax.ShapeDtypeStruct((-(-weights // 8),), "uint8")
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((members, *x.shape), x.dtype), member)


def unused_like(config: ZooConfig, members: int) -> dict[str, Any] | None:
    """Shapes and dtypes of arrays that converted variational-dropout zoos keep but never use.

    These are the log sigma squared of fully connected biases in the original files. They are
    stored so that a conversion back to PyTorch reproduces those files.

    Args:
        config: Config of the zoo.
        members: Number of its members.

    Returns:
        A pytree of `jax.ShapeDtypeStruct` by layer; None for zoos without such arrays.
    """
    if config.kind != "vd" or config.variant != "released":
        return None
    like = state_like(config, members)
    return {
        layer: like["params"][layer]["bias"]
        for layer, leaves in like["log_sigma2"].items()
        if "bias" not in leaves
    }
