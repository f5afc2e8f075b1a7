"""A zoo on disk: beginning one, adding epochs, going on after an interruption."""

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import polars as pl

from zoojax import interrupts
from zoojax.data import ImageSet, save
from zoojax.errors import ZoojaxError
from zoojax.files import remove, reserve, write_beside
from zoojax.zoo import (
    CHECKSUMS,
    CONFIG,
    IMAGES,
    MEMBERS,
    METRICS,
    OPTIMIZER,
    STATES,
    Zoo,
    ZooConfig,
    file_digest,
    open_zoo,
    pack_mask,
)


class Finished(ZoojaxError):
    """A zoo that was to be made is already there, made by the same call.

    Attributes:
        zoo: it.
    """

    def __init__(self, zoo: Zoo):
        super().__init__(
            f"{zoo.path} is finished (epoch {zoo.config.epochs}); give --out another folder"
        )
        self.zoo = zoo


class ZooWriter:
    """Adds epochs to a zoo; made by `begin_or_continue`.

    Attributes:
        zoo: the zoo, for reading.
    """

    def __init__(self, zoo: Zoo):
        self.zoo = zoo

    @property
    def last_epoch(self) -> int | None:
        """The newest epoch that training can go on from; None before the first."""
        epochs = self.zoo.epochs
        resumable = [e for e in epochs if (self.zoo.path / OPTIMIZER / str(e)).is_dir()]
        if epochs and not resumable:
            raise ZoojaxError(
                f"{self.zoo.path} has no optimiser state to go on from; "
                "it can be read, but not trained further"
            )
        return max(resumable, default=None)

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
            state: {"params"} and {"log_sigma2"} or {"mask"}, stacked in the order of members.
            optimizer: the optimiser's moments, stacked; None where there are none.
            metrics: a row a member; members without a state at this epoch have none.

        Raises:
            ZoojaxError: the disk refused; all earlier epochs are as they were.
        """
        if "mask" in state:
            state = {**state, "mask": pack_mask(state["mask"])}
        path = self.zoo.path
        with interrupts.held():
            save_tree(path / STATES / str(epoch), state)
            if optimizer is not None:
                save_tree(path / OPTIMIZER / str(epoch), optimizer)
            earlier = self.zoo.metrics.filter(pl.col("epoch") < epoch)
            table = metrics if earlier.is_empty() else pl.concat([earlier, metrics])
            write_beside(path / METRICS, lambda file: table.write_parquet(file))
            for old in (path / OPTIMIZER).glob("*"):
                if old.name != str(epoch):
                    shutil.rmtree(old)


def begin_or_continue(
    path: Path, config: ZooConfig, members: pl.DataFrame, images: ImageSet | None = None
) -> ZooWriter:
    """Creates a zoo without epochs, or opens the one that the same command began.

    Args:
        path: its folder.
        config: what its members have in common.
        members: a row a member: id and hyper-parameters.
        images: the image set, for zoos that keep theirs themselves.

    Raises:
        Finished: the same command has made it already.
        ZoojaxError: the folder holds something else: another zoo, or files that are no
            zoo. Nothing in it is touched.
    """
    if path.exists() and not path.is_dir():
        raise ZoojaxError(f"{path} is a file; give --out a new folder")
    if path.is_dir() and any(path.iterdir()):
        return _continue(path, config, members)
    _create(path, config, members, images)
    return ZooWriter(open_zoo(path))


def _create(path: Path, config: ZooConfig, members: pl.DataFrame, images: ImageSet | None) -> None:
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    for leftover in path.parent.glob(f".{path.name}.tmp-*"):
        shutil.rmtree(leftover)
    try:
        temporary.mkdir(parents=True)
        text = json.dumps(config.to_json(), indent=2) + "\n"
        write_beside(temporary / CONFIG, lambda file: file.write_text(text))
        write_beside(temporary / MEMBERS, lambda file: members.write_parquet(file))
        if images is not None:
            write_beside(temporary / IMAGES, lambda file: save(images, file))
        temporary.rename(path)
    except OSError as error:
        raise ZoojaxError(f"cannot create {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _continue(path: Path, config: ZooConfig, members: pl.DataFrame) -> ZooWriter:
    if not (path / CONFIG).exists():
        raise ZoojaxError(f"{path} is not empty and is not a zoo; give --out a new folder")
    zoo = open_zoo(path)
    for name, old, new in _differences(zoo.config, config):
        raise ZoojaxError(
            f"{path} was begun with {name} {old}, not {new}; give --out another folder, "
            "or the options it was begun with"
        )
    if not zoo.roster.equals(members):
        raise ZoojaxError(
            f"{path} was begun with other members ({_other(zoo.roster, members)}); give --out "
            "another folder, or the options it was begun with"
        )
    if config.epochs in zoo.epochs:
        raise Finished(zoo)
    _sweep(zoo)
    return ZooWriter(zoo)


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


def _sweep(zoo: Zoo) -> None:
    """Removes what an interruption left: temporary files, and epochs only half there."""
    whole = {str(e) for e in zoo.epochs}
    for folder in (STATES, OPTIMIZER):
        for entry in (zoo.path / folder).glob("*"):
            if entry.name not in whole:
                remove(entry)
    for entry in zoo.path.glob(".*.tmp-*"):
        entry.unlink()


def save_tree(path: Path, tree: dict[str, Any]) -> None:
    """Saves nested dicts of arrays as one Orbax step, with the checksums of its files."""
    from orbax.checkpoint import v1 as ocp

    try:
        reserve(path.parent, sum(x.nbytes for x in jax.tree.leaves(tree)))
        with _no_log():
            ocp.save(str(path.absolute()), tree, overwrite=True)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        digests = {str(file.relative_to(path)): file_digest(file) for file in files}
        write_beside(path / CHECKSUMS, lambda file: file.write_text(json.dumps(digests)))
    except Exception as error:  # Orbax and TensorStore raise many kinds for a full disk.
        # TensorStore tells the whole way down; what went wrong comes last.
        told = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = told.splitlines()[0].rpartition(": ")[2]
        raise ZoojaxError(
            f"cannot write {path}: {reason[:200]}; the epochs before it are safe, and the "
            "same command goes on from the last"
        ) from error


@contextlib.contextmanager
def _no_log() -> Iterator[None]:
    """Keeps off standard error what Orbax logs of an error before it raises the same."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
