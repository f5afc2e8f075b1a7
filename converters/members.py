"""The members table of a converted zoo: its members and their hyperparameters."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from zoojax.architectures.base import Architecture
from zoojax.architectures.chain import Chain
from zoojax.architectures.chain_layers import Activation
from zoojax.architectures.layers import ACTIVATIONS
from zoojax.converters.config_names import spelled
from zoojax.converters.reported import MetricUnits, parse_integer, parse_number
from zoojax.converters.sources import Source
from zoojax.converters.state_dicts import StateDictInfo
from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.declaration import Hyperparameter
from zoojax.hyperparameters.grid import BY_NAME, COLUMNS, FIELDS, HYPERPARAMETERS
from zoojax.hyperparameters.tables import column_types, without_defaults
from zoojax.presets import preset
from zoojax.storage.zoo import Zoo
from zoojax.tasks import IMAGE_COLUMNS
from zoojax.text import printable

_REPORTED = tuple(each for each in COLUMNS if each.torch)
_MAX_SEED = 2**32 - 1
_MAX_NOTES_LENGTH = 2000
_SCHEMA = {
    "source": pl.Int64,
    "seed": pl.Int64,
    **column_types(_REPORTED),
    "ratio": pl.Float64,
    **dict.fromkeys(("trial", "split", "dense_trial"), pl.String),
    **dict.fromkeys(("image", "label"), pl.Int64),
    "missing_epochs": pl.List(pl.Int64),
    "layers": pl.List(pl.String),
    "notes": pl.String,
}


@dataclass(frozen=True)
class Selection:
    """Which members and states are converted.

    Attributes:
        epochs: The epochs; None for all.
        where: A polars SQL expression over the members table, such as
            "learning_rate = 0.001 AND activation = 'tanh'"; None for all members.
        max_abs_weight: States with a larger absolute weight or bias are rejected.
        min_accuracy: States with a lower reported test accuracy, in [0, 1], are rejected.
        strict: Whether the first rejected state is an error.
    """

    epochs: tuple[int, ...] | None = None
    where: str | None = None
    max_abs_weight: float | None = None
    min_accuracy: float | None = None
    strict: bool = False


@dataclass(frozen=True)
class Defaults:
    """Hyperparameters for members that report none.

    Attributes:
        known: Values that a preset defines.
        assumed: Values that are assumed where there is no other, with a note.
    """

    known: dict[str, Any]
    assumed: dict[str, Any]


def members_table(
    sources: list[Source],
    info: StateDictInfo,
    parent: Zoo | None,
    defaults: Defaults,
    selection: Selection,
    units: MetricUnits,
) -> pl.DataFrame:
    """Builds the members table.

    Args:
        sources: The sources of the members.
        info: The network and sparsifier of the members.
        parent: The dense zoo, if the members are twins.
        defaults: Hyperparameters for members that report none.
        selection: The members and epochs to convert.
        units: The units of the reported metrics.

    Returns:
        The table, with an additional column `source`: positions in `sources`.

    Raises:
        ZoojaxError: If a hyperparameter is unknown, the expression selects no member, or a
            twin has no parent.
    """
    own = own_activation(info.architecture)
    if own is not None:
        defaults = Defaults({**defaults.known, "activation": own}, defaults.assumed)
    columns = _columns(sources, defaults, selected_epochs(sources, selection), units)
    table = without_defaults(_flag_duplicates(pl.DataFrame(columns, schema=_SCHEMA)))
    if "ratio" not in info.sparsifier.per_member.values():
        table = table.drop("ratio")
    table = table.drop(name for name in IMAGE_COLUMNS if table[name].is_null().all())
    if selection.where is not None:
        table = _filter(table, selection.where)
    table = table.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("id"), pl.all())
    if parent is not None:
        table = _link_parents(table, parent)
    return table.drop("dense_trial")


def own_activation(architecture: Architecture) -> str | None:
    """Returns the first activation of a network whose layers all name theirs; otherwise None."""
    layers = architecture.sequence if isinstance(architecture, Chain) else ()
    names = [layer.name for layer in layers if isinstance(layer, Activation)]
    if not names or None in names:
        return None
    return next((name for name in names if name in ACTIVATIONS), None)


def _columns(
    sources: list[Source], defaults: Defaults, epochs: set[int], units: MetricUnits
) -> dict[str, list[Any]]:
    """The columns of the members table: one value per source.

    The notes decide the fingerprint of the zoo: reworded, the same files would convert to
    another zoo.
    """
    reported = {each.name: [_reported(source, each) for source in sources] for each in _REPORTED}
    all_values = {name: {*values} - {None} for name, values in reported.items()}
    columns: dict[str, list[Any]] = {name: [] for name in _SCHEMA}
    for position, source in enumerate(sources):
        notes = [*source.notes]
        hyperparams = {
            name: _resolve(source, name, values[position], all_values[name], defaults, notes)
            for name, values in reported.items()
        }
        for each in (each for each in _REPORTED if each.optional):
            value = source.config.get(each.torch)
            if not each.used(hyperparams):
                hyperparams[each.name] = each.default
            elif reported[each.name][position] is None and value is not None:
                notes.append(f"{each.label} {printable(value, 40)} is unknown")
        seed, ratio = _seed(source, notes), _ratio(source, notes)
        notes += units.notes(source.rows.values())
        row = {
            "source": position,
            "seed": seed,
            **hyperparams,
            "ratio": ratio,
            "trial": source.name,
            "split": source.split,
            "image": source.image,
            "label": source.label,
            "layers": source.layers,
            "dense_trial": _basename(source.config.get("training::init_checkpoint_path")),
            "missing_epochs": sorted(epochs - source.states.keys()),
            "notes": printable("; ".join(notes), _MAX_NOTES_LENGTH),
        }
        for name, column in columns.items():
            column.append(row[name])
    return columns


def _filter(table: pl.DataFrame, where: str) -> pl.DataFrame:
    try:
        table = table.filter(pl.sql_expr(where))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ZoojaxError(f"--where {printable(where)!r}: {printable(error)}") from error
    if table.is_empty():
        raise ZoojaxError(f"--where {printable(where)!r} selects no member")
    return table


def _resolve(
    source: Source,
    name: str,
    own: str | float | None,
    all_values: set[str | float | None],
    defaults: Defaults,
    notes: list[str],
) -> Any:
    """Resolves a hyperparameter: the member's own, the one of all others, or the default."""
    if own is not None:
        return own
    if BY_NAME[name].optional:
        return BY_NAME[name].default
    if len(all_values) == 1:
        notes.append(f"{name} taken from the other members")
        return next(iter(all_values))
    if name in defaults.known:
        return defaults.known[name]
    if name in defaults.assumed:
        notes.append(f"{name} is unknown, {defaults.assumed[name]} is assumed")
        return defaults.assumed[name]
    raise ZoojaxError(f"{source.name} reports no {name}; give --preset, which defines it")


def preset_defaults(name: str | None) -> dict[str, Any]:
    """Hyperparameters for which a preset has a single value.

    Args:
        name: The name of the preset; None for no defaults.

    Raises:
        ZoojaxError: If there is no such preset.
    """
    if name is None:
        return {}
    grid = preset(name).grid
    values = {key: getattr(grid, field) for key, field in FIELDS.items()}
    return {key: options[0] for key, options in values.items() if len(options) == 1}


def _reported(source: Source, declared: Hyperparameter) -> str | float | None:
    """The hyperparameter that a member reports; None if it is missing or invalid."""
    value = source.config.get(declared.torch)
    if declared.choices:
        return spelled(value, tuple(declared.choices)) if isinstance(value, str) else None
    number = None if isinstance(value, str) else parse_number(value)
    minimum, maximum = declared.range
    if number is None or not minimum <= number < maximum:
        return None
    return declared.kind(number) if declared.kind(number) == number else None


def _seed(source: Source, notes: list[str]) -> int | None:
    seed = source.config.get("seed")
    if seed is None:
        match = re.search("seed=([0-9]+)", source.name)
        seed = None if match is None else match[1]
    valid = parse_integer(seed, _MAX_SEED)
    if seed is not None and valid is None:
        notes.append(f"seed {printable(seed, 40)} is not an integer from 0 to {_MAX_SEED}")
    return valid


def reported_ratio(source: Source) -> float | None:
    """The pruning ratio that a member reports, in [0, 1); None if it is missing or invalid."""
    value = source.config.get("prune::amount")
    ratio = None if isinstance(value, str) else parse_number(value)
    return ratio if ratio is not None and 0 <= ratio < 1 else None


def _ratio(source: Source, notes: list[str]) -> float | None:
    """The pruning ratio that a member reports, else the fraction of its weights masked."""
    ratio = reported_ratio(source)
    if ratio is not None or source.pruned is None:
        return ratio
    # A mask prunes a whole number of weights: the fraction is rarely the exact ratio.
    ratio = round(source.pruned, 3)
    ratio = ratio if ratio < 1 else source.pruned
    notes.append(f"ratio {ratio:g} taken from its masks")
    return ratio


def _basename(path: object) -> str | None:
    if not isinstance(path, str):
        return None
    return printable(path.replace("\\", "/").rstrip("/").rpartition("/")[2], 200)


def _flag_duplicates(table: pl.DataFrame) -> pl.DataFrame:
    """Notes which members have the same seed and hyperparameters as an earlier one."""
    identities = table.select(["seed", *(each.name for each in _REPORTED), "ratio"]).iter_rows()
    seen: dict[tuple, str] = {}
    notes = []
    for identity, trial, note in zip(identities, table["trial"], table["notes"], strict=True):
        # Two unknown seeds may be different ones.
        known = identity[0] is not None
        earlier = seen.setdefault(identity, trial) if known else trial
        more = [] if earlier == trial else [f"same seed and hyper-parameters as {earlier}"]
        notes.append("; ".join([*([note] if note else []), *more]))
    return table.with_columns(pl.Series("notes", notes, dtype=pl.String))


def _link_parents(table: pl.DataFrame, parent: Zoo) -> pl.DataFrame:
    """Adds the parent member of each twin: by the trial it names, else by its configuration."""
    if not parent.config.is_dense:
        raise ZoojaxError(f"{parent.path} is itself a twin; give the dense zoo as --parent")
    dense = parent.members_table
    trials = dense["trial"].to_list() if "trial" in dense.columns else []
    occurrences = Counter(trials)
    by_trial = {
        trial: member
        for trial, member in zip(trials, dense["id"] if trials else (), strict=True)
        if trial is not None and occurrences[trial] == 1
    }
    # Without the learning rate: twins have their own.
    required = [each for each in HYPERPARAMETERS if not each.optional]
    shared = ["seed", *(each.name for each in required if each.inherited)]
    by_config: dict[tuple, list[int]] = {}
    for row, member in zip(dense.select(shared).iter_rows(), dense["id"], strict=True):
        by_config.setdefault(row, []).append(member)
    parents, unmatched = [], []
    for dense_trial, trial, row in zip(
        table["dense_trial"], table["trial"], table.select(shared).iter_rows(), strict=True
    ):
        candidates = by_config.get(row, [])
        only = candidates[0] if len(candidates) == 1 else None
        parents.append(by_trial.get(dense_trial, only))
        if parents[-1] is None:
            unmatched.append(trial)
    if unmatched:
        raise ZoojaxError(
            f"{len(unmatched)} twin(s) match no single dense member of {parent.path}, the first: "
            f"{unmatched[0]}; omit --parent, or give the zoo they were derived from"
        )
    return table.with_columns(pl.Series("parent_id", parents, dtype=pl.Int64))


def selected_epochs(sources: Sequence[Source], selection: Selection) -> set[int]:
    """The selected epochs of which any member has a state."""
    epochs = {epoch for source in sources for epoch in source.states}
    return epochs if selection.epochs is None else epochs & set(selection.epochs)
