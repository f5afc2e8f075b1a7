"""Extended zoos: finds the existing members, and merges old and new members into one folder.

Additional members are trained in a hidden folder next to the zoo:

    .NAME.extension/members/   a zoo of the new members
    .NAME.extension/zoo/       the extended zoo; complete once it has a zoo.json
    .NAME.extension/before/    the earlier zoo, once the extended one replaces it

Until then, the zoo itself does not change. A command that is killed at any time can be resumed.
"""

import json
import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import polars as pl

from zoojax.filesystem.atomic import (
    atomic_write,
    is_temporary,
    make_folder,
    os_errors,
    sync_folder,
    write_table,
)
from zoojax.filesystem.reading import entries, exists, resolved
from zoojax.hyperparameters.tables import with_defaults
from zoojax.runtime.population import concatenate, take
from zoojax.storage import checkpoints
from zoojax.storage.stores import CONFIG, IMAGES, MEMBERS, METRICS, OPTIMIZER, STATES
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_config import Earlier, ZooConfig

_OWN = (CONFIG, MEMBERS, METRICS, STATES, OPTIMIZER)
_NEW, _WHOLE, _BEFORE = "members", "zoo", "before"


def work_folder(path: Path) -> Path:
    """Returns the hidden folder in which the zoo in a folder is extended."""
    target = resolved(path)
    return target.with_name(f".{target.name}.extension")


def new_members_folder(path: Path) -> Path:
    """Returns the folder in which the new members of a zoo are trained."""
    return work_folder(path) / _NEW


def positions(old: pl.DataFrame, new: pl.DataFrame) -> list[int] | int:
    """Finds the members of a zoo in a larger members table.

    Members are the same if their rows are, except for the id.

    Args:
        old: Members table of the zoo.
        new: The larger table.

    Returns:
        The row in `new` of each row of `old`; the first row of `old` that is not in `new`.

    Example:
        >>> from zoojax.storage.extension import positions
        >>> search = zoojax.Grid(learning_rates=(0.1, 0.2), seeds=1)
        >>> larger = zoojax.Grid(learning_rates=(0.1, 0.2), seeds=2)
        >>> positions(search.members(), larger.members())
        [0, 2]
        >>> positions(larger.members(), search.members())
        1
    """
    old, new = with_defaults(old).drop("id"), with_defaults(new).drop("id")
    if set(old.columns) != set(new.columns):
        return 0
    rows = defaultdict(list)
    for row, member in enumerate(new.iter_rows()):
        rows[repr(member)].append(row)
    found = []
    for row, member in enumerate(old.select(new.columns).iter_rows()):
        if not rows[repr(member)]:
            return row
        found.append(rows[repr(member)].pop(0))
    return found


def history(zoo: Zoo, ids: dict[int, int] | None = None) -> tuple[Earlier, ...]:
    """Returns the earlier identities of a zoo that is extended.

    Args:
        zoo: The zoo that is extended.
        ids: New id of each member by its id; None if ids stay the same.
    """
    pairs = None
    if ids is not None and any(old != new for old, new in ids.items()):
        pairs = tuple(ids.items())
    known = []
    for each in zoo.config.earlier or ():
        if pairs is not None and ids is not None:
            # Without ids, it had the present ids, but perhaps fewer members.
            renamed = pairs if each.ids is None else _renamed(each.ids, ids)
            each = replace(each, ids=renamed)
        known.append(each)
    own = Earlier(zoo.fingerprint, pairs)
    return (*(each for each in known if each.fingerprint != own.fingerprint), own)


def _renamed(pairs: tuple[tuple[int, int], ...], ids: dict[int, int]) -> tuple:
    return tuple((then, ids[now]) for then, now in pairs)


def merge(old: Zoo, new: Zoo, config: ZooConfig, members: pl.DataFrame, rows: list[int]) -> Path:
    """Writes the zoo that has the members of two zoos with the same epochs.

    Args:
        old: The zoo that is extended.
        new: A zoo of the other members, in the order of `members`.
        config: Config of the extended zoo.
        members: Its members table.
        rows: Row of each member of `old` in it.

    Returns:
        The folder, which has a zoo.json once it is complete.

    Raises:
        ZoojaxError: If a zoo is damaged, or writing failed.
    """
    folder = work_folder(old.path) / _WHOLE
    with os_errors(folder):
        shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder)
    added = np.setdiff1d(np.arange(len(members)), rows)
    order = np.argsort(np.concatenate([rows, added]))
    for epoch in sorted({*old.epochs} & {*new.epochs}):
        states = [zoo.store.read(STATES, epoch, None, None, None) for zoo in (old, new)]
        checkpoints.save(folder / STATES / str(epoch), take(concatenate(states), order))
    for epoch in sorted({*old.store.epochs(OPTIMIZER)} & {*new.store.epochs(OPTIMIZER)}):
        moments = [zoo.optimizer_state(epoch) for zoo in (old, new)]
        joined = _joined_moments(*moments, counts=(len(old), len(new)))
        checkpoints.save(folder / OPTIMIZER / str(epoch), take(joined, order))
    write_table(folder / METRICS, _joined_metrics(old, new, members, rows, added))
    write_table(folder / MEMBERS, members)
    if old.store.has_images:
        atomic_write(folder / IMAGES, lambda file: shutil.copyfile(old.path / IMAGES, file))
    text = json.dumps(config.to_json(), indent=2) + "\n"
    atomic_write(folder / CONFIG, lambda file: file.write_text(text, "utf-8"))
    return folder


def _joined_moments(old: dict, new: dict, counts: tuple[int, int]) -> dict[str, Any]:
    """Joins optimizer states, with zeros for members that use another optimizer."""

    def zeros(tree: Any, count: int) -> Any:
        return jax.tree.map(lambda x: np.zeros((count, *x.shape[1:]), x.dtype), tree)

    joined = {}
    for name in sorted({*old, *new}):
        like = old.get(name, new.get(name))
        parts = [each.get(name) for each in (old, new)]
        filled = [
            zeros(like, count) if part is None else part
            for part, count in zip(parts, counts, strict=True)
        ]
        joined[name] = concatenate(filled)
    return joined


def _joined_metrics(
    old: Zoo, new: Zoo, members: pl.DataFrame, rows: list[int], added: np.ndarray
) -> pl.DataFrame:
    tables = []
    for zoo, positions_in_all in ((old, np.array(rows)), (new, added)):
        present = members["id"].gather(positions_in_all.tolist())
        ids = dict(zip(zoo.members_table["id"], present, strict=True))
        table = zoo.metrics_history
        tables.append(table.with_columns(pl.col("member").replace_strict(ids)))
    row_of = dict(zip(members["id"], range(len(members)), strict=True))
    joined = pl.concat(tables, how="vertical_relaxed")
    order = pl.col("member").replace_strict(row_of, return_dtype=pl.Int64)
    return joined.sort("epoch", order, maintain_order=True)


def finish_replacing(path: Path) -> None:
    """Completes an interrupted replacement of a zoo by its extension, if there is one.

    Args:
        path: Folder of the zoo.

    Raises:
        ZoojaxError: If a folder cannot be renamed.
    """
    work, target = work_folder(path), resolved(path)
    if not exists(work / _BEFORE):
        return
    with os_errors(path):
        if not exists(target):
            (work / _WHOLE).rename(target)
            sync_folder(target.parent)
        # Files that zoojax did not write stay in the folder.
        for name in entries(work / _BEFORE):
            if name not in _OWN and not is_temporary(name) and not exists(target / name):
                (work / _BEFORE / name).rename(target / name)
        shutil.rmtree(work)


def replace_zoo(path: Path) -> None:
    """Replaces a zoo by its extension, which `merge` has written.

    Args:
        path: Folder of the zoo.

    Raises:
        ZoojaxError: If a folder cannot be renamed.
    """
    with os_errors(path):
        resolved(path).rename(work_folder(path) / _BEFORE)
    finish_replacing(path)
