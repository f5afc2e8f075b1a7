"""A zoo on disk: beginning one, adding epochs, going on after an interruption."""

import contextlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import polars as pl

from zoojax.architectures.parameters import pack_mask
from zoojax.datasets.loading import save
from zoojax.datasets.specs import ImageSet
from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import (
    atomic_rmtree,
    atomic_write,
    check_new,
    is_step,
    is_temporary,
    make_folder,
    os_errors,
    write_table,
)
from zoojax.filesystem.locks import locked
from zoojax.filesystem.reading import entries, exists, is_folder, number, numbered
from zoojax.runtime import distributed, signals
from zoojax.storage import checkpoints
from zoojax.storage.schema import members_problem
from zoojax.storage.zoo import (
    CONFIG,
    IMAGES,
    MEMBERS,
    METRICS,
    OPTIMIZER,
    STATES,
    Zoo,
    find_corruption,
    open_zoo,
)
from zoojax.storage.zoo_config import ZooConfig
from zoojax.text import printable


class CorruptionWarning(UserWarning):
    """Saved states are damaged, and training goes on from older ones."""


class ZooWriter:
    """Adds epochs to a zoo; made by `begin_or_continue`.

    Where there are several processes each has one, and all are called together.

    Attributes:
        zoo: the zoo, for reading.
        last_epoch: the newest epoch that training can resume from; None before the first, and
            the config's last one where nothing is left to do.
        rows: of the members table, whose states this process has.
    """

    def __init__(self, zoo: Zoo, last_epoch: int | None):
        self.zoo, self.last_epoch = zoo, last_epoch
        self.rows = distributed.local_rows(len(zoo))

    def append(
        self,
        epoch: int,
        state: dict[str, Any],
        optimizer: dict[str, Any] | None,
        metrics: pl.DataFrame,
    ) -> None:
        """Adds one epoch, which exists for readers only once all of it is on disk.

        Args:
            epoch: its number.
            state: {"params"} and {"log_sigma2"} or {"mask"}, stacked in the order of members:
                of `rows` alone.
            optimizer: the optimiser's moments, stacked; None where there are none.
            metrics: a row a member of `rows`; members without a state at this epoch have none.

        Raises:
            ZoojaxError: the disk refused, this process or another; all earlier epochs are as
                they were.
        """
        if "mask" in state:
            state = {**state, "mask": pack_mask(state["mask"])}
        path = self.zoo.path
        with signals.defer_signals():
            checkpoints.save(path / STATES / str(epoch), state)
            if optimizer is not None:
                checkpoints.save(path / OPTIMIZER / str(epoch), optimizer)
            # Whoever hears of all others knows the epoch before to be whole on disk.
            whole = distributed.all_gather_table(metrics)
            with distributed.main_process_first() as first:
                if first:
                    self._name(epoch, whole)
        self.last_epoch = epoch

    def _name(self, epoch: int, metrics: pl.DataFrame) -> None:
        """Makes a saved epoch one that readers see."""
        path = self.zoo.path
        earlier = self.zoo.metrics.filter(pl.col("epoch") < epoch)
        table = metrics if earlier.is_empty() else pl.concat([earlier, metrics])
        write_table(path / METRICS, table)
        # The newest may turn out damaged: then training resumes from the one before.
        for old in numbered(path / OPTIMIZER)[:-2]:
            shutil.rmtree(path / OPTIMIZER / str(old), ignore_errors=True)

    def note(self, metrics: pl.DataFrame) -> None:
        """Adds metrics of members and epochs without a saved state; those there stay.

        To be called after the last `append`, which keeps metrics of saved epochs alone. Called
        again with the same metrics it writes nothing.

        Args:
            metrics: one row per member of `rows` and epoch; columns as of `append`, with null
                sparsities by layer.

        Raises:
            ZoojaxError: the table cannot be written, by this process or another.
        """
        whole = distributed.all_gather_table(metrics)
        with distributed.main_process_first() as first:
            if first:
                there = self.zoo.metrics_history
                new = whole.join(there, on=["member", "epoch"], how="anti")
                if not new.is_empty():
                    table = pl.concat([there, new]).sort("epoch", "member")
                    atomic_write(self.zoo.path / METRICS, lambda f: table.write_parquet(f))


@contextlib.contextmanager
def create_or_resume(
    path: Path, config: ZooConfig, members: pl.DataFrame, images: ImageSet | None = None
) -> Iterator[ZooWriter]:
    """Creates a zoo without epochs, or opens the one that the same command began.

    In the context of it no other command can write the zoo.

    Args:
        path: its folder.
        config: what its members have in common.
        members: a row a member: id and hyper-parameters.
        images: the image set, for zoos that keep theirs themselves.

    A zoo that the same command has finished is not written: its folder may be read-only.

    Raises:
        ZoojaxError: the folder holds something else: another zoo, or files that are no
            zoo; or another command is writing it. Nothing in it is touched.
    """
    check_new(path)
    distributed.local_rows(len(members))
    # What is written must open again.
    try:
        ZooConfig.from_json(config.to_json())
    except ValueError as error:
        raise ZoojaxError(f"{path} cannot be made: {printable(error)}") from error
    problem = members_problem(config, members)
    if problem is not None:
        raise ZoojaxError(f"{path} cannot be made: {problem}")
    with contextlib.ExitStack() as stack:
        last = None
        with distributed.main_process_first() as first:
            # What is finished is not written, and may lie where nothing can be.
            if first and _is_finished(path, config, members):
                last = config.epochs
            elif first:
                stack.enter_context(locked(path))
                if _is_there(path):
                    last = _continue(path, config, members)
                else:
                    _create(path, config, members, images)
        last = distributed.broadcast_from_first(-1 if last is None else last)
        _await(path)
        yield ZooWriter(open_zoo(path), None if last < 0 else last)


def _create(path: Path, config: ZooConfig, members: pl.DataFrame, images: ImageSet | None) -> None:
    make_folder(path.parent, path)
    beginning = f".{path.name}.tmp-"
    for name in entries(path.parent):
        if name.startswith(beginning) and name.removeprefix(beginning).isdecimal():
            shutil.rmtree(path.parent / name, ignore_errors=True)
    temporary = path.with_name(f"{beginning}{os.getpid()}")
    make_folder(temporary)
    try:
        text = json.dumps(config.to_json(), indent=2) + "\n"
        atomic_write(temporary / CONFIG, lambda file: file.write_text(text, "utf-8"))
        write_table(temporary / MEMBERS, members)
        if images is not None:
            atomic_write(temporary / IMAGES, lambda file: save(images, file))
        with os_errors(path):
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_there(path: Path) -> bool:
    return is_folder(path) and bool(entries(path))


def _is_finished(path: Path, config: ZooConfig, members: pl.DataFrame) -> bool:
    if not _is_there(path):
        return False
    zoo = _open_matching(path, config, members)
    return config.epochs in zoo.epochs and find_corruption(zoo, STATES, config.epochs) is None


def _await(path: Path) -> None:
    """Until this process's host sees the zoo too, that the first process has made."""
    deadline = time.monotonic() + 60
    while not exists(path / CONFIG) and time.monotonic() < deadline:
        time.sleep(0.2)


def _continue(path: Path, config: ZooConfig, members: pl.DataFrame) -> int | None:
    """The epoch to go on from; whatever is of none or of a later one is gone after it."""
    zoo = _open_matching(path, config, members)
    last = _latest_valid_epoch(zoo)
    _remove_partial(zoo, last)
    return last


def _open_matching(path: Path, config: ZooConfig, members: pl.DataFrame) -> Zoo:
    """The zoo at a path, which must be the one that the same command began."""
    if not exists(path / CONFIG):
        raise ZoojaxError(f"{path} is not empty and is not a zoo; give --out a new folder")
    zoo = open_zoo(path)
    for name, old, new in _differences(zoo.config, config):
        raise ZoojaxError(
            f"{path} was begun with {name} {old}, not {new}; give --out another folder, "
            "or the options it was begun with"
        )
    if not zoo.members_table.equals(members):
        raise ZoojaxError(
            f"{path} was begun with other members ({_other(zoo.members_table, members)}); "
            "give --out another folder, or the options it was begun with"
        )
    return zoo


def _latest_valid_epoch(zoo: Zoo) -> int | None:
    """The newest epoch whose files are as they were written; None if training begins anew."""
    damaged, found = [], None
    # A converted zoo has no moments.
    trained = is_folder(zoo.path / OPTIMIZER)
    for epoch in reversed(zoo.epochs):
        # Before training the moments are zero, and after it they are not needed.
        needed = trained and epoch not in (0, zoo.config.epochs)
        gone = needed and not is_folder(zoo.path / OPTIMIZER / str(epoch))
        if gone and epoch != zoo.epochs[-1]:
            continue  # Only the newest are kept.
        folders = (STATES, OPTIMIZER) if needed else (STATES,)
        damage = [told for folder in folders if (told := find_corruption(zoo, folder, epoch))]
        if not damage:
            found = epoch
            break
        damaged += damage
    if damaged:
        whence = "the beginning" if found is None else f"epoch {found}"
        warnings.warn(f"{damaged[0]}; going on from {whence}", CorruptionWarning, stacklevel=2)
    return found


def _other(old: pl.DataFrame, new: pl.DataFrame) -> str:
    """In what two members tables differ."""
    if len(old) != len(new):
        return f"{len(old)}, not {len(new)}"
    names = [n for n in old.columns if n not in new.columns or not old[n].equals(new[n])]
    return "another " + ", ".join(n.replace("_", " ") for n in names or ["table"])


def _differences(old: ZooConfig, new: ZooConfig) -> list[tuple[str, Any, Any]]:
    # Libraries may have been upgraded, and where a twin's parent lies says nothing of it.
    ignored = {"versions"}
    if old.parent is not None and new.parent is not None:
        new = replace(new, parent=replace(new.parent, path=old.parent.path))
    before, after = asdict(old), asdict(new)
    return [(k, before[k], after[k]) for k in before if k not in ignored and before[k] != after[k]]


def _remove_partial(zoo: Zoo, last: int | None) -> None:
    """Removes what an interruption or damage left: temporary files, epochs only half there,
    and those after the last to resume from, which will be made again.

    What zoojax has not written stays.
    """
    kept = {epoch for epoch in zoo.epochs if last is not None and epoch <= last}
    if kept != set(zoo.epochs):
        table = zoo.metrics.filter(pl.col("epoch").is_in(sorted(kept)))
        write_table(zoo.path / METRICS, table)
    for folder in (zoo.path / STATES, zoo.path / OPTIMIZER):
        for name in entries(folder):
            if is_step(name) and number(name) not in kept:
                atomic_rmtree(folder / name)
    for name in entries(zoo.path):
        if is_temporary(name) and (zoo.path / name).is_file():
            with os_errors(zoo.path / name):
                (zoo.path / name).unlink()
