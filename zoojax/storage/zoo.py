"""Read access to a zoo on disk.

    zoo.json           schema version and settings (`zoojax.storage.zoo_config.ZooConfig`)
    members.parquet    one row per member: id, seed, hyperparameters, parent member, ratio
    metrics.parquet    one row per member and epoch
    states/<epoch>/    Orbax: params, and what the sparsifier adds (a mask as bits, log_sigma2)
    optimizer/<epoch>/ Orbax: optimizer state of the two newest epochs
    images.npz         images of a zoo that was converted with its own

An epoch exists once its state is complete and metrics.parquet contains it. Arrays are
stacked: the leading axis is the member, in the order of members.parquet.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from zoojax.architectures.parameters import masked
from zoojax.deprecation import RenamedAttribute
from zoojax.errors import UnregisteredError, ZoojaxError
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
from zoojax.storage import checkpoints
from zoojax.storage.schema import members_problem, metrics_problem
from zoojax.storage.states import effective_params, optional_like, state_like, unpack
from zoojax.storage.zoo_config import FORMAT, SCHEMA, Parent, ZooConfig, fingerprint
from zoojax.text import is_printable, printable

CONFIG, MEMBERS, METRICS = "zoo.json", "members.parquet", "metrics.parquet"
STATES, OPTIMIZER, IMAGES = "states", "optimizer", "images.npz"


class Zoo:
    """A zoo on disk, opened for reading by `open_zoo`.

    Attributes:
        path: Folder of the zoo.
        config: Settings that all members share.
    """

    def __init__(self, path: Path, config: ZooConfig):
        self.path, self.config = path, config
        self._metrics_cache: tuple[tuple[int, ...], pl.DataFrame] | None = None

    def __repr__(self) -> str:
        try:
            epochs = f"epochs {_format_epochs(self.epochs)}" if self.epochs else "no epochs"
        except ZoojaxError:
            epochs = "damaged"
        path, members = str(self.path), len(self)
        return f"Zoo({path!r}: {self.config.sparsifier.label}, {members} members, {epochs})"

    def __len__(self) -> int:
        return len(self.members_table)

    @cached_property
    def members_table(self) -> pl.DataFrame:
        """The members table as created: `members` without `diverged_epoch`.

        Raises:
            ZoojaxError: If the table is missing, damaged, or does not match the config.
        """
        table = read_table(self.path / MEMBERS)
        _raise_if_invalid(self.path / MEMBERS, members_problem(self.config, table))
        return table

    @cached_property
    def fingerprint(self) -> str:
        """Hash that identifies this zoo; twins store that of their parent."""
        return fingerprint(self.config, self.members_table)

    @property
    def epochs(self) -> list[int]:
        """Complete epochs on disk, ascending; epoch 0 is the state before training."""
        measured = set(self.metrics_history["epoch"].unique().to_list())
        return [epoch for epoch in numbered(self.path / STATES) if epoch in measured]

    @property
    def newest_epoch(self) -> int:
        """The newest complete epoch on disk.

        Raises:
            ZoojaxError: If no epoch is complete yet.
        """
        epochs = self.epochs
        if not epochs:
            raise ZoojaxError(f"{self.path} has no completed epoch yet; finish its training first")
        return epochs[-1]

    @property
    def members(self) -> pl.DataFrame:
        """One row per member: id, seed, hyperparameters and `diverged_epoch`.

        `diverged_epoch` is the first epoch with a non-finite value; null if there is none.
        """
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
        """One row per saved state, that is per member and epoch.

        Accuracies and sparsities are fractions in [0, 1], ggap (train minus test accuracy) is
        in [-1, 1]. Sparsities count weights, not biases.
        """
        return with_states(self.metrics_history.filter(pl.col("epoch").is_in(self.epochs)))

    @property
    def metrics_history(self) -> pl.DataFrame:
        """All measured metrics, including those of states that are not stored.

        Those states were removed, or never converted. The columns are those of `metrics`.

        Raises:
            ZoojaxError: If the table is damaged or does not match the config.
        """
        path = self.path / METRICS
        if not exists(path):
            return pl.DataFrame(
                schema={"member": pl.Int64, "epoch": pl.Int64, "finite": pl.Boolean}
            )
        version = _file_version(path)
        if self._metrics_cache is None or self._metrics_cache[0] != version:
            table = read_table(path)
            _raise_if_invalid(path, metrics_problem(self.config, self.members_table["id"], table))
            self._metrics_cache = version, table
        return self._metrics_cache[1]

    def state(
        self, epoch: int | None = None, *, raw: bool = False, rows: slice | None = None
    ) -> dict[str, Any]:
        """Reads the saved state of an epoch.

        Args:
            epoch: Epoch to read; None for the newest.
            raw: Whether to keep the values of masked weights. Converted pruned zoos may store
                nonzero values there, which are otherwise set to zero.
            rows: Rows of the members table to read; None for all.

        Returns:
            {"params"} and what the sparsifier adds, such as {"mask"} or {"log_sigma2"}; arrays
            are stacked by member.

        Raises:
            ZoojaxError: If there is no such epoch, or its files are damaged.
        """
        count = len(self)
        state = checkpoints.read(
            self._step(STATES, epoch),
            rows,
            like=state_like(self.config, count),
            optional=optional_like(self.config, count),
        )
        state = unpack(self.config, state)
        if "mask" in state and not raw:
            state["params"] = masked(state["params"], state["mask"])
        return state

    def params(self, epoch: int | None = None) -> dict[str, Any]:
        """Reads the parameters of an epoch.

        Those of a variational-dropout twin are before thresholding; see `sparse_params`.

        Args:
            epoch: Epoch to read; None for the newest.

        Returns:
            {layer: {"kernel": [members, ...], "bias": [members, features]}}.

        Raises:
            ZoojaxError: If there is no such epoch, or its files are damaged.
        """
        return self.state(epoch)["params"]

    def sparse_params(self, epoch: int | None = None) -> dict[str, Any]:
        """Reads the parameters that members are evaluated with: pruned weights are zero.

        Args:
            epoch: Epoch to read; None for the newest.

        Returns:
            Stacked parameters, in the structure of `params`.

        Raises:
            ZoojaxError: If there is no such epoch, or its files are damaged.
        """
        return effective_params(self.config, self.state(epoch))

    def row_indices(self, members: Sequence[int] | pl.Series) -> np.ndarray:
        """Looks up the positions of members in stacked arrays.

        Args:
            members: Ids of the members.

        Returns:
            Positions along the leading axis, one per id.

        Raises:
            ZoojaxError: If there is no member with one of the ids.
        """
        rows = {member: row for row, member in enumerate(self.members_table["id"].to_list())}
        for member in members:
            if member not in rows:
                raise ZoojaxError(f"{self.path} has no member {member}; it has {len(self)} members")
        return np.array([rows[member] for member in members], int)

    def member(self, member: int, epoch: int | None = None) -> dict[str, Any]:
        """Reads the parameters of one member.

        Args:
            member: Id of the member.
            epoch: Epoch to read; None for the newest.

        Returns:
            Parameters in the structure of `params`, without the member axis.

        Raises:
            ZoojaxError: If there is no such member or epoch, or its files are damaged.
        """
        return take(self.params(epoch), int(self.row_indices([member])[0]))

    def optimizer_state(
        self,
        epoch: int | None = None,
        rows: slice | None = None,
        like: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Reads the optimizer state of an epoch.

        Args:
            epoch: Epoch to read; None for the newest. Only the two newest are stored.
            rows: Rows of the members table to read; None for all.
            like: Expected shapes and dtypes; None accepts whatever is stored.

        Returns:
            {optimizer name: moments stacked by member}.

        Raises:
            ZoojaxError: If the optimizer state is missing, damaged, or not as expected.
        """
        return checkpoints.read(self._step(OPTIMIZER, epoch), rows, like=like)

    def _step(self, folder: str, epoch: int | None) -> Path:
        newest = self.newest_epoch
        epoch = newest if epoch is None else epoch
        if epoch not in self.epochs:
            known = _format_epochs(self.epochs)
            raise ZoojaxError(f"{self.path} has no epoch {epoch}; it has {known}")
        return self.path / folder / str(epoch)

    # The names of version 0.1.
    roster = RenamedAttribute("members_table")
    all_metrics = RenamedAttribute("metrics_history")
    effective = RenamedAttribute("sparse_params")
    rows = RenamedAttribute("row_indices")
    optimizer = RenamedAttribute("optimizer_state")


def open_zoo(path: str | Path) -> Zoo:
    """Opens a zoo for reading.

    Args:
        path: Folder of the zoo.

    Returns:
        The zoo. Its arrays are read only when they are requested.

    Example:
        >>> zoo = zoojax.open_zoo("zoos/usps")
        >>> zoo.metrics.group_by("epoch").agg(pl.col("test_acc").mean())
        >>> {layer: leaves["kernel"].shape for layer, leaves in zoo.params(50).items()}

    Raises:
        ZoojaxError: If the folder is not a zoo, has a newer schema, or is damaged.
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
        raise ZoojaxError(f"{file} is damaged or is not the config of a zoo")
    if not 1 <= schema <= SCHEMA:
        raise ZoojaxError(
            f"{file} has schema {schema}, but this version of zoojax reads 1 to {SCHEMA}; "
            "upgrade with: pip install -U zoojax"
        )
    try:
        config = ZooConfig.from_json(content)
    except UnregisteredError as error:
        raise UnregisteredError(f"{file}: {error}") from error
    except (ValueError, ZoojaxError) as error:
        raise ZoojaxError(f"{file} is damaged: {printable(error)}") from error
    zoo = Zoo(path, config)
    _ = zoo.members_table
    return zoo


def with_states(metrics: pl.DataFrame) -> pl.DataFrame:
    """Selects the rows that were measured on saved states.

    Args:
        metrics: Metrics table; rows without a state have null sparsities by layer.

    Returns:
        The rows with sparsities by layer.
    """
    per_layer = [name for name in metrics.columns if name.startswith("sparsity_")]
    return metrics.drop_nulls(per_layer[:1]) if per_layer else metrics


def parent_of(parent: Zoo, epoch: int, twin: Path) -> Parent:
    """Creates the parent entry of a twin's config.

    Args:
        parent: The dense zoo.
        epoch: Epoch of the parent that the twin starts from.
        twin: Folder of the twin.

    Returns:
        The entry.
    """
    try:
        path = os.path.relpath(parent.path.resolve(), twin.resolve())
    except ValueError:  # On another drive.
        path = str(parent.path.resolve())
    # JSON cannot store undecodable paths; the fingerprint identifies the parent anyway.
    path = path if is_printable(path) else "unknown"
    return Parent(path, parent.config.name, parent.fingerprint, epoch)


def _raise_if_invalid(path: Path, problem: str | None) -> None:
    if problem is not None:
        raise ZoojaxError(f"{path} is not a valid table of this zoo: {problem}")


def _file_version(path: Path) -> tuple[int, ...]:
    """A value that changes when the file is replaced."""
    try:
        status = path.stat()
    except OSError as error:
        raise ZoojaxError(f"{path} cannot be read: {error.strerror or error}") from error
    return status.st_mtime_ns, status.st_size, status.st_ino


def _format_epochs(epochs: list[int]) -> str:
    contiguous = epochs == list(range(epochs[0], epochs[-1] + 1)) and len(epochs) > 2
    return f"{epochs[0]} to {epochs[-1]}" if contiguous else ", ".join(map(str, epochs))
