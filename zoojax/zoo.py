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

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
import polars as pl

from zoojax import steps
from zoojax.data import DataSpec
from zoojax.errors import ZoojaxError
from zoojax.models import Architecture, architecture
from zoojax.population import take
from zoojax.variational_dropout import threshold

SCHEMA = 1
CONFIG, MEMBERS, METRICS = "zoo.json", "members.parquet", "metrics.parquet"
STATES, OPTIMIZER, IMAGES = "states", "optimizer", "images.npz"


@dataclass(frozen=True)
class Parent:
    """The dense zoo that a twin was made from.

    Attributes:
        path: where it was, relative to the twin's folder where that is possible.
        name: its name.
        fingerprint: `ZooConfig.fingerprint` of it.
        epoch: the epoch whose states the twin began with.
    """

    path: str
    name: str
    fingerprint: str
    epoch: int


@dataclass(frozen=True)
class ZooConfig:
    """All that a zoo's members have in common.

    Attributes:
        name: the zoo's name.
        kind: "dense", "mp" (magnitude pruning) or "vd" (variational dropout).
        architecture: "small" or "large".
        channels: channels of its input images.
        classes: number of classes.
        data: the image set; None if the zoo keeps its images itself, or none are known.
        data_hash: SHA-256 of the images and labels after split and transform; None if
            none are known.
        epochs: epochs to train.
        batch_size: images a step.
        data_order: "member" or "shared".
        chunk: members that a device trains at once.
        preset: the preset it was made from, if any.
        scope: of pruning, "global" or "layer" (kind mp).
        variant: of variational dropout, "released" or "corrected" (kind vd).
        parent: the dense zoo (kinds mp and vd).
        versions: of the libraries that it was begun with.
        origin: what else decided the members it began with, such as a
            hyper-representation; None if nothing did.
    """

    name: str
    kind: str
    architecture: str
    channels: int
    classes: int
    data: DataSpec | None
    data_hash: str | None
    epochs: int
    batch_size: int
    data_order: str
    chunk: int
    preset: str | None = None
    scope: str | None = None
    variant: str | None = None
    parent: Parent | None = None
    versions: dict[str, str] = field(default_factory=dict)
    origin: str | None = None

    @property
    def shape(self) -> Architecture:
        """The architecture of its members."""
        return architecture(self.architecture, self.channels, self.classes)

    def to_json(self) -> dict[str, Any]:
        """As zoo.json holds it."""
        content = {"format": "zoojax", "schema": SCHEMA, **asdict(self)}
        # So that zoos without one keep the fingerprint that their twins know them by.
        if self.origin is None:
            del content["origin"]
        return content

    @staticmethod
    def from_json(content: dict[str, Any]) -> "ZooConfig":
        """The inverse of `to_json`; raises KeyError or TypeError on other content."""
        fields = {k: v for k, v in content.items() if k not in ("format", "schema")}
        parent, spec = fields.pop("parent"), fields.pop("data")
        return ZooConfig(
            **fields,
            data=None if spec is None else DataSpec(**spec),
            parent=None if parent is None else Parent(**parent),
        )


def fingerprint(config: ZooConfig, members: pl.DataFrame) -> str:
    """Identifies a zoo by what decides its members: SHA-256 over config and members table."""
    content = config.to_json()
    # The images are known by their hash, wherever they are.
    for circumstance in ("versions", "chunk", "name", "data"):
        del content[circumstance]
    if content["parent"] is not None:
        content["parent"] = content["parent"]["fingerprint"]
    text = json.dumps([content, members.to_dicts()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def parent_of(parent: "Zoo", epoch: int, twin: Path) -> Parent:
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
    return Parent(where, parent.config.name, parent.fingerprint, epoch)


class Zoo:
    """A zoo on disk, opened for reading by `open_zoo`.

    Attributes:
        path: its folder.
        config: what its members have in common.
    """

    def __init__(self, path: Path, config: ZooConfig):
        self.path, self.config = path, config

    def __repr__(self) -> str:
        kind = {"dense": "dense", "mp": "magnitude-pruned", "vd": "variational-dropout"}
        return (
            f"Zoo({str(self.path)!r}: {kind[self.config.kind]}, {len(self)} members, "
            f"epochs {self.epochs})"
        )

    def __len__(self) -> int:
        return len(self.roster)

    @cached_property
    def roster(self) -> pl.DataFrame:
        """The members table as it was made: `members` without what training found."""
        return _read_parquet(self.path / MEMBERS)

    @cached_property
    def fingerprint(self) -> str:
        """Identifies this zoo; twins name their parent by it."""
        return fingerprint(self.config, self.roster)

    @property
    def epochs(self) -> list[int]:
        """Epochs that are complete on disk, ascending; 0 is before training."""
        measured = self._measured_epochs()
        saved = {int(p.name) for p in (self.path / STATES).glob("*") if p.name.isdigit()}
        return sorted(measured & saved)

    def _measured_epochs(self) -> set[int]:
        """Epochs that the metrics table names: of it nothing else is read."""
        path = self.path / METRICS
        if not path.exists():
            return set()
        return set(_read_parquet(path, ["epoch"])["epoch"].unique().to_list())

    @property
    def members(self) -> pl.DataFrame:
        """A row a member: id, seed, hyper-parameters; `diverged_epoch` is the first epoch
        with a number that is not finite (null: none)."""
        diverged = (
            self.metrics.filter(~pl.col("finite"))
            .group_by("member")
            .agg(pl.col("epoch").min().alias("diverged_epoch"))
        )
        return self.roster.join(
            diverged, left_on="id", right_on="member", how="left", maintain_order="left"
        )

    @property
    def metrics(self) -> pl.DataFrame:
        """A row a member and epoch. Accuracies, ggap and sparsities are shares in [0, 1];
        sparsities count weights without biases."""
        return self.all_metrics.filter(pl.col("epoch").is_in(self.epochs))

    @property
    def all_metrics(self) -> pl.DataFrame:
        """As `metrics`, with epochs whose states are no longer there."""
        path = self.path / METRICS
        if path.exists():
            return _read_parquet(path)
        return pl.DataFrame(schema={"member": pl.Int64, "epoch": pl.Int64, "finite": pl.Boolean})

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
        state = steps.read(self._step(STATES, epoch), rows)
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

    def effective(self, epoch: int | None = None) -> dict[str, Any]:
        """Stacked parameters that the members are evaluated with: pruned weights are zero."""
        state = self.state(epoch)
        if "log_sigma2" not in state:
            return state["params"]
        return jax.device_get(threshold(state["params"], state["log_sigma2"]))

    def rows(self, members: Sequence[int] | pl.Series) -> np.ndarray:
        """Where members are in stacked arrays, by their ids."""
        places = {member: row for row, member in enumerate(self.roster["id"].to_list())}
        return np.array([places[member] for member in members], int)

    def member(self, member: int, epoch: int | None = None) -> dict[str, Any]:
        """Parameters of one member, by its id, as `params` has them.

        Raises:
            ZoojaxError: there is no such member or epoch.
        """
        rows = np.flatnonzero(self.roster["id"].to_numpy() == member)
        if rows.size != 1:
            raise ZoojaxError(f"{self.path} has no member {member}; it has {len(self)} members")
        return take(self.params(epoch), int(rows[0]))

    def optimizer(self, epoch: int | None = None, rows: slice | None = None) -> dict[str, Any]:
        """The optimiser's moments, by optimiser, stacked by member.

        Args:
            epoch: which; the newest if None. Only the two newest are kept.
            rows: of the members table; None for all.
        """
        return steps.read(self._step(OPTIMIZER, epoch), rows)

    def _step(self, folder: str, epoch: int | None) -> Path:
        epochs = self.epochs
        if not epochs:
            raise ZoojaxError(f"{self.path} has no epoch yet; its training has only begun")
        epoch = epochs[-1] if epoch is None else epoch
        if epoch not in epochs:
            raise ZoojaxError(f"{self.path} has no epoch {epoch}; it has {_ranges(epochs)}")
        return self.path / folder / str(epoch)


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
    path = Path(path)
    file = path / CONFIG
    if not path.is_dir():
        raise ZoojaxError(f"{path} is not a folder; give the folder of a zoo")
    if not file.exists():
        raise ZoojaxError(f"{path} is not a zoo: it has no {CONFIG}")
    try:
        content = json.loads(file.read_text())
        if content["format"] != "zoojax":
            raise ValueError("another format")
        schema = int(content["schema"])
    except (ValueError, KeyError, TypeError, UnicodeDecodeError, OSError) as error:
        raise ZoojaxError(f"{file} is damaged or is not of a zoo ({error})") from error
    if schema > SCHEMA:
        raise ZoojaxError(
            f"{file} has schema {schema}, and this zoojax reads up to {SCHEMA}; "
            "upgrade with: pip install -U zoojax"
        )
    try:
        config = ZooConfig.from_json(content)
    except (KeyError, TypeError) as error:
        raise ZoojaxError(f"{file} is damaged ({error})") from error
    zoo = Zoo(path, config)
    _ = zoo.roster
    return zoo


def damage_of(zoo: Zoo, folder: str, epoch: int) -> str | None:
    """What is wrong with an epoch's files, named; None if they are as they were written.

    Args:
        zoo: the zoo.
        folder: STATES or OPTIMIZER.
        epoch: which.
    """
    step = zoo.path / folder / str(epoch)
    damage = steps.find_damage(step)
    return None if damage is None else f"{step} is damaged: {damage}"


def masked(params: dict[str, Any], mask: dict[str, Any]) -> dict[str, Any]:
    """Stacked parameters with pruned weights at zero (NumPy)."""
    zero = np.float32(0)
    return {
        layer: {**leaves, "kernel": np.where(mask[layer], leaves["kernel"], zero)}
        for layer, leaves in params.items()
    }


def pack_mask(mask: dict[str, Any]) -> np.ndarray:
    """Masks by layer [members, ...] bool to bits [members, bytes] uint8, layers in order."""
    flat = [np.asarray(mask[layer]).reshape(len(mask[layer]), -1) for layer in sorted(mask)]
    return np.packbits(np.concatenate(flat, axis=1), axis=1)


def unpack_mask(bits: np.ndarray, params: dict[str, Any]) -> dict[str, np.ndarray]:
    """The inverse of `pack_mask`; shapes come from the parameters."""
    shapes = {layer: params[layer]["kernel"].shape for layer in sorted(params)}
    sizes = [int(np.prod(shape[1:])) for shape in shapes.values()]
    flat = np.unpackbits(bits, axis=1, count=sum(sizes)).astype(bool)
    pieces = np.split(flat, np.cumsum(sizes)[:-1], axis=1)
    return {
        layer: piece.reshape(shape)
        for piece, (layer, shape) in zip(pieces, shapes.items(), strict=True)
    }


def _read_parquet(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, columns=columns)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ZoojaxError(f"{path} is missing or damaged: {error}") from error


def _ranges(epochs: list[int]) -> str:
    whole = epochs == list(range(epochs[0], epochs[-1] + 1)) and len(epochs) > 2
    return f"{epochs[0]} to {epochs[-1]}" if whole else ", ".join(map(str, epochs))
