"""The members table of a converted zoo: who is in it, with which hyper-parameters."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from zoojax.architectures.layers import ACTIVATIONS, INITS
from zoojax.converters.reported import Reports, number, whole
from zoojax.converters.sources import Source
from zoojax.converters.state_dicts import StateDictInfo
from zoojax.errors import ZoojaxError
from zoojax.optimizers import OPTIMIZERS
from zoojax.storage.zoo import Zoo
from zoojax.text import printable

# Column of the members table <- the original code's key.
_HYPER = {
    "activation": "model::nlin",
    "dropout": "model::dropout",
    "init": "model::init_type",
    "optimizer": "optim::optimizer",
    "learning_rate": "optim::lr",
    "weight_decay": "optim::wd",
}
_TEXTS: dict[str, frozenset[str]] = {
    "activation": frozenset(ACTIVATIONS),
    "init": frozenset(INITS),
    "optimizer": frozenset(OPTIMIZERS),
}
# [least, most) of the numbers.
_RANGES = {
    "dropout": (0.0, 1.0),
    "learning_rate": (0.0, math.inf),
    "weight_decay": (0.0, math.inf),
}
_SPELLINGS = {"leakyrelu": "leaky_relu", "SGD": "sgd", "Adam": "adam"}
_LAST_SEED = 2**32 - 1
_LONGEST_NOTES = 2000


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
    common: StateDictInfo,
    parent: Zoo | None,
    defaults: dict[str, Any],
    selection: Selection,
    reports: Reports,
) -> pl.DataFrame:
    """The members table, and in `source` each member's place among the sources.

    Raises:
        ZoojaxError: a hyper-parameter that nothing gives, an expression that selects no
            member, or twins without a parent.
    """
    wanted = wanted_epochs(sources, selection)
    said = [{name: _said(source, name) for name in _HYPER} for source in sources]
    agreed = {name: {hyper[name] for hyper in said} - {None} for name in _HYPER}
    rows = []
    for position, (source, own) in enumerate(zip(sources, said, strict=True)):
        notes = [*source.notes]
        hyper = {n: _hyper(source, n, own[n], agreed[n], defaults, notes) for n in _HYPER}
        seed, ratio = _seed(source, notes), _ratio(source, notes)
        notes += reports.notes(source.rows.values())
        rows.append(
            {
                "source": position,
                "seed": seed,
                **hyper,
                "ratio": ratio,
                "trial": source.name,
                "split": source.split,
                "layers": list(source.layers),
                "dense_trial": _basename(source.config.get("training::init_checkpoint_path")),
                "missing_epochs": sorted(wanted - source.states.keys()),
                "notes": printable("; ".join(notes), _LONGEST_NOTES),
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
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            where = printable(selection.where)
            raise ZoojaxError(f"--where {where!r}: {printable(error)}") from error
        if table.is_empty():
            raise ZoojaxError(f"no member is left by --where {printable(selection.where)!r}")
    table = table.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("id"), pl.all())
    if parent is not None:
        table = _linked(table, parent)
    return table.drop("dense_trial")


def _hyper(
    source: Source,
    name: str,
    own: str | float | None,
    agreed: set[str | float | None],
    defaults: dict[str, Any],
    notes: list[str],
) -> Any:
    """A hyper-parameter: the member's own; else what all others agree on; else the default."""
    if own is not None:
        return own
    if len(agreed) == 1:
        notes.append(f"{name} taken from the other members")
        return next(iter(agreed))
    if name in defaults:
        return defaults[name]
    raise ZoojaxError(f"{source.name} does not say its {name}; give --preset, which does")


def _said(source: Source, name: str) -> str | float | None:
    """What a member says of a hyper-parameter; None if nothing, or nothing it can be."""
    value = source.config.get(_HYPER[name])
    if name in _TEXTS:
        spelled = _SPELLINGS.get(value, value) if isinstance(value, str) else None
        return spelled if spelled in _TEXTS[name] else None
    found = None if isinstance(value, str) else number(value)
    least, most = _RANGES[name]
    return found if found is not None and least <= found < most else None


def _seed(source: Source, notes: list[str]) -> int | None:
    seed = source.config.get("seed")
    if seed is None:
        found = re.search("seed=([0-9]+)", source.name)
        seed = None if found is None else found[1]
    valid = whole(seed, _LAST_SEED)
    if seed is not None and valid is None:
        notes.append(f"seed {printable(seed, 40)} is not an integer from 0 to {_LAST_SEED}")
    return valid


def said_ratio(source: Source) -> float | None:
    """The pruning ratio that a member says, in [0, 1); None if it says none."""
    said = source.config.get("prune::amount")
    ratio = None if isinstance(said, str) else number(said)
    return ratio if ratio is not None and 0 <= ratio < 1 else None


def _ratio(source: Source, notes: list[str]) -> float | None:
    """The pruning ratio that a member says, else the share of its weights that are masked."""
    ratio = said_ratio(source)
    if ratio is not None or source.pruned is None:
        return ratio
    # Masks are of whole weights, so the share is hardly ever the ratio itself.
    ratio = round(source.pruned, 3)
    ratio = ratio if ratio < 1 else source.pruned
    notes.append(f"ratio {ratio:g} taken from its masks")
    return ratio


def _basename(path: object) -> str | None:
    if not isinstance(path, str):
        return None
    return printable(path.replace("\\", "/").rstrip("/").rpartition("/")[2], 200)


def _note_twins(table: pl.DataFrame) -> pl.DataFrame:
    """Notes members that have seed and hyper-parameters in common with an earlier one."""
    same = table.select(["seed", *_HYPER, "ratio"]).to_dicts()
    seen: dict[str, str] = {}
    notes = []
    for row, trial, note in zip(same, table["trial"], table["notes"], strict=True):
        # Of members without a seed nobody knows whether it is the same.
        earlier = trial if row["seed"] is None else seen.setdefault(str(row), trial)
        more = [] if earlier == trial else [f"same seed and hyper-parameters as {earlier}"]
        notes.append("; ".join([*([note] if note else []), *more]))
    return table.with_columns(pl.Series("notes", notes, dtype=pl.String))


def _linked(table: pl.DataFrame, parent: Zoo) -> pl.DataFrame:
    """Links twins to the parent's members: by the trial they name, else by seed and config."""
    if parent.config.kind != "dense":
        raise ZoojaxError(f"{parent.path} is itself a twin; give the dense zoo as --parent")
    dense = parent.members_table
    trials = dense["trial"].to_list() if "trial" in dense.columns else []
    times = Counter(trials)
    by_trial = {
        trial: member
        for trial, member in zip(trials, dense["id"] if trials else (), strict=True)
        if trial is not None and times[trial] == 1
    }
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
