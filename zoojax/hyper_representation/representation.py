"""A hyper-representation on disk, and what can be asked of it.

    representation.json   schema, settings, the zoo, its split, normalisation, versions
    losses.parquet        a row an epoch: the parts of the loss, of training and validation
    states/<epoch>/       Orbax: variables and optimiser state, of the newest saved epoch

An epoch exists once its state is complete and losses.parquet names it.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
import polars as pl

from zoojax import keys, population, steps
from zoojax.architectures import Architecture, architecture
from zoojax.errors import ZoojaxError
from zoojax.hyper_representation.augmentation import draw_permutation, permute
from zoojax.hyper_representation.codec import Codec, Variables
from zoojax.hyper_representation.samples import Normalisation, Split
from zoojax.hyper_representation.settings import Settings
from zoojax.zoo import Zoo, open_zoo

SCHEMA = 2
CONFIG, LOSSES, STATES = "representation.json", "losses.parquet", "states"
# Samples that pass through the network at once, outside training.
_BATCH = 64


@dataclass(frozen=True)
class RepresentationConfig:
    """What a hyper-representation was made from.

    Attributes:
        settings: of the autoencoder and its training.
        zoo: where the zoo was, relative to this folder where that is possible.
        fingerprint: of the zoo.
        architecture, channels, classes: of its members.
        members: ids, by part of the split.
        left_out: members with NaN, which are in no part.
        epochs: of the zoo, whose states are the samples.
        alphas_of: the epoch whose log alphas are learned; None for that of each sample.
        mean, deviation: of each layer's parameters, over the training samples.
        variational: leaves with a log alpha by layer; empty for weights alone.
        versions: of the libraries that it was begun with.
    """

    settings: Settings
    zoo: str
    fingerprint: str
    architecture: str
    channels: int
    classes: int
    members: Split
    left_out: int
    epochs: list[int]
    alphas_of: int | None
    mean: dict[str, float]
    deviation: dict[str, float]
    variational: dict[str, list[str]]
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> Architecture:
        """The architecture of its members."""
        return architecture(self.architecture, self.channels, self.classes)

    def to_json(self) -> dict[str, Any]:
        """As representation.json holds it."""
        content = {"format": "zoojax-representation", "schema": SCHEMA, **asdict(self)}
        return content | {"members": self.members._asdict()}

    @staticmethod
    def from_json(content: dict[str, Any]) -> "RepresentationConfig":
        """The inverse of `to_json`; raises KeyError or TypeError on other content."""
        fields = {k: v for k, v in content.items() if k not in ("format", "schema")}
        settings, members = dict(fields.pop("settings")), fields.pop("members")
        settings["projection"] = tuple(settings["projection"])
        return RepresentationConfig(
            settings=Settings(**settings), members=Split(**members), **fields
        )


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
        normalisation = Normalisation(config.mean, config.deviation)
        self.codec = Codec(config.settings, config.shape, normalisation, variational)

    def __repr__(self) -> str:
        s = self.config.settings
        told = f"{s.task}, {s.latent} dimensions, epoch {self.epoch}"
        return f"Representation({str(self.path)!r}: {told})"

    @property
    def losses(self) -> pl.DataFrame:
        """A row an epoch: epoch, and the parts of the loss, "train_" and "val_"."""
        path = self.path / LOSSES
        if not path.exists():
            return pl.DataFrame(schema={"epoch": pl.Int64})
        try:
            return pl.read_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise ZoojaxError(f"{path} is damaged: {error}") from error

    @property
    def epoch(self) -> int:
        """The newest epoch on disk; 0 before the first."""
        measured = set(self.losses["epoch"].to_list())
        saved = {int(p.name) for p in (self.path / STATES).glob("*") if p.name.isdigit()}
        return max(measured & saved, default=0)

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
        """Variables and the optimiser's state of the newest epoch, as nested dicts."""
        if not self.epoch:
            raise ZoojaxError(f"{self.path} has no epoch yet; its training has only begun")
        return steps.read(self.path / STATES / str(self.epoch))

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

    def source(self, elsewhere: Path | None = None) -> Zoo:
        """The zoo that it was learned from.

        Args:
            elsewhere: its folder, where it is no longer the one that is recorded.

        Raises:
            ZoojaxError: it is not there, or it is another.
        """
        zoo = open_zoo(self.path / self.config.zoo if elsewhere is None else elsewhere)
        if zoo.fingerprint != self.config.fingerprint:
            raise ZoojaxError(f"{zoo.path} is not the zoo that {self.path} was learned from")
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
        key, arch = keys.stream(self.config.settings.seed, "views"), self.config.shape
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
    path = Path(path)
    file = path / CONFIG
    if not file.exists():
        raise ZoojaxError(f"{path} is not a hyper-representation: it has no {CONFIG}")
    try:
        content = json.loads(file.read_text())
        if content["format"] != "zoojax-representation":
            raise ValueError("another format")
        if int(content["schema"]) > SCHEMA:
            raise ZoojaxError(
                f"{file} has schema {content['schema']}, and this zoojax reads up to {SCHEMA}; "
                "upgrade with: pip install -U zoojax"
            )
        if int(content["schema"]) < SCHEMA:
            raise ZoojaxError(
                f"{file} is of an earlier zoojax, whose autoencoder was another; learn it again"
            )
        return Representation(path, RepresentationConfig.from_json(content))
    except (ValueError, KeyError, TypeError, UnicodeDecodeError, OSError) as error:
        raise ZoojaxError(f"{file} is damaged or of something else ({error})") from error


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
