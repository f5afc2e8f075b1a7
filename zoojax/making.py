"""What all ways of making a zoo share."""

import math
from importlib import metadata
from pathlib import Path

import jax

from zoojax import (
    data,
    models,
    network,
    population,
    processes,
)
from zoojax.errors import ZoojaxError
from zoojax.programs import ORDERS
from zoojax.reading import is_there
from zoojax.zoo import CONFIG, IMAGES, Zoo, open_zoo


def versions() -> dict[str, str]:
    """Versions of the libraries that results may depend on."""
    return {name: metadata.version(name) for name in ("zoojax", "jax", "flax", "optax", "numpy")}


def kept_images(parent: Zoo, images: data.ImageSet) -> data.ImageSet | None:
    """The images, if the parent keeps them itself: then its twins do too."""
    return images if is_there(parent.path / IMAGES) else None


def chosen_chunk(out: Path, chunk: int | None, members: int, shape: models.Architecture) -> int:
    """The chunk asked for, or that of the zoo to be continued, or one for this machine."""
    if chunk is not None:
        return chunk
    if is_there(out / CONFIG):
        return open_zoo(out).config.chunk
    engine = network.engine(shape, jax.default_backend())
    mesh = population.make_mesh()
    return population.default_chunk(math.ceil(members / processes.count()), mesh, engine)


def check_training(epochs: int, batch_size: int, data_order: str, chunk: int | None) -> None:
    if epochs < 0:
        raise ZoojaxError(f"{epochs} epochs asked for; give 0 or more")
    if batch_size < 1:
        raise ZoojaxError(f"batch size {batch_size}; give at least 1")
    if data_order not in ORDERS:
        raise ZoojaxError(f"no data order named '{data_order}'; there are: {', '.join(ORDERS)}")
    if chunk is not None and chunk < 1:
        raise ZoojaxError(f"chunk {chunk}; give at least 1")
