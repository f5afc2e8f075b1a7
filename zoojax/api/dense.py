"""Trains dense zoos; `zoojax.api.twins` trains their sparse twins.

    zoo = train_zoo(path, "my-zoo", Grid(...), "small", DataSpec("usps"), epochs=50)

Each call resumes the zoo at `path` if it was created with the same arguments.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import polars as pl

from zoojax.api.common import (
    check_dense,
    check_training,
    embedded_images,
    resolve_chunk,
    versions,
)
from zoojax.architectures.base import Architecture, init_variables
from zoojax.architectures.registry import architecture as registered_architecture
from zoojax.datasets import loading, specs
from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import expand_user
from zoojax.runtime import population
from zoojax.storage.states import StateParts
from zoojax.storage.writer import create_or_resume
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_config import ZooConfig
from zoojax.storage.zoo_images import load_images
from zoojax.training import trainer
from zoojax.training.hyperparameters import Grid

# Members initialized per call: a fixed number, so that zoos of any size share one program.
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
    """Trains a dense zoo, resumes it, or returns it unchanged if it is complete.

    Args:
        out: folder of the zoo: new, empty, or of the same zoo if it was interrupted.
        name: name of the zoo.
        grid: hyperparameters of the members.
        architecture: name of a registered architecture, such as "small".
        spec: image set.
        epochs: number of epochs; 0 saves only the untrained members.
        batch_size: images per step.
        data_order: "member" (each member shuffles by its own seed) or "shared" (all members
            see the images in one order).
        first_seed: lowest seed of the members.
        chunk: members that a device trains at once; None chooses for this machine.
        preset: name of the preset that the arguments are from, recorded in the zoo.
        keep_data: store the images in the zoo, so that it can be moved without them.
        data_dir: folder of image sets; see `zoojax.datasets.loading.data_directory`.
        report: progress callback, called at the start and after each block of members.

    Returns:
        The zoo, with all epochs complete.

    Raises:
        ZoojaxError: an argument is invalid, the folder holds something else, the images are
            missing, or writing failed.

    Example:
        >>> grid = Grid(activations=("tanh", "relu"), seeds=10)
        >>> zoo = train_zoo("zoos/usps", "usps", grid, "small", DataSpec("usps"), epochs=5)
        >>> len(zoo)
        20
    """
    out = expand_user(out)
    members = grid.members(first_seed)
    check_training(epochs, batch_size, data_order, chunk)
    net = registered_architecture(architecture, spec.channels)
    if spec.size != net.size:
        raise ZoojaxError(
            f"the {net.label} takes images of side {net.size}, not {spec.size}; set size"
        )
    images = loading.load(spec, data_dir)
    config = ZooConfig(
        name=name,
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

    def initial(rows: slice) -> StateParts:
        return _initial_states(config.shape, members[rows])

    stored_images = images if keep_data else None
    with create_or_resume(out, config, members, stored_images) as writer:
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
    """Trains new members with the images, architecture and batches of an existing dense zoo.

    Args:
        out: folder of the new zoo.
        source: the existing dense zoo.
        name: name of the new zoo.
        members: members table of the new zoo, with the columns of the source's.
        epochs: number of epochs; 0 saves only the untrained members.
        initial: returns the stacked parameters of epoch 0; None initializes each member by its
            initialization scheme and seed.
        origin: source of those parameters, recorded in the zoo; see `ZooConfig`.
        chunk: members that a device trains at once; None chooses for this machine.
        data_dir: folder of image sets; see `zoojax.datasets.loading.data_directory`.
        report: progress callback, called at the start and after each block of members.

    Returns:
        The new zoo, with all epochs complete.

    Raises:
        ZoojaxError: an argument is invalid, the source is a twin, the images are missing, or
            writing failed.
    """
    out, base = expand_user(out), source.config
    check_dense(source)
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

    def first(rows: slice) -> StateParts:
        if initial is None:
            return _initial_states(base.shape, members[rows])
        collections = {}
        if base.shape.collections:
            collections = _initial_states(base.shape, members[rows]).collections
        return StateParts({"params": population.take(initial(), rows)}, {}, collections)

    with create_or_resume(out, config, members, embedded_images(source, images)) as writer:
        return trainer.train(writer, first, images, report)


def initial_variables(shape: Architecture, inits: list[str], seeds: list[int]) -> dict:
    """Returns stacked untrained variables; each member's depend only on its scheme and seed.

    Args:
        shape: architecture.
        inits: initialization scheme of each member.
        seeds: seed of each member.
    """
    positions, parts = [], []
    for scheme in dict.fromkeys(inits):
        rows = [i for i, name in enumerate(inits) if name == scheme]
        scheme_seeds = np.array([seeds[i] for i in rows], np.uint32)
        padded = np.pad(scheme_seeds, (0, -len(rows) % INIT_BATCH_SIZE), mode="edge")
        init = _initializer(shape, scheme)
        batches = [init(batch) for batch in padded.reshape(-1, INIT_BATCH_SIZE)]
        variables = population.concatenate(jax.device_get(batches))
        positions += rows
        parts.append(population.take(variables, slice(len(rows))))
    return population.take(population.concatenate(parts), np.argsort(positions))


def _initial_states(shape: Architecture, members: pl.DataFrame) -> StateParts:
    variables = initial_variables(shape, members["init"].to_list(), members["seed"].to_list())
    collections = {name: tree for name, tree in variables.items() if name != "params"}
    return StateParts({"params": variables["params"]}, {}, collections)


@functools.cache
def _initializer(shape: Architecture, scheme: str) -> Callable[[np.ndarray], dict]:
    return population.jit_fast_compile(jax.vmap(lambda seed: init_variables(shape, scheme, seed)))
