"""Helpers shared by the functions that train zoos."""

import contextlib
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib import metadata
from pathlib import Path

import jax
import polars as pl

from zoojax.architectures.base import Architecture
from zoojax.architectures.effects import EFFECTS
from zoojax.datasets import specs
from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import optional_path
from zoojax.filesystem.reading import exists
from zoojax.hyperparameters.declaration import check_whole
from zoojax.runtime import distributed, population, signals
from zoojax.storage.memory import create_in_memory
from zoojax.storage.stores import CONFIG, FolderStore
from zoojax.storage.writer import EpochWriter, create_or_resume
from zoojax.storage.zoo import Zoo, open_zoo
from zoojax.storage.zoo_config import ZooConfig
from zoojax.text import printable
from zoojax.training import engine
from zoojax.training.programs import ORDERS


def versions() -> dict[str, str]:
    """Returns the versions of the libraries that results may depend on, by library."""
    return {name: metadata.version(name) for name in ("zoojax", "jax", "flax", "optax", "numpy")}


def explain_interrupt(out: Path | None) -> AbstractContextManager[None]:
    """Returns a context in which ctrl-C says how to resume a zoo.

    Args:
        out: Folder of the zoo; None for one in memory.
    """
    if out is None:
        return signals.explain_interrupt("the zoo was not saved; give out a folder to resume later")
    return signals.explain_interrupt(
        f"repeat the call to resume from the last complete epoch in {printable(out, 1000)}"
    )


@contextlib.contextmanager
def zoo_writer(
    out: Path | None,
    config: ZooConfig,
    members: pl.DataFrame,
    images: specs.ImageSet,
    store_images: bool,
) -> Iterator[EpochWriter]:
    """Creates a zoo in a folder or resumes it, or creates one in memory.

    Args:
        out: Folder of the zoo; None for one in memory.
        config: Settings that all members share.
        members: One row per member.
        images: Images of the zoo.
        store_images: Whether the images are part of the zoo.

    Yields:
        The writer.

    Raises:
        ZoojaxError: See `create_or_resume` and `create_in_memory`.
    """
    writer = (
        create_in_memory(config, members, images, store_images)
        if out is None
        else create_or_resume(out, config, members, images if store_images else None)
    )
    with writer as opened:
        yield opened


def resolve_chunk(out: Path | None, chunk: int | None, members: int, shape: Architecture) -> int:
    """Returns the requested chunk, else that of the zoo to resume, else one for this machine.

    Args:
        out: Folder of the zoo; None for one in memory.
        chunk: Requested number of members per device; None if not given.
        members: Number of members of the zoo.
        shape: Architecture of the zoo.
    """
    if chunk is not None:
        return int(chunk)
    if out is not None and exists(out / CONFIG):
        return open_zoo(out).config.chunk
    name = engine.engine(shape, jax.default_backend())
    mesh = population.make_mesh()
    share = math.ceil(members / distributed.process_count())
    return population.default_chunk(share, mesh, name, shape.parameter_count)


def output_folder_of(out: object) -> Path | None:
    """Returns the folder of a zoo to train: a path, or that of an opened zoo; None for None.

    Raises:
        ZoojaxError: If it is not a path, or a zoo without a folder of its own.
    """
    if not isinstance(out, Zoo):
        return optional_path(out, "out")
    if not isinstance(out.store, FolderStore):
        raise ZoojaxError(f"out is {printable(out, 200)}, which is not in a folder; give a folder")
    return out.path


def check_dense(zoo: Zoo) -> None:
    """Raises a ZoojaxError if a zoo is a twin."""
    if not zoo.config.is_dense:
        raise ZoojaxError(f"{zoo.path} is itself a twin; give its dense parent")


def check_effects(shape: Architecture, members: pl.DataFrame) -> None:
    """Checks that hyperparameters in which members differ have an effect on the network.

    Args:
        shape: The network.
        members: The members table.

    Raises:
        ZoojaxError: If the network ignores one, so that members would be the same.
    """
    for name, has_effect in EFFECTS.items():
        count = members[name].n_unique()
        if count > 1 and not has_effect(shape):
            raise ZoojaxError(
                f"{name} has no effect on the {printable(shape.label, 200)}, but members differ in "
                f"it ({count} values); give one value"
            )


def check_training(epochs: int, batch_size: int, data_order: str, chunk: int | None) -> None:
    """Raises a ZoojaxError if an argument of a training is not a number, or out of range."""
    check_whole("epochs", epochs)
    check_whole("batch_size", batch_size)
    if chunk is not None:
        check_whole("chunk", chunk)
    if epochs < 0:
        raise ZoojaxError(f"{epochs} epochs requested; give 0 or more")
    if batch_size < 1:
        raise ZoojaxError(f"batch size {batch_size}; give at least 1")
    if data_order not in ORDERS:
        raise ZoojaxError(f"no data order named '{data_order}'; there are: {', '.join(ORDERS)}")
    if chunk is not None and chunk < 1:
        raise ZoojaxError(f"chunk {chunk}; give at least 1")
