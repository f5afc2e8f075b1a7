"""Creates zoos on disk, appends epochs to them, and resumes them after interruptions."""

import contextlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from zoojax.datasets import loading
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
from zoojax.storage import checkpoints, parts, states, timing
from zoojax.storage.differences import describe_difference, settings_difference
from zoojax.storage.integrity import find_corruption
from zoojax.storage.published import is_published
from zoojax.storage.schema import earlier_problem, members_problem
from zoojax.storage.stores import CONFIG, IMAGES, MEMBERS, METRICS, OPTIMIZER, STATES
from zoojax.storage.timing import Duration
from zoojax.storage.zoo import Zoo, open_zoo
from zoojax.storage.zoo_config import ZooConfig
from zoojax.text import printable


class CorruptionWarning(UserWarning):
    """Saved files are damaged, so training resumes from an older epoch."""


class EpochWriter(Protocol):
    """What training needs of the writer of a zoo; see `ZooWriter`."""

    zoo: Zoo
    last_epoch: int | None
    rows: slice

    def append(
        self,
        epoch: int,
        state: dict[str, Any],
        optimizer: dict[str, Any] | None,
        metrics: pl.DataFrame,
        duration: Duration | None = None,
    ) -> None:
        """Appends one epoch."""
        ...


class ZooWriter:
    """Appends epochs to a zoo; created by `create_or_resume`.

    In a multi-process run every process has a writer, and all processes must call its methods
    together.

    Attributes:
        zoo: The zoo, for reading.
        last_epoch: The newest epoch that training can resume from; None before the first
            epoch, the last epoch of the config if the zoo is complete.
        rows: Rows of the members table held by this process.
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
        duration: Duration | None = None,
    ) -> None:
        """Appends one epoch. Readers see it only once it is completely on disk.

        Args:
            epoch: Number of the epoch.
            state: {"params"} and what the sparsifier adds; arrays hold the members of
                `rows`, stacked.
            optimizer: Optimizer state of the members of `rows`, stacked; None to save none.
            metrics: One row per member of `rows`, without members that have no state at this
                epoch.
            duration: Time that the epoch took; None records nothing.

        Raises:
            ZoojaxError: If writing fails, in this process or another. Earlier epochs are
                intact.
        """
        state = states.pack(self.zoo.config, state)
        path = self.zoo.path
        with signals.defer_signals():
            checkpoints.save(path / STATES / str(epoch), state)
            if optimizer is not None:
                checkpoints.save(path / OPTIMIZER / str(epoch), optimizer)
            # This gather is a barrier: after it, every process has finished saving.
            table = distributed.all_gather_table(metrics)
            with distributed.main_process_first() as is_first:
                if is_first:
                    self.publish_epoch(epoch, table)
                    if duration is not None:
                        timing.record(path, epoch, duration)
        self.last_epoch = epoch

    def publish_epoch(self, epoch: int, metrics: pl.DataFrame) -> None:
        """Makes a saved epoch visible to readers by adding it to the metrics table.

        Args:
            epoch: Number of the epoch, whose state is complete.
            metrics: Its metrics, of all members.

        Raises:
            ZoojaxError: If writing fails.
        """
        path = self.zoo.path
        earlier = self.zoo.metrics.filter(pl.col("epoch") < epoch)
        table = metrics if earlier.is_empty() else pl.concat([earlier, metrics])
        write_table(path / METRICS, table)
        # Keep two: if the newest turns out to be damaged, training resumes from the other.
        for old in numbered(path / OPTIMIZER)[:-2]:
            shutil.rmtree(path / OPTIMIZER / str(old), ignore_errors=True)

    def record_metrics(self, metrics: pl.DataFrame) -> None:
        """Adds metrics of members and epochs that have no saved state.

        Existing rows are kept; if there is nothing to add, nothing is written. Must be called
        after the last `append`, which drops metrics of epochs that are not saved.

        Args:
            metrics: One row per member of `rows` and epoch, with the columns of `append` and
                null sparsities by layer.

        Raises:
            ZoojaxError: If writing fails, in this process or another.
        """
        gathered = distributed.all_gather_table(metrics)
        with distributed.main_process_first() as is_first:
            if is_first:
                existing = self.zoo.metrics_history
                new = gathered.join(existing, on=["member", "epoch"], how="anti")
                if not new.is_empty():
                    table = pl.concat([existing, new]).sort("epoch", "member")
                    atomic_write(self.zoo.path / METRICS, lambda f: table.write_parquet(f))


@contextlib.contextmanager
def create_or_resume(
    path: Path, config: ZooConfig, members: pl.DataFrame, images: ImageSet | None = None
) -> Iterator[ZooWriter]:
    """Creates a zoo without epochs, or opens an existing one to resume it.

    While the context is open, no other command can write to the zoo. A complete zoo is not
    written to, so its folder may be read-only.

    Args:
        path: Folder of the zoo.
        config: Settings that all members share.
        members: One row per member: id and hyperparameters.
        images: Images to store in the zoo; None to store none.

    Yields:
        The writer.

    Raises:
        ZoojaxError: If the folder contains files that are not a zoo, or a zoo that was created
            with other settings or members, or if another command is writing to it. Nothing in
            the folder is changed.
    """
    check_new(path)
    check_not_published(path)
    distributed.local_rows(len(members))
    check_valid(path, config, members)
    with contextlib.ExitStack() as stack:
        last = None
        with distributed.main_process_first() as is_first:
            # A complete zoo needs no lock, so read-only locations work.
            if is_first and _is_finished(path, config, members):
                last = config.epochs
            elif is_first:
                stack.enter_context(locked(path))
                if _exists(path):
                    last = _resume(path, config, members)
                else:
                    _create(path, config, members, images)
        last = distributed.broadcast_from_first(-1 if last is None else last)
        _wait_until_visible(path)
        yield ZooWriter(open_zoo(path), None if last < 0 else last)


def check_not_published(path: Path) -> None:
    """Raises a ZoojaxError if a folder is that of a published zoo, which is read-only."""
    if is_published(path):
        raise ZoojaxError(
            f"{path} is a published zoo, which is read-only; give --out another folder"
        )


def save(zoo: Zoo, out: Path) -> Zoo:
    """Writes a zoo to a folder; see `Zoo.save`."""
    images = zoo.store.images() if zoo.store.has_images else None
    config = zoo.config
    if not zoo.store.identity().equals(zoo.members_table):
        # A view was not extended.
        config = replace(config, earlier=None)
    with create_or_resume(out, config, zoo.members_table, images) as writer:
        last = -1 if writer.last_epoch is None else writer.last_epoch
        moments = set(zoo.store.epochs(OPTIMIZER))
        for epoch in (epoch for epoch in zoo.epochs if epoch > last):
            optimizer = zoo.optimizer_state(epoch) if epoch in moments else None
            rows = zoo.metrics.filter(pl.col("epoch") == epoch)
            writer.append(epoch, zoo.state(epoch, raw=True), optimizer, rows)
        return writer.zoo


def check_valid(name: Path | str, config: ZooConfig, members: pl.DataFrame) -> None:
    """Validates a new zoo as when it is read, so that every zoo that is created can be opened.

    Args:
        name: Name of the zoo in messages.
        config: Its config.
        members: Its members table.

    Raises:
        ZoojaxError: If the zoo could not be opened.
    """
    try:
        ZooConfig.from_json(config.to_json())
    except ValueError as error:
        raise ZoojaxError(f"{name} cannot be created: {printable(error)}") from error
    problem = members_problem(config, members) or earlier_problem(config, members)
    if problem is not None:
        raise ZoojaxError(f"{name} cannot be created: {problem}")


def _create(path: Path, config: ZooConfig, members: pl.DataFrame, images: ImageSet | None) -> None:
    make_folder(path.parent, path)
    prefix = f".{path.name}.tmp-"
    for name in entries(path.parent):
        if name.startswith(prefix) and name.removeprefix(prefix).isdecimal():
            shutil.rmtree(path.parent / name, ignore_errors=True)
    temporary = path.with_name(f"{prefix}{os.getpid()}")
    make_folder(temporary)
    try:
        text = json.dumps(config.to_json(), indent=2) + "\n"
        atomic_write(temporary / CONFIG, lambda file: file.write_text(text, "utf-8"))
        write_table(temporary / MEMBERS, members)
        if images is not None:
            atomic_write(temporary / IMAGES, lambda file: loading.save(images, file))
        with os_errors(path):
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _exists(path: Path) -> bool:
    return is_folder(path) and bool(entries(path))


def _is_finished(path: Path, config: ZooConfig, members: pl.DataFrame) -> bool:
    if not _exists(path):
        return False
    zoo = _open_matching(path, config, members)
    return config.epochs in zoo.epochs and find_corruption(zoo, STATES, config.epochs) is None


def _wait_until_visible(path: Path) -> None:
    """Waits until this host sees the zoo that process 0 created (shared file systems lag)."""
    deadline = time.monotonic() + 60
    while not exists(path / CONFIG) and time.monotonic() < deadline:
        time.sleep(0.2)


def _resume(path: Path, config: ZooConfig, members: pl.DataFrame) -> int | None:
    """Returns the epoch to resume from; deletes partial and later epochs."""
    zoo = _open_matching(path, config, members)
    last = _latest_valid_epoch(zoo)
    _remove_partial(zoo, last)
    return last


def _open_matching(path: Path, config: ZooConfig, members: pl.DataFrame) -> Zoo:
    """Opens the zoo at a path, which must have been created with the same config and members."""
    if not exists(path / CONFIG):
        raise ZoojaxError(f"{path} is not empty and is not a zoo; give --out a new folder")
    zoo = open_zoo(path)
    difference = settings_difference(zoo.config, config)
    if difference is not None:
        raise ZoojaxError(
            f"{path} was created with {difference}; give --out another folder, or the options that "
            "it was created with"
        )
    if not zoo.members_table.equals(members):
        raise ZoojaxError(
            f"{path} was created with other members "
            f"({describe_difference(zoo.members_table, members)}); give --out another folder, "
            "or the options that it was created with"
        )
    return zoo


def _latest_valid_epoch(zoo: Zoo) -> int | None:
    """The newest epoch with undamaged files; None if training must start over."""
    damage, valid_epoch = [], None
    # A converted zoo has no optimizer state.
    is_trained = is_folder(zoo.path / OPTIMIZER)
    for epoch in reversed(zoo.epochs):
        # Epoch 0 starts from zero moments, and after the last epoch none are needed.
        needs_optimizer = is_trained and epoch not in (0, zoo.config.epochs)
        is_missing = needs_optimizer and not is_folder(zoo.path / OPTIMIZER / str(epoch))
        if is_missing and epoch != zoo.epochs[-1]:
            continue  # Older optimizer states are deleted on purpose.
        folders = (STATES, OPTIMIZER) if needs_optimizer else (STATES,)
        errors = [e for folder in folders if (e := find_corruption(zoo, folder, epoch))]
        if not errors:
            valid_epoch = epoch
            break
        damage += errors
    if damage:
        start = "the beginning" if valid_epoch is None else f"epoch {valid_epoch}"
        warnings.warn(f"{damage[0]}; resuming from {start}", CorruptionWarning, stacklevel=2)
    return valid_epoch


def _remove_partial(zoo: Zoo, last: int | None) -> None:
    """Removes temporary files, partial epochs and epochs after the last one to resume from.

    Files that zoojax did not write are kept.
    """
    measured = set(zoo.epochs)
    kept = {epoch for epoch in measured if last is not None and epoch <= last}
    if kept != measured:
        table = zoo.metrics.filter(pl.col("epoch").is_in(sorted(kept)))
        write_table(zoo.path / METRICS, table)
    for folder in (zoo.path / STATES, zoo.path / OPTIMIZER):
        for name in entries(folder):
            # An epoch in parts resumes from the complete parts.
            epoch = number(name)
            unfinished = epoch is not None and epoch not in measured
            resumable = unfinished and parts.is_split(folder / name)
            if is_step(name) and epoch not in kept and not resumable:
                atomic_rmtree(folder / name)
    for name in entries(zoo.path):
        if is_temporary(name) and (zoo.path / name).is_file():
            with os_errors(zoo.path / name):
                (zoo.path / name).unlink()
