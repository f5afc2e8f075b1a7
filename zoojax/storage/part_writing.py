"""Appends an epoch to a zoo part by part."""

from collections.abc import Callable
from typing import Any

import polars as pl

from zoojax.filesystem.atomic import atomic_rmtree
from zoojax.runtime import signals
from zoojax.storage import checkpoints, parts, states
from zoojax.storage.stores import STATES
from zoojax.storage.writer import ZooWriter


def append_parts(
    writer: ZooWriter,
    epoch: int,
    split: parts.Parts,
    make: Callable[[slice], dict[str, Any]],
    measure: Callable[[slice, dict[str, Any]], pl.DataFrame],
) -> None:
    """Appends one epoch part by part; memory is bounded by one part.

    Parts that an interrupted call has written are read, not computed again. Readers see the epoch
    only once it is complete. Only for a single process.

    Args:
        writer: The writer of the zoo.
        epoch: Number of the epoch.
        split: How the members are split.
        make: Returns the stacked state of rows of the members table.
        measure: Returns the metrics of rows and their state, as in `ZooWriter.append`. If no part
            has any, the epoch is not appended.

    Raises:
        ZoojaxError: If writing fails. Earlier epochs and parts are intact.
    """
    config, step = writer.zoo.config, writer.zoo.path / STATES / str(epoch)
    like = states.state_like(config, split.members)
    optional = states.optional_like(config, split.members)
    parts.claim_step(step, split)
    tables = []
    for index, rows in enumerate(split.slices):
        if parts.find_part_damage(step, index) is None:
            state = states.unpack(config, parts.read_part(step, index, like, optional))
        else:
            state = make(rows)
            with signals.defer_signals():
                checkpoints.save(parts.part_folder(step, index), states.pack(config, state))
        tables.append(measure(rows, state))
        del state  # Frees memory before the next part.
    metrics = pl.concat(tables)
    if metrics.is_empty():
        atomic_rmtree(step)
        return
    with signals.defer_signals():
        writer.publish_epoch(epoch, metrics)
    writer.last_epoch = epoch
