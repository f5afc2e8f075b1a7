"""What the tables and states of a zoo must hold: known from its config alone."""

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
# The longest string of a members table; notes may be long.
_LONGEST = 10_000
_HYPER: dict[str, tuple[float, float]] = {
    "learning_rate": (0, math.inf),
    "weight_decay": (0, math.inf),
    "dropout": (0, 1),
}
_NAMES = {
    "activation": frozenset(layers.ACTIVATIONS),
    "init": frozenset(layers.INITS),
    "optimizer": frozenset(OPTIMIZERS),
}
# What conversion notes of each member: shown, and never acted on.
_CONVERTED: dict[str, Any] = {
    "trial": pl.String,
    "split": pl.String,
    "notes": pl.String,
    "layers": pl.List(pl.String),
    "missing_epochs": pl.List(pl.Int64),
}
_MEASURED = tuple(
    f"{split}_{what}" for split in ("train", "val", "test") for what in ("loss", "acc")
)


def members_problem(config: ZooConfig, table: pl.DataFrame) -> str | None:
    """What is wrong with a members table; None if nothing is.

    Args:
        config: of the zoo.
        table: one row per member, as read.
    """
    kinds: dict[str, Any] = {"id": pl.Int64, "seed": pl.Int64}
    kinds |= dict.fromkeys(_NAMES, pl.String) | dict.fromkeys(_HYPER, pl.Float64)
    if config.kind == "mp":
        kinds["ratio"] = pl.Float64
    if config.parent is not None:
        kinds["parent_id"] = pl.Int64
    problem = _columns_problem(table, kinds, _CONVERTED)
    if problem is not None:
        return problem
    if table.is_empty():
        return "it has no member"
    for name, limit in (("id", _ID_LIMIT), ("parent_id", _ID_LIMIT), ("seed", _SEED_LIMIT)):
        if name in table.columns:
            # A torch zoo need not say the seeds of its members.
            numbers = table[name].drop_nulls() if name == "seed" else table[name]
            if numbers.has_nulls() or not numbers.is_between(0, limit - 1).all():
                return f"column {name}: not all are from 0 to {limit - 1}"
    if table["id"].is_duplicated().any():
        return "column id: a member twice"
    for name, known in _NAMES.items():
        unknown = table.filter(pl.col(name).is_null() | ~pl.col(name).is_in(list(known)))
        if len(unknown):
            return f"member {unknown['id'][0]}: no {name} named '{printable(unknown[name][0], 40)}'"
    ranges = _HYPER | ({"ratio": (0, 1)} if config.kind == "mp" else {})
    for name, (low, high) in ranges.items():
        inside = (pl.col(name) >= low) & (pl.col(name) < high) & pl.col(name).is_finite()
        outside = table.filter(~inside.fill_null(False))
        if len(outside):
            return f"member {outside['id'][0]}: {name} {outside[name][0]} is not in [{low}, {high})"
    for name, kind in table.schema.items():
        texts = table[name].explode() if kind == pl.List(pl.String) else table[name]
        if texts.dtype == pl.String and (texts.str.len_chars() > _LONGEST).any():
            return f"column {name}: a text of more than {_LONGEST} characters"
    return None


def metrics_problem(config: ZooConfig, members: pl.Series, table: pl.DataFrame) -> str | None:
    """What is wrong with a metrics table; None if nothing is.

    Args:
        config: of the zoo.
        members: ids of its members.
        table: one row per member and epoch, as read.
    """
    shares = ["sparsity", *(f"sparsity_{layer}" for layer in config.shape.layers)]
    measured = [*_MEASURED, "ggap", *shares]
    kinds: dict[str, Any] = {"member": pl.Int64, "epoch": pl.Int64, "finite": pl.Boolean}
    kinds |= dict.fromkeys(measured, _FLOATS)
    problem = _columns_problem(table, kinds, {})
    if problem is not None:
        return problem
    if not table["epoch"].is_between(0, _EPOCH_LIMIT).all() or table["epoch"].has_nulls():
        return f"column epoch: not all are from 0 to {_EPOCH_LIMIT}"
    if table["finite"].has_nulls():
        return "column finite: a null"
    strangers = table.filter(
        pl.col("member").is_null() | ~pl.col("member").is_in(members.implode())
    )
    if len(strangers):
        return f"rows of member {strangers['member'][0]}, who is not in the members table"
    if len(table.select("member", "epoch").unique()) < len(table):
        return "a member twice at one epoch"
    for name in measured:
        low, high = (-1, 1) if name == "ggap" else (0, 1)
        if name.endswith("_loss"):
            continue
        outside = table.filter(
            (pl.col(name) < low) | ((pl.col(name) > high) & ~pl.col(name).is_nan())
        )
        if len(outside):
            at = outside.row(0, named=True)
            return (
                f"member {at['member']}, epoch {at['epoch']}: {name} {at[name]:g} is not a share "
                f"from {low} to {high}"
            )
    return None


def _columns_problem(
    table: pl.DataFrame, needed: dict[str, Any], allowed: dict[str, Any]
) -> str | None:
    for name in needed:
        if name not in table.columns:
            return f"it has no column {name}"
    for name, kind in table.schema.items():
        expected = needed.get(name, allowed.get(name))
        if expected is None:
            return f"column {printable(name, 60)}: no zoo has it"
        if kind not in (expected if isinstance(expected, tuple) else (expected,)):
            return f"column {name}: {printable(kind, 60)}, not {_told(expected)}"
    return None


def _told(expected: Any) -> str:
    kinds = expected if isinstance(expected, tuple) else (expected,)
    return " or ".join(str(kind) for kind in kinds)


@functools.cache
def _params(shape: Architecture) -> dict[str, Any]:
    return jax.eval_shape(lambda: cnn.init_params(shape, "uniform", 0))


def state_like(config: ZooConfig, members: int) -> dict[str, Any]:
    """Shapes and types of a saved state, as a pytree of `jax.ShapeDtypeStruct`.

    Args:
        config: of the zoo.
        members: how many it has.

    Returns:
        {"params"}, and {"log_sigma2"} (kind vd) or {"mask"} (kind mp, as bits).
    """
    one: dict[str, Any] = {"params": _params(config.shape)}
    if config.kind == "vd":
        assert config.variant is not None
        variant = config.variant
        one["log_sigma2"] = jax.eval_shape(lambda p: init_log_sigma2(p, variant), one["params"])
    if config.kind == "mp":
        weights = sum(math.prod(leaves["kernel"].shape) for leaves in one["params"].values())
        one["mask"] = jax.ShapeDtypeStruct((-(-weights // 8),), "uint8")
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((members, *x.shape), x.dtype), one)


def unused_like(config: ZooConfig, members: int) -> dict[str, Any] | None:
    """As `state_like`: what converted variational zoos keep of the original files besides.

    That is the log sigma squared of fully connected biases, which nothing reads.
    """
    if config.kind != "vd" or config.variant != "released":
        return None
    like = state_like(config, members)
    return {
        layer: like["params"][layer]["bias"]
        for layer, leaves in like["log_sigma2"].items()
        if "bias" not in leaves
    }
