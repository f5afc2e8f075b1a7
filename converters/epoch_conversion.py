"""Converts one epoch of all members that this process holds."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from zoojax.converters import measurements, originals
from zoojax.converters.sources import Source
from zoojax.converters.state_dicts import missing_state
from zoojax.converters.state_reading import (
    INACCURATE,
    TOO_LARGE,
    LocalShare,
    convert_states,
    leaves_of,
)
from zoojax.errors import ZoojaxError
from zoojax.runtime import distributed
from zoojax.storage.part_writing import append_parts
from zoojax.storage.parts import Parts, choose_parts
from zoojax.storage.writer import ZooWriter


def append_epoch(
    writer: ZooWriter,
    share: LocalShare,
    epoch: int,
    rejected: dict[str, str],
    record: Callable[[dict[str, str]], None],
) -> int:
    """Converts one epoch and appends it to the zoo, if any member has a valid state.

    All processes call this together. A single process converts a large epoch in parts.

    Args:
        writer: The zoo.
        share: The members of this process.
        epoch: The epoch.
        rejected: Reasons for rejecting states, by place. Those of this epoch are added, from all
            processes.
        record: Called after states were rejected, before a part or the epoch is complete.

    Returns:
        The number of values that were rounded.

    Raises:
        ZoojaxError: In every process, if one of them fails or rejects a state in strict mode.
    """
    if not distributed.is_distributed():
        size = sum(leaf.nbytes for leaf in leaves_of(missing_state(share.info)))
        split = choose_parts(len(share.sources), size)
        if len(split.slices) > 1:
            return _append_parts(writer, share, epoch, split, rejected, record)
    return _append_whole(writer, share, epoch, rejected, record)


def _append_parts(
    writer: ZooWriter,
    share: LocalShare,
    epoch: int,
    split: Parts,
    rejected: dict[str, str],
    record: Callable[[dict[str, str]], None],
) -> int:
    """Converts the epoch part by part; see `append_epoch`."""
    rounded = 0

    def make(rows: slice) -> dict[str, Any]:
        nonlocal rounded
        converted = convert_states(share, epoch, rows)
        # Written first: a complete part has them.
        part = rows.start // split.rows
        originals.write(writer.zoo.path, epoch, part, converted.originals)
        if converted.rejected:
            rejected.update(converted.rejected)
            record(rejected)
        rounded += converted.rounded
        return converted.state

    def measure(rows: slice, state: dict[str, Any]) -> pl.DataFrame:
        # Valid states are finite, and those of members without one are NaN.
        smallest = min(leaves_of(state["params"]), key=lambda leaf: leaf.size)
        valid = np.all(np.isfinite(smallest).reshape(len(smallest), -1), axis=1)
        return _measure(share, epoch, rows, state, valid)

    append_parts(writer, epoch, split, make, measure)
    return rounded


def _append_whole(
    writer: ZooWriter,
    share: LocalShare,
    epoch: int,
    rejected: dict[str, str],
    record: Callable[[dict[str, str]], None],
) -> int:
    """Converts the epoch at once, in all processes; see `append_epoch`."""
    failure, converted, every = None, None, slice(0, len(share.sources))
    try:
        converted = convert_states(share, epoch, every)
    except ZoojaxError as error:
        failure = error
    distributed.raise_if_any_failed(failure)
    assert converted is not None
    count = int(converted.valid.sum())
    message = json.dumps([count, converted.rejected, converted.rounded]).encode()
    counts, reasons, rounded = zip(
        *map(json.loads, distributed.all_gather_bytes(message)), strict=True
    )
    if any(counts):
        process = distributed.process_index()
        # Written first: a visible epoch is complete.
        failure = _failure_of(
            lambda: originals.write(writer.zoo.path, epoch, process, converted.originals)
        )
        distributed.raise_if_any_failed(failure)
        metrics = _measure(share, epoch, every, converted.state, converted.valid)
        writer.append(epoch, converted.state, None, metrics)
    for part in reasons:
        rejected.update(part)
    record(rejected)
    return sum(rounded)


def _failure_of(write: Callable[[], None]) -> ZoojaxError | None:
    """Calls a function; returns the error that it raises."""
    try:
        write()
    except ZoojaxError as error:
        return error
    return None


def remaining_metrics(
    share: LocalShare, rejected: dict[str, str], schema: pl.Schema
) -> pl.DataFrame:
    """Metrics of all reported and selected epochs, with or without a state.

    Args:
        share: The members of this process.
        rejected: Reasons for rejecting states, by place. Metrics of states that were
            rejected by a filter are left out.
        schema: The schema of the zoo's metrics.
    """
    selected = share.selection.epochs
    epochs = None if selected is None else frozenset(selected)

    def is_selected(source: Source, epoch: int) -> bool:
        reason = rejected.get(source.places.get(epoch, ""), "")
        filtered = reason.startswith((TOO_LARGE, INACCURATE))
        return not filtered and (epochs is None or epoch in epochs)

    task = share.config.shape.task
    return measurements.reported_metrics(
        share.sources, share.ids, share.units, is_selected, schema, task
    )


def _measure(
    share: LocalShare, epoch: int, rows: slice, state: dict[str, Any], valid: np.ndarray
) -> pl.DataFrame:
    """Metrics of the members of some rows that have a valid state."""
    metrics = measurements.state_metrics(
        share.sources[rows], share.ids[rows], share.units, epoch, share.config, state
    )
    return metrics.filter(pl.Series(valid))
