"""Helpers shared by the functions that train zoos."""

import math
from importlib import metadata
from pathlib import Path

import jax

from zoojax.architectures.base import Architecture
from zoojax.datasets import specs
from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import exists
from zoojax.runtime import distributed, population
from zoojax.storage.zoo import CONFIG, IMAGES, Zoo, open_zoo
from zoojax.training import engine
from zoojax.training.programs import ORDERS


def versions() -> dict[str, str]:
    """Returns the versions of the libraries that results may depend on, by library."""
    return {name: metadata.version(name) for name in ("zoojax", "jax", "flax", "optax", "numpy")}


def embedded_images(parent: Zoo, images: specs.ImageSet) -> specs.ImageSet | None:
    """Returns the images to store in a twin: `images` if its parent stores them, else None."""
    return images if exists(parent.path / IMAGES) else None


def resolve_chunk(out: Path, chunk: int | None, members: int, shape: Architecture) -> int:
    """Returns the requested chunk, else that of the zoo to resume, else one for this machine.

    Args:
        out: folder of the zoo.
        chunk: requested number of members per device; None if not given.
        members: number of members of the zoo.
        shape: architecture of the zoo.
    """
    if chunk is not None:
        return chunk
    if exists(out / CONFIG):
        return open_zoo(out).config.chunk
    name = engine.engine(shape, jax.default_backend())
    mesh = population.make_mesh()
    leaves = (leaf for layer in shape.parameter_shapes().values() for leaf in layer.values())
    parameters = sum(math.prod(leaf) for leaf in leaves)
    share = math.ceil(members / distributed.process_count())
    return population.default_chunk(share, mesh, name, parameters)


def check_dense(zoo: Zoo) -> None:
    """Raises a ZoojaxError if a zoo is a twin."""
    if not zoo.config.is_dense:
        raise ZoojaxError(f"{zoo.path} is itself a twin; give its dense parent")


def check_training(epochs: int, batch_size: int, data_order: str, chunk: int | None) -> None:
    """Raises a ZoojaxError if an argument of a training is out of range."""
    if epochs < 0:
        raise ZoojaxError(f"{epochs} epochs requested; give 0 or more")
    if batch_size < 1:
        raise ZoojaxError(f"batch size {batch_size}; give at least 1")
    if data_order not in ORDERS:
        raise ZoojaxError(f"no data order named '{data_order}'; there are: {', '.join(ORDERS)}")
    if chunk is not None and chunk < 1:
        raise ZoojaxError(f"chunk {chunk}; give at least 1")
