"""The members table of a converted zoo: who is in it, with which hyper-parameters."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from converters.sources import Source
from converters.states import Description
from zoojax.errors import ZoojaxError
from zoojax.models import ACTIVATIONS, INITS
from zoojax.train import OPTIMIZERS
from zoojax.zoo import Zoo

# Column of the members table <- the original code's key.
_HYPER = {
    "activation": "model::nlin",
    "dropout": "model::dropout",
    "init": "model::init_type",
    "optimizer": "optim::optimizer",
    "learning_rate": "optim::lr",
    "weight_decay": "optim::wd",
}
_TEXTS = ("activation", "init", "optimizer")
_SPELLINGS = {"leakyrelu": "leaky_relu", "SGD": "sgd", "Adam": "adam"}


@dataclass(frozen=True)
class Selection:
    """Which members and states are taken.

    Attributes:
        epochs: which epochs; None for all.
        where: a polars SQL expression over the members table, such as
            "learning_rate = 0.001 AND activation = 'tanh'".
        largest_weight: states with a larger absolute weight or bias are rejected.
        lowest_accuracy: states with a lower reported test accuracy (in [0, 1]) are rejected.
        strict: stop at the first rejected state.
    """

    epochs: tuple[int, ...] | None = None
    where: str | None = None
    largest_weight: float | None = None
    lowest_accuracy: float | None = None
    strict: bool = False


def members_table(
    sources: list[Source],
    common: Description,
    parent: Zoo | None,
    defaults: dict[str, Any],
    selection: Selection,
) -> pl.DataFrame:
    """The members table, and in `source` each member's place among the sources."""
    rows = []
    for position, source in enumerate(sources):
        hyper = {name: _hyper(source, sources, name, defaults) for name in _HYPER}
        rows.append(
            {
                "source": position,
                "seed": _seed(source),
                **hyper,
                "ratio": _number(source.config.get("prune::amount")),
                "trial": source.name,
                "split": source.split,
                "layers": list(source.layers),
                "dense_trial": _basename(source.config.get("training::init_checkpoint_path")),
                "missing_epochs": sorted(wanted_epochs(sources, selection) - source.states.keys()),
                "notes": "; ".join(source.notes),
            }
        )
    schema = {
        "source": pl.Int64,
        "seed": pl.Int64,
        **dict.fromkeys(_HYPER, pl.Float64),
        **dict.fromkeys(_TEXTS, pl.String),
        "ratio": pl.Float64,
        **dict.fromkeys(("trial", "split", "dense_trial"), pl.String),
        "missing_epochs": pl.List(pl.Int64),
        "layers": pl.List(pl.String),
        "notes": pl.String,
    }
    table = _note_twins(pl.DataFrame(rows, schema=schema))
    if common.kind != "mp":
        table = table.drop("ratio")
    if table["split"].is_null().all():
        table = table.drop("split")
    if selection.where is not None:
        try:
            table = table.filter(pl.sql_expr(selection.where))
        except pl.exceptions.PolarsError as error:
            raise ZoojaxError(f"--where {selection.where!r}: {error}") from error
        if table.is_empty():
            raise ZoojaxError(f"no member is left by --where {selection.where!r}")
    table = table.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("id"), pl.all())
    if parent is not None:
        table = _linked(table, parent)
    return table.drop("dense_trial")


def _hyper(source: Source, sources: list[Source], name: str, defaults: dict[str, Any]) -> Any:
    """A hyper-parameter: the member's own; else what all others agree on; else the default."""
    own = _said(source, name)
    if own is not None:
        return own
    others = {value for s in sources if (value := _said(s, name)) is not None}
    if len(others) == 1:
        source.notes.append(f"{name} taken from the other members")
        return others.pop()
    if name in defaults:
        return defaults[name]
    raise ZoojaxError(f"{source.name} does not say its {name}; give --preset, which does")


def _said(source: Source, name: str) -> str | float | None:
    """What a member says of a hyper-parameter; None if nothing, or nothing of its type."""
    value = source.config.get(_HYPER[name])
    if name in _TEXTS:
        known = {"activation": ACTIVATIONS, "init": INITS, "optimizer": OPTIMIZERS}[name]
        spelled = _SPELLINGS.get(value, value) if isinstance(value, str) else None
        return spelled if spelled in known else None
    return _number(value)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        return None
    return float(value)


def _seed(source: Source) -> int | None:
    seed = source.config.get("seed")
    if seed is None:
        digits = source.name.partition("seed=")[2]
        seed = digits[: len(digits) - len(digits.lstrip("0123456789"))]
    digits = str(seed)
    return int(digits) if re.fullmatch("[0-9]{1,18}", digits) else None


def _basename(path: object) -> str | None:
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2] if isinstance(path, str) else None


def _note_twins(table: pl.DataFrame) -> pl.DataFrame:
    """Notes members that have seed and hyper-parameters in common with an earlier one."""
    same = table.select(["seed", *_HYPER, "ratio"]).to_dicts()
    seen: dict[str, str] = {}
    notes = []
    for row, trial, note in zip(same, table["trial"], table["notes"], strict=True):
        earlier = seen.setdefault(str(row), trial)
        more = [] if earlier == trial else [f"same seed and hyper-parameters as {earlier}"]
        notes.append("; ".join([*([note] if note else []), *more]))
    return table.with_columns(pl.Series("notes", notes, dtype=pl.String))


def _linked(table: pl.DataFrame, parent: Zoo) -> pl.DataFrame:
    """Links twins to the parent's members: by the trial they name, else by seed and config."""
    if parent.config.kind != "dense":
        raise ZoojaxError(f"{parent.path} is itself a twin; give the dense zoo as --parent")
    dense = parent.roster
    by_trial = (
        dict(zip(dense["trial"], dense["id"], strict=True)) if "trial" in dense.columns else {}
    )
    # Learning rates of twins are their own.
    shared = ["seed", "activation", "init", "optimizer", "weight_decay", "dropout"]
    by_config: dict[tuple, list[int]] = {}
    for row, member in zip(dense.select(shared).iter_rows(), dense["id"], strict=True):
        by_config.setdefault(row, []).append(member)
    ids, lost = [], []
    for named, trial, row in zip(
        table["dense_trial"], table["trial"], table.select(shared).iter_rows(), strict=True
    ):
        candidates = by_config.get(row, [])
        found = by_trial.get(named, candidates[0] if len(candidates) == 1 else None)
        ids.append(found)
        if found is None:
            lost.append(trial)
    if lost:
        raise ZoojaxError(
            f"{len(lost)} twins have no one dense member in {parent.path}, the first: {lost[0]}; "
            "leave --parent out, or give the zoo that they were made from"
        )
    return table.with_columns(pl.Series("parent_id", ids, dtype=pl.Int64))


def wanted_epochs(sources: Sequence[Source], selection: Selection) -> set[int]:
    """The epochs to convert: those that any member has and the selection asks for."""
    there = {e for s in sources for e in s.states}
    return there if selection.epochs is None else there & set(selection.epochs)
