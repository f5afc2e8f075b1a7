"""A zoo on disk: reading.

    zoo.json           schema, name, kind, architecture, data set, training, parent, versions
    members.parquet    a row a member: id, seed, hyper-parameters, parent member, ratio
    metrics.parquet    a row a member and epoch
    states/<epoch>/    Orbax: params, and log_sigma2 (kind vd) or mask as bits (kind mp)
    optimizer/<epoch>/ Orbax: the optimiser's moments, of the two newest epochs
    images.npz         the images, of zoos that were converted with their own

An epoch exists once its state is complete and metrics.parquet names it. Arrays are
stacked: the leading axis is the member, in the order of members.parquet.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
import polars as pl

from zoojax.architectures.parameters import masked, unpack_mask
from zoojax.deprecation import RenamedAttribute
from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import expand_user
from zoojax.filesystem.reading import (
    NotFoundError,
    exists,
    is_folder,
    numbered,
    read_json,
    read_table,
)
from zoojax.runtime.population import take
from zoojax.sparsifiers.variational_dropout import apply_threshold
from zoojax.storage import checkpoints
from zoojax.storage.schema import members_problem, metrics_problem, state_like, unused_like
from zoojax.storage.zoo_config import FORMAT, SCHEMA, Parent, ZooConfig, fingerprint
from zoojax.text import is_printable, printable

CONFIG, MEMBERS, METRICS = "zoo.json", "members.parquet", "metrics.parquet"
STATES, OPTIMIZER, IMAGES = "states", "optimizer", "images.npz"


class Zoo:
    """A zoo on disk, opened for reading by `open_zoo`.

    Attributes:
        path: its folder.
        config: what its members have in common.
    """

    def __init__(self, path: Path, config: ZooConfig):
        self.path, self.config = path, config
        self._read: tuple[tuple[int, ...], pl.DataFrame] | None = None

    def __repr__(self) -> str:
        kind = {"dense": "dense", "mp": "magnitude-pruned", "vd": "variational-dropout"}
        try:
            epochs = f"epochs {_ranges(self.epochs)}" if self.epochs else "no epochs"
        except ZoojaxError:
            epochs = "damaged"
        path, members = str(self.path), len(self)
        return f"Zoo({path!r}: {kind[self.config.kind]}, {members} members, {epochs})"

    def __len__(self) -> int:
        return len(self.members_table)

    @cached_property
    def members_table(self) -> pl.DataFrame:
        """The members table as it was made: `members` without what training found.

        Raises:
            ZoojaxError: it is missing or damaged, or is not that of such a zoo.
        """
        table = read_table(self.path / MEMBERS)
        _refuse(self.path / MEMBERS, members_problem(self.config, table))
        return table

    @cached_property
    def fingerprint(self) -> str:
        """Identifies this zoo; twins name their parent by it."""
        return fingerprint(self.config, self.members_table)

    @property
    def epochs(self) -> list[int]:
        """Epochs that are complete on disk, ascending; 0 is before training."""
        measured = set(self.metrics_history["epoch"].unique().to_list())
        return [epoch for epoch in numbered(self.path / STATES) if epoch in measured]

    @property
    def newest_epoch(self) -> int:
        """The newest epoch that is complete on disk.

        Raises:
            ZoojaxError: there is none yet.
        """
        epochs = self.epochs
        if not epochs:
            raise ZoojaxError(f"{self.path} has no epoch yet; finish its training first")
        return epochs[-1]

    @property
    def members(self) -> pl.DataFrame:
        """A row a member: id, seed, hyper-parameters; `diverged_epoch` is the first epoch
        with a number that is not finite (null: none)."""
        diverged = (
            self.metrics.filter(~pl.col("finite"))
            .group_by("member")
            .agg(pl.col("epoch").min().alias("diverged_epoch"))
        )
        return self.members_table.join(
            diverged, left_on="id", right_on="member", how="left", maintain_order="left"
        )

    @property
    def metrics(self) -> pl.DataFrame:
        """One row per saved state: member and epoch. Accuracies, ggap and sparsities are shares
        in [0, 1]; sparsities count weights without biases."""
        return with_states(self.metrics_history.filter(pl.col("epoch").is_in(self.epochs)))

    @property
    def metrics_history(self) -> pl.DataFrame:
        """As `metrics`, with what was measured of members and epochs whose states are not there:
        removed, or never converted.

        Raises:
            ZoojaxError: the table is damaged, or is not that of such a zoo.
        """
        path = self.path / METRICS
        if not exists(path):
            return pl.DataFrame(
                schema={"member": pl.Int64, "epoch": pl.Int64, "finite": pl.Boolean}
            )
        stamp = _stamp(path)
        if self._read is None or self._read[0] != stamp:
            table = read_table(path)
            _refuse(path, metrics_problem(self.config, self.members_table["id"], table))
            self._read = stamp, table
        return self._read[1]

    def state(
        self, epoch: int | None = None, *, raw: bool = False, rows: slice | None = None
    ) -> dict[str, Any]:
        """Everything saved of an epoch, stacked: {"params"} and {"log_sigma2"} or {"mask"}.

        Args:
            epoch: which; the newest if None.
            raw: leave what a converted pruned zoo holds under the mask as it is.
            rows: of the members table; None for all.

        Raises:
            ZoojaxError: the epoch is not there, or its files are damaged.
        """
        count = len(self)
        state = checkpoints.read(
            self._step(STATES, epoch),
            rows,
            like=state_like(self.config, count),
            optional={"unused": unused_like(self.config, count)},
        )
        if "mask" in state:
            state["mask"] = unpack_mask(state["mask"], state["params"])
            if not raw:
                state["params"] = masked(state["params"], state["mask"])
        return state

    def params(self, epoch: int | None = None) -> dict[str, Any]:
        """Stacked parameters of an epoch: {"conv1": {"kernel": [members, ...], ...}, ...}.

        Those of a variational-dropout twin are before the threshold; see `effective`.
        """
        return self.state(epoch)["params"]

    def sparse_params(self, epoch: int | None = None) -> dict[str, Any]:
        """Stacked parameters that the members are evaluated with: pruned weights are zero."""
        state = self.state(epoch)
        if "log_sigma2" not in state:
            return state["params"]
        return jax.device_get(apply_threshold(state["params"], state["log_sigma2"]))

    def row_indices(self, members: Sequence[int] | pl.Series) -> np.ndarray:
        """Where members are in stacked arrays, by their ids.

        Raises:
            ZoojaxError: there is no such member.
        """
        places = {member: row for row, member in enumerate(self.members_table["id"].to_list())}
        for member in members:
            if member not in places:
                raise ZoojaxError(f"{self.path} has no member {member}; it has {len(self)} members")
        return np.array([places[member] for member in members], int)

    def member(self, member: int, epoch: int | None = None) -> dict[str, Any]:
        """Parameters of one member, by its id, as `params` has them.

        Raises:
            ZoojaxError: there is no such member or epoch.
        """
        return take(self.params(epoch), int(self.row_indices([member])[0]))

    def optimizer_state(
        self,
        epoch: int | None = None,
        rows: slice | None = None,
        like: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The optimiser's moments, by optimiser, stacked by member.

        Args:
            epoch: which; the newest if None. Only the two newest are kept.
            rows: of the members table; None for all.
            like: shapes and types that they must have; None for whatever is there.

        Raises:
            ZoojaxError: they are not there, or damaged, or others.
        """
        return checkpoints.read(self._step(OPTIMIZER, epoch), rows, like=like)

    def _step(self, folder: str, epoch: int | None) -> Path:
        newest = self.newest_epoch
        epoch = newest if epoch is None else epoch
        if epoch not in self.epochs:
            raise ZoojaxError(f"{self.path} has no epoch {epoch}; it has {_ranges(self.epochs)}")
        return self.path / folder / str(epoch)

    # The names of version 0.1.
    roster = RenamedAttribute("members_table")
    all_metrics = RenamedAttribute("metrics_history")
    effective = RenamedAttribute("sparse_params")
    rows = RenamedAttribute("row_indices")
    optimizer = RenamedAttribute("optimizer_state")


def open_zoo(path: str | Path) -> Zoo:
    """Opens a zoo for reading.

    Example:
        >>> zoo = zoojax.open_zoo("zoos/usps")
        >>> zoo.metrics.group_by("epoch").agg(pl.col("test_acc").mean())
        >>> zoo.params(50)["conv1"]["kernel"].shape
        (64, 5, 5, 1, 8)

    Raises:
        ZoojaxError: the folder is not a zoo, or one of a newer schema, or is damaged.
    """
    path = expand_user(path)
    file = path / CONFIG
    if not is_folder(path):
        raise ZoojaxError(f"{path} is not a folder; give the folder of a zoo")
    try:
        content = read_json(file)
    except NotFoundError as error:
        raise ZoojaxError(f"{path} is not a zoo: it has no {CONFIG}") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(content, dict) or content.get("format") != FORMAT or type(schema) is not int:
        raise ZoojaxError(f"{file} is damaged or is not of a zoo")
    if not 1 <= schema <= SCHEMA:
        raise ZoojaxError(
            f"{file} has schema {schema}, and this zoojax reads 1 to {SCHEMA}; "
            "upgrade with: pip install -U zoojax"
        )
    try:
        config = ZooConfig.from_json(content)
    except (ValueError, ZoojaxError) as error:
        raise ZoojaxError(f"{file} is damaged: {printable(error)}") from error
    zoo = Zoo(path, config)
    _ = zoo.members_table
    return zoo


def with_states(metrics: pl.DataFrame) -> pl.DataFrame:
    """The rows that were measured on states: of others the sparsities by layer are null."""
    counted = [name for name in metrics.columns if name.startswith("sparsity_")]
    return metrics.drop_nulls(counted[:1]) if counted else metrics


def parent_of(parent: Zoo, epoch: int, twin: Path) -> Parent:
    """What a twin's config says of its parent.

    Args:
        parent: the dense zoo.
        epoch: the epoch whose states the twin begins with.
        twin: the twin's folder.
    """
    try:
        where = os.path.relpath(parent.path.resolve(), twin.resolve())
    except ValueError:  # Another drive.
        where = str(parent.path.resolve())
    # A path that is no text is not kept: the fingerprint is what identifies the parent.
    where = where if is_printable(where) else "unknown"
    return Parent(where, parent.config.name, parent.fingerprint, epoch)


def find_corruption(zoo: Zoo, folder: str, epoch: int) -> str | None:
    """What is wrong with an epoch's files, named; None if they are as they were written.

    Args:
        zoo: the zoo.
        folder: STATES or OPTIMIZER.
        epoch: which.
    """
    step = zoo.path / folder / str(epoch)
    damage = checkpoints.find_damage(step)
    return None if damage is None else f"{step} is damaged: {damage}"


def _refuse(path: Path, problem: str | None) -> None:
    if problem is not None:
        raise ZoojaxError(f"{path} is not the table of such a zoo: {problem}")


def _stamp(path: Path) -> tuple[int, ...]:
    """Changes when a file is replaced."""
    try:
        status = path.stat()
    except OSError as error:
        raise ZoojaxError(f"{path} cannot be read: {error.strerror or error}") from error
    return status.st_mtime_ns, status.st_size, status.st_ino


def _ranges(epochs: list[int]) -> str:
    whole = epochs == list(range(epochs[0], epochs[-1] + 1)) and len(epochs) > 2
    return f"{epochs[0]} to {epochs[-1]}" if whole else ", ".join(map(str, epochs))
