"""Trains a zoo, or extends the one in its folder by epochs or members.

A zoo is extended if it is requested again with more epochs, or with more members that include its
own. The result is bit-identical to training the whole zoo in one call with the same chunk.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from zoojax.api.common import zoo_writer
from zoojax.datasets.specs import ImageSet
from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import atomic_write, os_errors
from zoojax.filesystem.locks import locked
from zoojax.filesystem.reading import exists
from zoojax.hyperparameters.tables import with_defaults, without_defaults
from zoojax.runtime import distributed
from zoojax.schedules import needs_epochs
from zoojax.storage import extension
from zoojax.storage.parent import paired, present_ids
from zoojax.storage.published import is_published
from zoojax.storage.states import StateParts
from zoojax.storage.stores import CONFIG, OPTIMIZER
from zoojax.storage.writer import check_valid
from zoojax.storage.zoo import Zoo, open_zoo
from zoojax.storage.zoo_config import ZooConfig
from zoojax.text import printable
from zoojax.training import trainer
from zoojax.training.callbacks import EpochCallback

# Function from a members table to a function from its rows to the states at epoch 0.
Starting = Callable[[pl.DataFrame], Callable[[slice], StateParts]]


class Run(Protocol):
    """Function that trains a zoo, or a part of the requested one."""

    def __call__(
        self, folder: Path, settings: ZooConfig, table: pl.DataFrame, is_part: bool = False, /
    ) -> Zoo:
        """Returns the complete zoo in a folder."""
        ...


# Suffix of the name of a zoo whose settings differ from its preset.
_CUSTOM = "-custom"
# What an extension may change in the config of a zoo, besides the name.
_CHANGED = {"epochs", "name", "preset", "earlier", "versions", "parent"}


def train_or_extend(
    out: Path | None,
    config: ZooConfig,
    members: pl.DataFrame,
    images: ImageSet,
    store_images: bool,
    starting: Starting,
    report: trainer.ProgressCallback | None = None,
    callbacks: tuple[EpochCallback, ...] = (),
    parent: Zoo | None = None,
) -> Zoo:
    """Trains a zoo to its last epoch; resumes or extends the one in its folder.

    Args:
        out: Folder of the zoo; None for one in memory.
        config: Settings that all members share.
        members: One row per member.
        images: Images of the zoo.
        store_images: Whether the images are part of the zoo.
        starting: Creates the states at epoch 0 of the members in a table.
        report: Progress callback; see `trainer.train`.
        callbacks: Called with the metrics of each epoch of the complete zoo.
        parent: The dense zoo of a twin.

    Returns:
        The complete zoo.

    Raises:
        ZoojaxError: The zoo in the folder was created with other settings, cannot be extended, or
            writing failed.
    """

    def run(
        folder: Path | None, settings: ZooConfig, table: pl.DataFrame, is_part: bool = False
    ) -> Zoo:
        own = table if parent is None else present_ids(parent, settings.parent, table)
        initial, notified = starting(own), () if is_part else callbacks
        with zoo_writer(folder, settings, table, images, store_images) as writer:
            # Otherwise, the progress display would report a complete part as the complete zoo.
            is_done = is_part and settings.epochs in writer.zoo.epochs
            return trainer.train(writer, initial, images, None if is_done else report, notified)

    if out is not None and exists(extension.work_folder(out)):
        with distributed.main_process_first() as is_first:
            if is_first:
                with locked(out):
                    extension.finish_replacing(out)
    if out is None or not exists(out / CONFIG) or is_published(out):
        return run(out, config, members)
    existing = open_zoo(out)
    if _network(existing.config) == _network(config):
        # Opening compared the networks; measured again, the last digits may differ.
        config = replace(config, definition=existing.config.definition)
    known = existing if parent is None else paired(parent, existing)
    rows = _common_rows(known, config, members)
    recorded = _as_recorded(existing, known, config)
    if rows is None:
        if not known.members_table.equals(members):
            return run(out, config, members)
        return run(out, recorded, existing.members_table)
    if config.epochs > known.config.epochs:
        _check_epochs(known, config, members)
        _add_epochs(existing, recorded)
    if len(members) == len(known):
        return run(out, recorded, existing.members_table)
    return _add_members(out, config, recorded, members, rows, run)


def _add_members(
    out: Path,
    config: ZooConfig,
    recorded: ZooConfig,
    members: pl.DataFrame,
    rows: list[int],
    run: Run,
) -> Zoo:
    """Adds members to the zoo in a folder; `recorded` is the config as `_as_recorded` returns it.

    Raises:
        ZoojaxError: Several processes run, or writing failed.
    """
    if distributed.is_distributed():
        raise ZoojaxError(f"{out}: only one process can add members; run a single process")
    check_valid(out, config, members)
    existing = run(out, recorded, open_zoo(out).members_table, True)
    added = members[np.setdiff1d(np.arange(len(members)), rows).tolist()]
    new = _train_new(out, config, without_defaults(added), run)
    ids = members["id"].gather(rows).to_list()
    earlier = extension.history(existing, dict(zip(existing.members_table["id"], ids, strict=True)))
    with locked(out):
        extension.merge(existing, new, replace(config, earlier=earlier), members, rows)
        extension.replace_zoo(out)
    return run(out, config, members)


def _as_recorded(existing: Zoo, known: Zoo, config: ZooConfig) -> ZooConfig:
    """Returns a requested config with the parent that the existing twin records.

    The parent may have been extended since, which can change its name.

    Args:
        existing: The zoo in the folder.
        known: The same zoo with its present parent; see `paired`.
        config: The requested config.
    """
    if known is existing:
        return config
    old = existing.config
    names = {"name": old.name, "preset": old.preset} if _same_name(old, config) else {}
    return replace(config, parent=old.parent, **names)


def _common_rows(zoo: Zoo, config: ZooConfig, members: pl.DataFrame) -> list[int] | None:
    """Returns the rows of a zoo's members in a larger request; None if it is not larger.

    Raises:
        ZoojaxError: It is larger, but lacks a member.
    """
    old = zoo.config
    larger = (config.epochs > old.epochs, len(members) > len(zoo))
    if not any(larger) or config.epochs < old.epochs or len(members) < len(zoo):
        return None
    before, after = asdict(old), asdict(config)
    if any(before[name] != after[name] for name in before if name not in _CHANGED):
        return None
    if not _same_name(old, config) or _parent_of(old) != _parent_of(config):
        return None
    rows = extension.positions(zoo.members_table, members)
    if isinstance(rows, list):
        return rows
    lost = zoo.members_table.row(rows, named=True)
    raise ZoojaxError(
        f"{zoo.path} cannot be extended: its member {lost['id']} (seed {lost['seed']}) is not one "
        f"of the {len(members)} members requested; give --out another folder, or the options that "
        "it was created with"
    )


def _network(config: ZooConfig) -> tuple[str, int, int]:
    return config.architecture, config.channels, config.classes


def _same_name(old: ZooConfig, new: ZooConfig) -> bool:
    """Whether names are the same except for "-custom", which depends on the number of epochs."""
    return old.name.replace(_CUSTOM, "") == new.name.replace(_CUSTOM, "")


def _parent_of(config: ZooConfig) -> tuple[str, int] | None:
    return None if config.parent is None else (config.parent.fingerprint, config.parent.epoch)


def _check_epochs(zoo: Zoo, config: ZooConfig, members: pl.DataFrame) -> None:
    """Raises a ZoojaxError if the first epochs of a longer training would differ."""
    steps = f"{zoo.path} has {zoo.config.epochs} epochs and cannot be extended to {config.epochs}"
    if config.sparsifier.needs_epochs:
        raise ZoojaxError(
            f"{steps}: {config.sparsifier.label} depends on the number of epochs; give --out "
            "another folder to train all of them"
        )
    for member in with_defaults(members).iter_rows(named=True):
        if needs_epochs(member["schedule"], member["warmup"]):
            what = f"schedule {member['schedule']}" if member["warmup"] == 0 else "the warm-up"
            raise ZoojaxError(
                f"{steps}: {printable(what)} depends on the number of epochs; give --out another "
                "folder to train all of them"
            )
    if zoo.epochs and not set(zoo.epochs) & set(zoo.store.epochs(OPTIMIZER)):
        raise ZoojaxError(
            f"{steps}: it has no optimizer state, like a converted zoo; give --out another folder "
            "to train all of them"
        )


def _add_epochs(zoo: Zoo, config: ZooConfig) -> None:
    """Changes the number of epochs of a zoo, which training then continues to."""
    longer = replace(config, earlier=extension.history(zoo))
    check_valid(zoo.path, longer, zoo.members_table)
    text = json.dumps(longer.to_json(), indent=2) + "\n"
    with distributed.main_process_first() as is_first:
        if is_first:
            with locked(zoo.path):
                atomic_write(zoo.path / CONFIG, lambda file: file.write_text(text, "utf-8"))


def _train_new(out: Path, config: ZooConfig, members: pl.DataFrame, run: Run) -> Zoo:
    """Trains the new members of a zoo in a separate folder, or resumes their training."""
    folder = extension.new_members_folder(out)
    if exists(folder / CONFIG):
        started = open_zoo(folder)
        same = replace(started.config, versions=config.versions, parent=config.parent) == config
        if not same or not started.members_table.equals(members):
            # Left by an extension with other members.
            with os_errors(folder):
                shutil.rmtree(folder.parent)
    return run(folder, config, members, True)
