"""Whether a zoo and its twins were trained as their preset says.

A zoo matches its preset if it differs from it only in the number of its members and their seeds:
`recorded` decides this for a zoo to be trained, `difference` and `twin_difference` for existing
zoos.
"""

from dataclasses import replace
from typing import Any

import polars as pl

from zoojax.hyperparameters.grid import BY_NAME, OPTIONAL, Grid, changed
from zoojax.hyperparameters.tables import with_defaults
from zoojax.presets.known import PRESETS, preset
from zoojax.presets.settings import Preset
from zoojax.sparsifiers.base import Sparsifier
from zoojax.storage.zoo import Zoo


def recorded(name: str, settings: Preset) -> tuple[str, str | None]:
    """Returns the default name of a zoo trained from a preset, and the preset that it records.

    Args:
        name: Name of the preset.
        settings: The preset, possibly with changes.

    Returns:
        (name, name) if only the number of members was changed; otherwise the name with the
        suffix "-custom", and None.
    """
    original = preset(name)
    same_members = replace(settings, grid=replace(settings.grid, seeds=original.grid.seeds))
    return (name, name) if same_members == original else (f"{name}-custom", None)


def preset_of(zoo: Zoo) -> Preset | None:
    """Returns the preset that a zoo records; None if it records none or an unknown one."""
    return PRESETS.get(zoo.config.preset or "")


def resolve_learning_rate(
    requested: float | None, zoo: Zoo, sparsifier: Sparsifier
) -> float | None:
    """Returns the learning rate of a zoo's twins: the requested one, else that of its preset.

    Args:
        requested: Requested learning rate; None if not given.
        zoo: The dense zoo.
        sparsifier: Sparsifier of the twins.

    Returns:
        The learning rate; None keeps each member's own.
    """
    settings = preset_of(zoo)
    twin = None if settings is None else settings.twin(sparsifier.name)
    return twin.learning_rate if requested is None and twin is not None else requested


def difference(zoo: Zoo) -> str | None:
    """Describes the first difference between a dense zoo and the preset that it records.

    The images match if they are the preset's image set with its split and normalization; those
    stored in a converted zoo cannot be checked and are assumed to match. The number of members
    and their seeds may differ, but the combinations of hyperparameters must be the preset's.

    Returns:
        A clause such as "its batch size is 64, not 10"; None if there is no difference.
    """
    settings, config = preset_of(zoo), zoo.config
    if settings is None:
        return "it records no known preset"
    if config.origin is not None:
        return "its members did not start untrained"
    if config.data is None and config.data_hash is None:
        return "its images are unknown"
    if config.data is not None and config.data != settings.data:
        return f"its images are not those of {config.preset}"
    for field, value, expected in (
        ("architecture", config.architecture, settings.architecture),
        ("number of channels", config.channels, settings.data.channels),
        ("number of epochs", config.epochs, settings.epochs),
        ("batch size", config.batch_size, settings.batch_size),
        ("data order", config.data_order, settings.data_order),
    ):
        if value != expected:
            return f"its {field} is {value}, not {expected}"
    if not _has_members_of(settings.grid, zoo.members_table):
        return f"its members' hyperparameters are not those of {config.preset}"
    return None


def twin_difference(zoo: Zoo, twin: Zoo) -> str | None:
    """Describes the first difference between a twin and the twins of its preset in the paper.

    If sparsity varies with the epoch, the number of epochs may differ: fewer epochs are the first
    part of the same training.

    Args:
        zoo: The dense parent, for which `difference` is None.
        twin: Its twin.

    Returns:
        A clause such as "its number of epochs is 5, not 15"; None if there is no difference.
    """
    settings, config = preset_of(zoo), twin.config
    assert settings is not None and config.parent is not None
    if config.origin is not None:
        return "its weights were not pruned by magnitude"
    if config.parent.epoch != settings.epochs:
        return f"it starts from epoch {config.parent.epoch} of its parent, not {settings.epochs}"
    sparsifier, expected = config.sparsifier, settings.twin(config.sparsifier.name)
    if expected is None:
        return f"the paper has no twins by {sparsifier.label}"
    if sparsifier not in (expected.sparsifier, expected.alternative):
        return f"it was created by {sparsifier.describe()}, not {expected.sparsifier.describe()}"
    if sparsifier.sweep == "ratio" and config.epochs != sparsifier.default_epochs:
        return f"its number of epochs is {config.epochs}, not {sparsifier.default_epochs}"
    rates = None if expected.learning_rate is None else {"learning_rate": expected.learning_rate}
    grid = changed(settings.grid, _not_inherited() | (rates or {}))
    if not _has_members_of(grid, twin.members_table):
        return f"its members' hyperparameters are not those of {config.preset}"
    return None


def _not_inherited() -> dict[str, Any]:
    """Defaults of the hyperparameters that twins do not inherit, such as the schedule."""
    return {each.name: each.default for each in OPTIONAL if not each.inherited}


def _has_members_of(grid: Grid, table: pl.DataFrame) -> bool:
    """Whether the members of a table are those of a grid, each combination at least once."""
    table = with_defaults(table)
    if not {"seed", *BY_NAME} <= set(table.columns):
        return False
    combinations, found = list(grid.listed()), set[int]()
    rows = table.select("seed", *BY_NAME).unique(maintain_order=True)
    if not grid.distributions:
        rows = rows.unique(list(BY_NAME), maintain_order=True)
    listed = {_comparable(each): i for i, each in enumerate(combinations)}
    for row in rows.iter_rows(named=True):
        expected = listed
        if grid.distributions:
            own = [grid.complete({"seed": row["seed"], **each}) for each in combinations]
            expected = {_comparable(each): i for i, each in enumerate(own)}
        position = expected.get(_comparable(row))
        if position is None:
            return False
        found.add(position)
    return len(found) == len(combinations)


def _comparable(member: dict[str, Any]) -> tuple:
    """Formats numbers with six digits, since some were stored as float32."""
    values = (member[name] for name in BY_NAME)
    return tuple(f"{v:.6g}" if isinstance(v, int | float) else v for v in values)
