"""Reads a hyper-representation from disk and applies it.

A folder contains:

    representation.json   schema, settings, training zoo, split, normalization, versions
    losses.parquet        one row per epoch: training and validation losses and their terms
    states/<epoch>/       Orbax checkpoint of the last saved epoch: variables, optimizer state

An epoch is complete once its checkpoint is complete and losses.parquet has its row.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
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
from zoojax.filesystem.paths import user_path
from zoojax.filesystem.reading import NotFoundError, numbered, read_json
from zoojax.hyper_representation.augmentation import draw_permutation, permute
from zoojax.hyper_representation.batches import map_batches
from zoojax.hyper_representation.codec import Codec, Variables
from zoojax.hyper_representation.config import (
    FORMAT,
    SCHEMA,
    RepresentationConfig,
    TrainingZoo,
)
from zoojax.hyper_representation.dataset import Normalization
from zoojax.hyper_representation.losses_table import read_losses
from zoojax.hyper_representation.train_step import init
from zoojax.storage import checkpoints
from zoojax.storage.opening import as_zoo
from zoojax.storage.parent import has_same_ids
from zoojax.storage.zoo import Zoo
from zoojax.text import printable
from zoojax.training.inputs import checked_arrays

CONFIG, LOSSES, STATES = "representation.json", "losses.parquet", "states"
# Maximum size of the checkpoint of an autoencoder, with optimizer state; the paper's has
# 0.25 * 10**9 values.
_MAX_VALUES = 2 * 10**9


class Representation:
    """A trained autoencoder, opened for reading by `open_representation`.

    Attributes:
        path: Folder of the hyper-representation.
        config: Settings and training data.
        codec: The autoencoder.
    """

    def __init__(self, path: Path, config: RepresentationConfig):
        self.path, self.config = path, config
        variational = {layer: tuple(names) for layer, names in config.variational.items()}
        normalization = Normalization(config.mean, config.deviation)
        self.codec = Codec(
            *(config.settings, config.shape, normalization, variational),
            *(config.slices, config.activation),
        )

    def __repr__(self) -> str:
        s = self.config.settings
        summary = f"{s.task}, {s.latent} dimensions, epoch {self.epoch}"
        return f"Representation({str(self.path)!r}: {summary})"

    @property
    def losses(self) -> pl.DataFrame:
        """The loss and its terms, one row per epoch.

        Columns are "epoch" and each term with the prefix "train_" or "val_".

        Raises:
            ZoojaxError: If the table is damaged, or is not a table of losses.
        """
        return read_losses(self.path / LOSSES, self.config.settings.epochs)

    @property
    def epoch(self) -> int:
        """The last complete epoch; 0 if there is none."""
        recorded = set(self.losses["epoch"].to_list())
        return max(recorded & set(numbered(self.path / STATES)), default=0)

    @cached_property
    def variables(self) -> Variables:
        """Variables of the network at the last complete epoch.

        Raises:
            ZoojaxError: If there is no complete epoch, or it is damaged.
        """
        return self.load_state()["variables"]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the configuration and the variables at the last complete epoch."""
        digest = hashlib.sha256(json.dumps(self.config.identity(), sort_keys=True).encode())
        for leaf in jax.tree.leaves(self.variables):
            digest.update(np.asarray(leaf).tobytes())
        return digest.hexdigest()

    def load_state(self) -> dict[str, Any]:
        """Loads variables and optimizer state of the last complete epoch.

        Returns:
            Nested dicts with the keys "variables" and "optimizer".

        Raises:
            ZoojaxError: If there is no complete epoch, or it is damaged or belongs to another
                autoencoder.
        """
        if not self.epoch:
            raise ZoojaxError(f"{self.path} has no completed epoch yet; train it first")
        path = self.path / STATES / str(self.epoch)
        # No shape depends on the number of samples.
        like = flax.serialization.to_state_dict(jax.eval_shape(lambda: init(self.codec, 1)))
        size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(like))
        if size > _MAX_VALUES:
            raise ZoojaxError(
                f"{self.path / CONFIG} describes an autoencoder with {size} values, more than "
                f"the maximum of {_MAX_VALUES}"
            )
        state = checkpoints.read(path, like=like)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state["variables"])):
            raise ZoojaxError(f"{path} contains values that are not finite")
        return state

    def check_architecture(self, zoo: Zoo) -> None:
        """Raises ZoojaxError if a zoo's architecture differs from that of the training zoo."""
        expected, actual = self.config.shape, zoo.config.shape
        if actual != expected:
            raise ZoojaxError(
                f"{zoo.path} has the {_describe(actual)}, but {self.path} was trained on the "
                f"{_describe(expected)}; give a zoo with that architecture"
            )

    def check_alphas(self) -> None:
        """Raises ZoojaxError if the hyper-representation does not predict log alphas."""
        if not self.codec.variational:
            raise ZoojaxError(
                f"{self.path} was trained without log alphas; train one on a variational-dropout "
                "twin with 'zoojax represent train --task sparsify'"
            )

    def training_zoos(self, given: Sequence[Zoo | str | Path] = ()) -> list[Zoo]:
        """Opens all training zoos.

        Args:
            given: Training zoos, or their folders, in any order; the others are opened from
                their recorded folders.

        Returns:
            The zoos, in the order of `config.zoos`.

        Raises:
            ZoojaxError: If a zoo is missing, is a different zoo, or lacks a member of the split.
        """
        opened = [self.training_zoo(each) for each in given]
        zoos = []
        for entry in self.config.zoos:
            matching = [zoo for zoo in opened if has_same_ids(zoo, entry.fingerprint)]
            zoos.append(matching[0] if matching else self._recorded_zoo(entry))
        return zoos

    def training_zoo(self, path: Zoo | str | Path | None = None) -> Zoo:
        """Opens one training zoo.

        Args:
            path: One of the training zoos, or its folder; None for the first one.

        Raises:
            ZoojaxError: If the zoo is missing, is a different zoo, or lacks a member of the split.
        """
        if path is None:
            return self._recorded_zoo(self.config.zoos[0])
        zoo = as_zoo(path)
        # Raises if a member of the split is missing.
        zoo.row_indices(self.entry(zoo).all_members)
        return zoo

    def entry(self, zoo: Zoo) -> TrainingZoo:
        """Returns the entry of a training zoo in the configuration.

        Raises:
            ZoojaxError: If it is a different zoo.
        """
        for entry in self.config.zoos:
            if has_same_ids(zoo, entry.fingerprint):
                return entry
        raise ZoojaxError(
            f"{zoo.path} is not a zoo that {self.path} was trained on; give a training zoo with "
            "--zoo"
        )

    def _recorded_zoo(self, entry: TrainingZoo) -> Zoo:
        if entry.path == "unknown":
            raise ZoojaxError(
                f"{self.path} does not record the folder of its training zoo; give it with --zoo"
            )
        try:
            zoo = as_zoo(self.path / entry.path)
        except ZoojaxError as error:
            raise ZoojaxError(
                f"{error}; it was the training zoo of {self.path}: give its new folder with --zoo"
            ) from error
        if not has_same_ids(zoo, entry.fingerprint):
            raise ZoojaxError(
                f"{zoo.path} is not the zoo that {self.path} was trained on; give that zoo with "
                "--zoo"
            )
        zoo.row_indices(entry.all_members)
        return zoo

    def embed(self, params: dict[str, Any], views: int | None = None) -> np.ndarray:
        """Embeds members.

        Args:
            params: Stacked parameters, as returned by `Zoo.params`.
            views: If given, the embedding is the mean over this many random permutations of
                each member's hidden units, which reduces its dependence on the order of units.

        Returns:
            [n, latent] float32.

        Raises:
            ZoojaxError: If the parameters do not fit the architecture of the training zoo.
        """
        params = self._checked(params)
        # Permuted members compute the same function, so their outputs on the probes are the same.
        probed = map_batches(self._probe, params)
        if views is None:
            return map_batches(self._embed, (params, probed))
        key, arch = keys.stream_key(self.config.settings.seed, "views"), self.config.shape
        total = np.zeros((), np.float32)
        for view in range(views):
            orders = draw_permutation(jax.random.fold_in(key, view), arch)
            total = total + map_batches(self._embed, (permute(params, orders, arch), probed))
        return total / np.float32(views)

    def reconstruct(self, params: dict[str, Any]) -> tuple[dict, dict | None]:
        """Encodes and decodes members.

        Args:
            params: Stacked parameters.

        Returns:
            Reconstructed parameters, and log alphas or None.

        Raises:
            ZoojaxError: If the parameters do not fit the architecture of the training zoo.
        """
        return map_batches(self._reconstruct, self._checked(params))

    def log_alphas(self, params: dict[str, Any]) -> dict[str, Any]:
        """Predicts log alphas, without clipping.

        Args:
            params: Stacked parameters.

        Returns:
            Stacked log alphas by layer and leaf.

        Raises:
            ZoojaxError: If the hyper-representation was trained without log alphas, or the
                parameters do not fit the architecture of the training zoo.
        """
        self.check_alphas()
        return map_batches(self._log_alphas, self._checked(params))

    def decode(self, z: np.ndarray) -> tuple[dict, dict | None]:
        """Decodes embeddings.

        Args:
            z: Embeddings, [n, latent].

        Returns:
            Stacked parameters, and log alphas or None.

        Raises:
            ZoojaxError: If it was trained for the task "sparsify", which needs the weights.
        """
        if self.config.settings.task == "sparsify":
            raise ZoojaxError(
                f"{self.path} predicts log alphas from weights and cannot decode embeddings alone; "
                "use reconstruct or log_alphas"
            )
        return map_batches(self._decode, z)

    def _checked(self, params: Any) -> dict[str, Any]:
        """Returns stacked parameters of at least one member as float32."""
        first = jax.tree.leaves(params)[:1]
        count = np.shape(first[0])[0] if first and np.ndim(first[0]) else 0
        return checked_arrays(self.config.shape, params, (max(count, 1),))

    @cached_property
    def _embed(self) -> Callable[[Any], Any]:
        return self._compile(lambda variables, x: self.codec.embed(variables, *x))

    @cached_property
    def _probe(self) -> Callable[[Any], Any]:
        return self._compile(self.codec.probe)

    @cached_property
    def _reconstruct(self) -> Callable[[Any], Any]:
        return self._compile(self.codec.reconstruct)

    @cached_property
    def _log_alphas(self) -> Callable[[Any], Any]:
        return self._compile(self.codec.log_alphas)

    @cached_property
    def _decode(self) -> Callable[[Any], Any]:
        return self._compile(self.codec.decode)

    def _compile(self, function: Callable) -> Callable[[Any], Any]:
        variables, program = jax.device_put(self.variables), jax.jit(function)
        return lambda x: program(variables, x)


def open_representation(path: str | Path) -> Representation:
    """Opens a hyper-representation for reading.

    Args:
        path: Folder of the hyper-representation.

    Returns:
        The hyper-representation. Its variables are read only when they are needed.

    Raises:
        ZoojaxError: If the folder is not a hyper-representation, has a different schema, or is
            damaged.

    Example:
        >>> from zoojax.hyper_representation.representation import open_representation
        >>> representation = open_representation(representation_folder)
        >>> representation.embed(zoo.params(2)).shape  # one embedding per member
        (3, 8)
    """
    path = user_path(path, "path")
    file = path / CONFIG
    try:
        content = read_json(file)
    except NotFoundError as error:
        raise ZoojaxError(f"{path} is not a hyper-representation: it has no {CONFIG}") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(content, dict) or content.get("format") != FORMAT or type(schema) is not int:
        raise ZoojaxError(f"{file} is damaged, or does not describe a hyper-representation")
    if schema > SCHEMA:
        raise ZoojaxError(
            f"{file} has schema {printable(schema, 20)}, but this zoojax reads up to {SCHEMA}; "
            "upgrade with: pip install -U zoojax"
        )
    if schema < SCHEMA:
        raise ZoojaxError(
            f"{file} was written by an older zoojax with a different autoencoder; train it again"
        )
    try:
        return Representation(path, RepresentationConfig.from_json(content))
    except (ValueError, ZoojaxError) as error:
        raise ZoojaxError(f"{file} is damaged: {printable(error)}") from error


def as_representation(representation: object) -> Representation:
    """Returns a hyper-representation itself, or opens the one in a folder.

    Args:
        representation: A hyper-representation, or the path of its folder as a str or an
            `os.PathLike`.

    Raises:
        ZoojaxError: If it is neither, or the folder is not a hyper-representation.
    """
    if isinstance(representation, Representation):
        return representation
    if not isinstance(representation, str | os.PathLike):
        raise ZoojaxError(
            f"representation is {printable(representation, 80)}; give a hyper-representation or "
            "the folder of one"
        )
    return open_representation(Path(representation))


def _describe(arch: Architecture) -> str:
    return f"{arch.label} with {arch.channels} channels and {arch.classes} classes"
