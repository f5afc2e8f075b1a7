"""Trains dense zoos; `zoojax.api.twins` makes their twins.

    zoo = make_dense(path, "my-zoo", Grid(...), "small", DataSpec("usps"), epochs=50)

Each call resumes the zoo at `path` if it was begun with the same arguments.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import polars as pl

from zoojax.api.common import check_training, embedded_images, resolve_chunk, versions
from zoojax.architectures import base, cnn
from zoojax.architectures.base import Architecture
from zoojax.datasets import loading, specs
from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import expand_user
from zoojax.runtime import population
from zoojax.storage.writer import create_or_resume
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_config import ZooConfig
from zoojax.storage.zoo_images import load_images
from zoojax.training import trainer
from zoojax.training.hyperparameters import Grid

# Of one size, so that zoos of any size share a compiled program.
INIT_BATCH_SIZE = 64


def train_zoo(
    out: str | Path,
    name: str,
    grid: Grid,
    architecture: str,
    spec: specs.DataSpec,
    *,
    epochs: int = 50,
    batch_size: int = 10,
    data_order: str = "member",
    first_seed: int = 1,
    chunk: int | None = None,
    preset: str | None = None,
    keep_data: bool = False,
    data_dir: str | Path | None = None,
    report: trainer.ProgressCallback | None = None,
) -> Zoo:
    """Trains a dense zoo; one that the same call has finished is returned as it is.

    Args:
        out: its folder: new, empty, or the same zoo interrupted.
        name: its name.
        grid: the members' hyper-parameters.
        architecture: "small" or "large".
        spec: the image set.
        epochs: epochs to train; 0 saves the untrained members alone.
        batch_size: images a step.
        data_order: "member" or "shared".
        first_seed: the lowest seed.
        chunk: members a device trains at once; None chooses for the machine.
        preset: the preset it comes from, for the record.
        keep_data: store the images in the zoo, so that it can be moved without them.
        data_dir: where image sets are looked for; see `data.data_directory`.
        report: called after every block; see `run.run`.

    Raises:
        ZoojaxError: bad input, or the disk refused.
    """
    out = expand_user(out)
    members = grid.members(first_seed)
    check_training(epochs, batch_size, data_order, chunk)
    net = base.architecture(architecture, spec.channels)
    if spec.size != net.size:
        raise ZoojaxError(
            f"the {net.name} CNN takes images of side {net.size}, not {spec.size}; set size"
        )
    images = loading.load(spec, data_dir)
    config = ZooConfig(
        name=name,
        kind="dense",
        architecture=architecture,
        channels=spec.channels,
        classes=images.num_classes,
        data=spec,
        data_hash=images.hash,
        epochs=epochs,
        batch_size=batch_size,
        data_order=data_order,
        chunk=resolve_chunk(out, chunk, len(members), net),
        preset=preset,
        versions=versions(),
    )

    def initial(rows: slice) -> tuple[dict, dict]:
        return _init_trainable(config.shape, members[rows]), {}

    kept = images if keep_data else None
    with create_or_resume(out, config, members, kept) as writer:
        return trainer.train(writer, initial, images, report)


def train_like(
    out: str | Path,
    source: Zoo,
    name: str,
    members: pl.DataFrame,
    *,
    epochs: int,
    initial: Callable[[], dict] | None = None,
    origin: str | None = None,
    chunk: int | None = None,
    data_dir: str | Path | None = None,
    report: trainer.ProgressCallback | None = None,
) -> Zoo:
    """Trains other members as those of a dense zoo were: its images, architecture, batches.

    Args:
        out: the new zoo's folder.
        source: the dense zoo.
        name: the new zoo's name.
        members: its members table, of the source's columns.
        epochs: as in `make_dense`.
        initial: gives the stacked parameters of epoch 0; None draws them as `make_dense`
            does, from each member's scheme and seed.
        origin: what decided those parameters; see `ZooConfig`.
        chunk: as in `make_dense`.
        data_dir: as in `make_dense`.
        report: as in `make_dense`.

    Raises:
        ZoojaxError: bad input, or the disk refused.
    """
    out, base = expand_user(out), source.config
    if base.kind != "dense":
        raise ZoojaxError(f"{source.path} is itself a twin; give the dense zoo it was made from")
    check_training(epochs, base.batch_size, base.data_order, chunk)
    images = load_images(source, data_dir)
    config = replace(
        base,
        name=name,
        epochs=epochs,
        chunk=resolve_chunk(out, chunk, len(members), base.shape),
        versions=versions(),
        origin=origin,
    )

    def first(rows: slice) -> tuple[dict, dict]:
        if initial is not None:
            return {"params": population.take(initial(), rows)}, {}
        return _init_trainable(base.shape, members[rows]), {}

    with create_or_resume(out, config, members, embedded_images(source, images)) as writer:
        return trainer.train(writer, first, images, report)


def initial_params(shape: Architecture, inits: list[str], seeds: list[int]) -> dict:
    """Untrained parameters, stacked: each member's from its scheme and seed alone."""
    positions, parts = [], []
    for scheme in dict.fromkeys(inits):
        mine = [i for i, name in enumerate(inits) if name == scheme]
        own = np.array([seeds[i] for i in mine], np.uint32)
        filled = np.pad(own, (0, -len(own) % INIT_BATCH_SIZE), mode="edge")
        draw = _initializer(shape, scheme)
        drawn = [draw(block) for block in filled.reshape(-1, INIT_BATCH_SIZE)]
        whole = population.concatenate(jax.device_get(drawn))
        positions += mine
        parts.append(population.take(whole, slice(len(own))))
    return population.take(population.concatenate(parts), np.argsort(positions))


def _init_trainable(shape: Architecture, members: pl.DataFrame) -> dict:
    params = initial_params(shape, members["init"].to_list(), members["seed"].to_list())
    return {"params": params}


@functools.cache
def _initializer(shape: Architecture, scheme: str) -> Callable[[np.ndarray], dict]:
    return population.jit_fast_compile(jax.vmap(lambda seed: cnn.init_params(shape, scheme, seed)))
