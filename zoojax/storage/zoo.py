"""Read access to a zoo, usually a folder:

    zoo.json           schema version and settings (`zoojax.storage.zoo_config.ZooConfig`)
    members.parquet    one row per member: id, seed, hyperparameters, parent member, ratio
    metrics.parquet    one row per member and epoch
    states/<epoch>/    Orbax: params, and what the sparsifier adds (a mask as bits, log_sigma2)
    optimizer/<epoch>/ Orbax: optimizer state of the two newest epochs
    images.npz         images of a zoo that stores them; timing.parquet: see `timing`

An epoch exists once its state is complete and metrics.parquet contains it. Arrays are
stacked: the leading axis is the member, in the order of members.parquet.
"""

import functools
from collections.abc import Hashable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from zoojax.architectures.parameters import masked
from zoojax.deprecation import RenamedAttribute
from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import user_path
from zoojax.filesystem.reading import NotFoundError, is_folder
from zoojax.runtime.population import take
from zoojax.storage import blocks, display, hub
from zoojax.storage.published import FolderFiles, PublishedStore, is_published
from zoojax.storage.schema import earlier_problem, members_problem, metrics_problem, with_states
from zoojax.storage.states import effective_params, optional_like, state_like, unpack
from zoojax.storage.stores import (
    CONFIG,
    MEMBERS,
    METRICS,
    OPTIMIZER,
    STATES,
    FolderStore,
    Store,
)
from zoojax.storage.zoo_config import ZooConfig, config_of, fingerprint
from zoojax.storage.zoo_functions import ZooFunctions


class Zoo(ZooFunctions):
    """A zoo, opened from a folder by `open_zoo`, or returned by `train_zoo` and `sparsify`.

    Arrays are stacked: their leading axis is the member, in the order of `members`.

    Attributes:
        store: The folder or the memory that holds its tables and states.
        config: Settings that all members share.

    Example:
        >>> len(zoo), zoo.epochs
        (3, [0, 1, 2])
        >>> zoo.params(2)["conv1"]["kernel"].shape
        (3, 5, 5, 1, 8)
        >>> zoo.apply(np.zeros((5, 28, 28, 1), np.float32)).shape
        (3, 5, 10)
    """

    def __init__(self, store: Store | Path, config: ZooConfig):
        self.store: Store = FolderStore(store) if isinstance(store, Path) else store
        self.config = config
        self._metrics_cache: tuple[Hashable, pl.DataFrame, pl.DataFrame] | None = None

    @property
    def path(self) -> Path:
        """Folder of the zoo; for a zoo in memory, the name by which messages refer to it."""
        return self.store.path

    def __repr__(self) -> str:
        try:
            epochs = display.epoch_range(self.epochs)
        except ZoojaxError:
            epochs = "damaged"
        config, path = self.config, str(self.path)
        facts = f"{config.sparsifier.label}, {config.architecture}, {len(self)} members"
        return f"Zoo({path!r}: {facts}, {epochs})"

    def _repr_html_(self) -> str:
        return display.to_html(self.path, self.config, self.members_table, self.metrics)

    def __len__(self) -> int:
        return len(self.members_table)

    @cached_property
    def members_table(self) -> pl.DataFrame:
        """The members table as created: `members` without `diverged_epoch`.

        Raises:
            ZoojaxError: If the table is missing, damaged, or does not match the config.
        """
        table = self.store.members()
        _raise_if_invalid(self.path / MEMBERS, members_problem(self.config, table))
        return table

    @cached_property
    def fingerprint(self) -> str:
        """Hash that identifies this zoo; twins store that of their parent.

        A view of some members has the hash of the whole zoo.
        """
        return fingerprint(self.config, self.store.identity())

    @property
    def epochs(self) -> list[int]:
        """Complete epochs on disk, ascending; epoch 0 is the state before training."""
        measured = set(self.metrics_history["epoch"].unique().to_list())
        return [epoch for epoch in self.store.epochs(STATES) if epoch in measured]

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
        in [-1, 1]. Sparsities count weights, not biases. The table is read once, and again only
        after it has changed.

        Raises:
            ZoojaxError: If the table is damaged or does not match the config.
        """
        saved = set(self.store.epochs(STATES))
        with_state = self._metrics_tables()[1]
        return with_state.filter(pl.col("epoch").is_in(saved))

    @property
    def metrics_history(self) -> pl.DataFrame:
        """All measured metrics, including those of states that are not stored.

        Those states were removed, or never converted. The columns are those of `metrics`.

        Raises:
            ZoojaxError: If the table is damaged or does not match the config.
        """
        return self._metrics_tables()[0]

    def _metrics_tables(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The metrics table, and its rows that were measured on states."""
        version = self.store.metrics_version()
        if version is None:
            schema = {"member": pl.Int64, "epoch": pl.Int64, "finite": pl.Boolean}
            empty = pl.DataFrame(schema=schema)
            return empty, empty
        if self._metrics_cache is None or self._metrics_cache[0] != version:
            table = self.store.metrics()
            problem = metrics_problem(self.config, self.members_table["id"], table)
            _raise_if_invalid(self.path / METRICS, problem)
            self._metrics_cache = version, table, with_states(table)
        return self._metrics_cache[1:]

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

        Example:
            >>> sorted(zoo.state(1))
            ['params']
        """
        count = len(self)
        like, optional = state_like(self.config, count), optional_like(self.config, count)
        state = self.store.read(STATES, self.known_epoch(epoch), rows, like, optional)
        state = unpack(self.config, state)
        if "mask" in state and not raw:
            state["params"] = masked(state["params"], state["mask"])
        return state

    def params(
        self, epoch: int | None = None, members: Sequence[int] | None = None
    ) -> dict[str, Any]:
        """Reads the parameters of an epoch.

        Those of a variational-dropout twin are before thresholding; see `sparse_params`.

        Args:
            epoch: Epoch to read; None for the newest.
            members: Ids of the members to return, in this order; None for all.

        Returns:
            {layer: {"kernel": [members, ...], "bias": [members, features]}}, float32.

        Raises:
            ZoojaxError: If there is no such epoch or member, or its files are damaged.

        Example:
            >>> {layer: leaves["bias"].shape for layer, leaves in zoo.params(2, [0, 2]).items()}
            {'conv1': (2, 8), 'conv2': (2, 6), 'conv3': (2, 4), 'fc1': (2, 20), 'fc2': (2, 10)}
        """
        return blocks.read_members(self, epoch, members, lambda state: state["params"])

    def sparse_params(
        self, epoch: int | None = None, members: Sequence[int] | None = None
    ) -> dict[str, Any]:
        """Reads the parameters that members are evaluated with: pruned weights are zero.

        Args:
            epoch: Epoch to read; None for the newest.
            members: Ids of the members to return, in this order; None for all.

        Returns:
            Stacked parameters, in the structure of `params`.

        Raises:
            ZoojaxError: If there is no such epoch or member, or its files are damaged.

        Example:
            >>> float((zoo.sparse_params(2)["conv1"]["kernel"] == 0).mean())
            0.0
        """
        evaluated = functools.partial(effective_params, self.config)
        return blocks.read_members(self, epoch, members, evaluated)

    def row_blocks(self, epoch: int | None = None) -> list[slice]:
        """Lists the rows of an epoch that are stored together, for reading in bounded memory.

        Args:
            epoch: The epoch; None for the newest.

        Returns:
            Rows of the members table that `state` reads at once: all of them, or those of each
            part of a large converted zoo.

        Raises:
            ZoojaxError: If there is no such epoch, or its files are damaged.

        Example:
            >>> zoo.row_blocks()
            [slice(0, 3, None)]
        """
        return self.store.blocks(STATES, self.known_epoch(epoch), len(self))

    def row_indices(self, members: Sequence[int] | pl.Series) -> np.ndarray:
        """Looks up the positions of members in stacked arrays.

        Args:
            members: Ids of the members.

        Returns:
            Positions along the leading axis, one per id.

        Raises:
            ZoojaxError: If there is no member with one of the ids, or they are not whole numbers.

        Example:
            >>> zoo.row_indices([2, 0])
            array([2, 0])
        """
        return blocks.positions(self, members)

    def member(self, member: int, epoch: int | None = None) -> dict[str, Any]:
        """Reads the parameters of one member.

        Args:
            member: Id of the member.
            epoch: Epoch to read; None for the newest.

        Returns:
            Parameters in the structure of `params`, without the member axis.

        Raises:
            ZoojaxError: If there is no such member or epoch, or its files are damaged.

        Example:
            >>> zoo.member(2, epoch=1)["fc2"]["kernel"].shape
            (20, 10)
        """
        return take(self.params(epoch, [member]), 0)

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

        Example:
            >>> list(zoo.optimizer_state())
            ['adam']
        """
        return self.store.read(OPTIMIZER, self.known_epoch(epoch), rows, like, None)

    # The names of version 0.1.
    roster = RenamedAttribute("members_table")
    all_metrics = RenamedAttribute("metrics_history")
    effective = RenamedAttribute("sparse_params")
    rows = RenamedAttribute("row_indices")
    optimizer = RenamedAttribute("optimizer_state")


def open_zoo(path: str | Path) -> Zoo:
    """Opens a zoo for reading.

    Args:
        path: Folder of a zoo, or of one that `zoojax publish` wrote; or the address of one on the
            Hugging Face Hub, such as "hf://OWNER/NAME" (needs the extra `hub`).

    Returns:
        The zoo. Its arrays are read, and downloaded, only when they are requested.

    Raises:
        ZoojaxError: If the folder is not a zoo, has a newer schema, or is damaged; if the address
            has no zoo or cannot be reached.

    Example:
        >>> zoo = zoojax.open_zoo(zoo.path)
        >>> zoo.metrics.filter(epoch=2).select("member", "test_acc").shape
        (3, 2)
    """
    if hub.is_address(path):
        files = hub.HubFiles(path)
        return _opened(PublishedStore(files), f"{files.place}/{CONFIG}")
    path = user_path(path, "path")
    if not is_folder(path):
        raise ZoojaxError(f"{path} is not a folder; give the folder of a zoo")
    store = PublishedStore(FolderFiles(path), path) if is_published(path) else FolderStore(path)
    return _opened(store, str(path / CONFIG))


def _opened(store: FolderStore | PublishedStore, file: str) -> Zoo:
    """Opens a stored zoo whose zoo.json has the given name in messages."""
    try:
        content = store.config()
    except NotFoundError as error:
        raise ZoojaxError(f"{store.path} is not a zoo: it has no {CONFIG}") from error
    zoo = Zoo(store, config_of(content, file))
    _raise_if_invalid(store.path / MEMBERS, earlier_problem(zoo.config, zoo.members_table))
    return zoo


def _raise_if_invalid(path: Path, problem: str | None) -> None:
    if problem is not None:
        raise ZoojaxError(f"{path} is not a valid table of this zoo: {problem}")
