"""A hyper-representation on disk, and what can be asked of it.

    representation.json   schema, settings, the zoo, its split, normalisation, versions
    losses.parquet        one row per epoch: the parts of the loss, of training and validation
    states/<epoch>/       Orbax: variables and optimiser state, of the newest saved epoch

An epoch exists once its state is complete and losses.parquet names it.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import numpy as np
import polars as pl

from zoojax import keys
from zoojax.architectures.base import Architecture
from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import expand_user
from zoojax.filesystem.reading import NotFoundError, numbered, read_json, read_table
from zoojax.hyper_representation.augmentation import draw_permutation, permute
from zoojax.hyper_representation.codec import Codec, Variables
from zoojax.hyper_representation.config import FORMAT, SCHEMA, RepresentationConfig
from zoojax.hyper_representation.dataset import Normalization
from zoojax.hyper_representation.train_step import init
from zoojax.runtime import population
from zoojax.storage import checkpoints
from zoojax.storage.zoo import Zoo, open_zoo
from zoojax.text import printable

CONFIG, LOSSES, STATES = "representation.json", "losses.parquet", "states"
# Samples that pass through the network at once, outside training.
_BATCH = 64
# Numbers of an autoencoder with its moments; the paper's has 0.25 * 10**9.
_MOST_NUMBERS = 2 * 10**9
_PARTS = ("loss", "contrastive", "weights", "alphas")


class Representation:
    """A trained autoencoder, opened for reading by `open_representation`.

    Attributes:
        path: its folder.
        config: what it was made from.
        codec: the autoencoder.
    """

    def __init__(self, path: Path, config: RepresentationConfig):
        self.path, self.config = path, config
        variational = {layer: tuple(names) for layer, names in config.variational.items()}
        normalisation = Normalization(config.mean, config.deviation)
        self.codec = Codec(config.settings, config.shape, normalisation, variational)

    def __repr__(self) -> str:
        s = self.config.settings
        told = f"{s.task}, {s.latent} dimensions, epoch {self.epoch}"
        return f"Representation({str(self.path)!r}: {told})"

    @property
    def losses(self) -> pl.DataFrame:
        """One row per epoch: epoch, and the parts of the loss, "train_" and "val_".

        Raises:
            ZoojaxError: the table is damaged, or is not that of a hyper-representation.
        """
        path = self.path / LOSSES
        try:
            table = read_table(path)
        except NotFoundError:
            return pl.DataFrame(schema={"epoch": pl.Int64})
        problem = _losses_problem(table, self.config.settings.epochs)
        if problem is not None:
            raise ZoojaxError(f"{path} is damaged: {problem}")
        return table

    @property
    def epoch(self) -> int:
        """The newest epoch on disk; 0 before the first."""
        measured = set(self.losses["epoch"].to_list())
        return max(measured & set(numbered(self.path / STATES)), default=0)

    @cached_property
    def variables(self) -> Variables:
        """Of the network, at the newest epoch.

        Raises:
            ZoojaxError: there is none yet, or it is damaged.
        """
        return self.saved()["variables"]

    @cached_property
    def fingerprint(self) -> str:
        """Identifies it as it is now: SHA-256 over its config and variables."""
        content = self.config.to_json()
        # Where its zoo lies says nothing of it.
        for circumstance in ("versions", "zoo"):
            del content[circumstance]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
        for leaf in jax.tree.leaves(self.variables):
            digest.update(np.asarray(leaf).tobytes())
        return digest.hexdigest()

    def saved(self) -> dict[str, Any]:
        """Variables and the optimiser's state of the newest epoch, as nested dicts.

        Raises:
            ZoojaxError: there is none yet, it is damaged, or it is of another autoencoder.
        """
        if not self.epoch:
            raise ZoojaxError(f"{self.path} has no epoch yet; its training has only begun")
        path = self.path / STATES / str(self.epoch)
        # Of however many samples: no shape depends on them.
        like = flax.serialization.to_state_dict(jax.eval_shape(lambda: init(self.codec, 1)))
        size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(like))
        if size > _MOST_NUMBERS:
            raise ZoojaxError(
                f"{self.path / CONFIG} asks for {size} numbers, more than the {_MOST_NUMBERS} "
                "that are read"
            )
        state = checkpoints.read(path, like=like)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state["variables"])):
            raise ZoojaxError(f"{path} holds numbers that are not finite")
        return state

    def check_architecture(self, zoo: Zoo) -> None:
        """Raises ZoojaxError unless a zoo's members are of the architecture learned."""
        mine, other = self.config.shape, zoo.config.shape
        if mine != other:
            raise ZoojaxError(
                f"{zoo.path} has the {_told(other)}, and {self.path} was learned from the "
                f"{_told(mine)}; give a zoo of that architecture"
            )

    def check_alphas(self) -> None:
        """Raises ZoojaxError unless it was learned with log alphas."""
        if not self.codec.variational:
            raise ZoojaxError(
                f"{self.path} was learned without log alphas; learn one from a "
                "variational-dropout twin, with 'zoojax represent train --task sparsify'"
            )

    def training_zoo(self, elsewhere: Path | None = None) -> Zoo:
        """The zoo that it was learned from.

        Args:
            elsewhere: its folder, where it is no longer the one that is recorded.

        Raises:
            ZoojaxError: it is not there, or it is another.
        """
        try:
            zoo = open_zoo(self.path / self.config.zoo if elsewhere is None else elsewhere)
        except ZoojaxError as error:
            if elsewhere is not None:
                raise
            raise ZoojaxError(
                f"{error}; {self.path} was learned from a zoo that was there: give its folder "
                "with --zoo"
            ) from error
        if zoo.fingerprint != self.config.fingerprint:
            raise ZoojaxError(
                f"{zoo.path} is not the zoo that {self.path} was learned from; give that one "
                "with --zoo"
            )
        # Known members are the basis of all that follows.
        zoo.row_indices([member for part in self.config.members for member in part])
        return zoo

    def embed(self, params: dict[str, Any], views: int | None = None) -> np.ndarray:
        """Embeddings [n, latent] float32 of stacked parameters, as `Zoo.params` has them.

        Args:
            params: stacked parameters.
            views: embed each member in so many orders of its hidden units, all of the same
                function, and give the mean: what of z hangs on the order averages out. None
                embeds it as it is.
        """
        if views is None:
            return _batched(self._embed, params)
        key, arch = keys.stream_key(self.config.settings.seed, "views"), self.config.shape
        total = np.zeros((), np.float32)
        for view in range(views):
            orders = draw_permutation(jax.random.fold_in(key, view), arch)
            total = total + _batched(self._embed, permute(params, orders, arch))
        return total / np.float32(views)

    def reconstruct(self, params: dict[str, Any]) -> tuple[dict, dict | None]:
        """Stacked parameters and log alphas, as the autoencoder gives them back."""
        return _batched(self._reconstruct, params)

    def log_alphas(self, params: dict[str, Any]) -> dict[str, Any]:
        """Predicted log alphas of stacked parameters, not clipped, by layer and leaf.

        Raises:
            ZoojaxError: it was learned without log alphas.
        """
        self.check_alphas()
        return _batched(self._log_alphas, params)

    def decode(self, z: np.ndarray) -> tuple[dict, dict | None]:
        """Stacked parameters and log alphas of embeddings [n, latent]."""
        return _batched(self._decode, z)

    @cached_property
    def _embed(self) -> Callable[[Any], Any]:
        return self._compiled(self.codec.embed)

    @cached_property
    def _reconstruct(self) -> Callable[[Any], Any]:
        return self._compiled(self.codec.reconstruct)

    @cached_property
    def _log_alphas(self) -> Callable[[Any], Any]:
        return self._compiled(self.codec.log_alphas)

    @cached_property
    def _decode(self) -> Callable[[Any], Any]:
        return self._compiled(self.codec.decode)

    def _compiled(self, function: Callable) -> Callable[[Any], Any]:
        placed, program = jax.device_put(self.variables), jax.jit(function)
        return lambda x: program(placed, x)


def open_representation(path: str | Path) -> Representation:
    """Opens a hyper-representation for reading.

    Example:
        >>> representation = zoojax.open_representation("reps/usps")
        >>> representation.embed(zoo.params(25)).shape
        (200, 1024)

    Raises:
        ZoojaxError: the folder is none, or one of a newer schema, or is damaged.
    """
    path = expand_user(path)
    file = path / CONFIG
    try:
        content = read_json(file)
    except NotFoundError as error:
        raise ZoojaxError(f"{path} is not a hyper-representation: it has no {CONFIG}") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(content, dict) or content.get("format") != FORMAT or type(schema) is not int:
        raise ZoojaxError(f"{file} is damaged, or is not of a hyper-representation")
    if schema > SCHEMA:
        raise ZoojaxError(
            f"{file} has schema {printable(schema, 20)}, and this zoojax reads up to {SCHEMA}; "
            "upgrade with: pip install -U zoojax"
        )
    if schema < SCHEMA:
        raise ZoojaxError(
            f"{file} is of an earlier zoojax, whose autoencoder was another; learn it again"
        )
    try:
        return Representation(path, RepresentationConfig.from_json(content))
    except (ValueError, ZoojaxError) as error:
        raise ZoojaxError(f"{file} is damaged: {printable(error)}") from error


def _losses_problem(table: pl.DataFrame, epochs: int) -> str | None:
    """What is wrong with a table of losses; None if nothing is."""
    kinds: dict[str, pl.DataType] = {"epoch": pl.Int64()}
    kinds |= {f"{part}_{name}": pl.Float64() for part in ("train", "val") for name in _PARTS}
    for name, kind in table.schema.items():
        if kinds.get(name) != kind:
            return f"column {printable(name, 60)} of type {printable(kind, 60)}"
        if table[name].has_nulls():
            return f"column {name} has nulls"
    if "epoch" not in table.columns:
        return "it has no column epoch"
    numbers = table["epoch"]
    if not numbers.is_between(1, epochs).all() or not (numbers.diff().drop_nulls() > 0).all():
        return f"its epochs do not ascend from 1 to {epochs}"
    return None


def _batched(program: Callable[[Any], Any], stacked: Any) -> Any:
    """Applies a program to samples in batches of one size, the last one filled up."""
    n = len(jax.tree.leaves(stacked)[0])

    def parts() -> Iterator[Any]:
        for first in range(0, n, _BATCH):
            rows = np.minimum(np.arange(first, first + _BATCH), n - 1)
            yield jax.device_get(program(population.take(stacked, rows)))

    return population.take(population.concatenate(list(parts())), np.s_[:n])


def _told(arch: Architecture) -> str:
    return f"{arch.name} CNN of {arch.channels} channels and {arch.classes} classes"
