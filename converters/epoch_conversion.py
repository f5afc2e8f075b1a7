"""Converts one epoch of all members that this process holds."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from zoojax.converters import measurements, originals
from zoojax.converters.common_network import describe, rejection_reason, signature
from zoojax.converters.dialects.base import ReadState
from zoojax.converters.dialects.chain import is_plain, with_file
from zoojax.converters.members import Selection
from zoojax.converters.reported import MetricUnits
from zoojax.converters.safe_load import UnreadableFileError
from zoojax.converters.sources import Source
from zoojax.converters.state_dicts import (
    State,
    StateDictInfo,
    UnknownNetworkError,
    infer_network,
    missing_state,
    to_member,
)
from zoojax.errors import ZoojaxError
from zoojax.runtime import distributed, population
from zoojax.storage.writer import ZooWriter
from zoojax.storage.zoo_config import ZooConfig

# Prefixes of the reasons that filters give. A resumed conversion reads them from rejects.csv.
_TOO_LARGE, _INACCURATE = "its largest weight is", "its test accuracy is"


@dataclass(frozen=True)
class LocalShare:
    """The members that this process converts.

    Attributes:
        sources: Their sources.
        ids: Their ids.
        info: The network and sparsifier of the members.
        config: The config of the zoo.
        selection: The filters for states.
        units: The units of the reported metrics.
    """

    sources: list[Source]
    ids: pl.Series
    info: StateDictInfo
    config: ZooConfig
    selection: Selection
    units: MetricUnits


def append_epoch(writer: ZooWriter, share: LocalShare, epoch: int) -> tuple[dict[str, str], int]:
    """Converts one epoch and appends it to the zoo, if any member has a valid state.

    All processes call this together.

    Args:
        writer: The zoo.
        share: The members of this process.
        epoch: The epoch.

    Returns:
        Reasons by place, of the states that any process has rejected; and the number of values
        that were rounded.

    Raises:
        ZoojaxError: In every process, if one of them fails or rejects a state in strict mode.
    """
    failure, converted = None, None
    try:
        converted = _convert(share, epoch)
    except ZoojaxError as error:
        failure = error
    distributed.raise_if_any_failed(failure)
    assert converted is not None
    message = json.dumps([len(converted.metrics), converted.rejected, converted.rounded]).encode()
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
        writer.append(epoch, converted.state, None, converted.metrics)
    return {p: reason for part in reasons for p, reason in part.items()}, sum(rounded)


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
        rejected: Reasons by place, of all rejected states. Metrics of states that were
            rejected by a filter are left out.
        schema: The schema of the zoo's metrics.
    """
    selected = share.selection.epochs
    epochs = None if selected is None else frozenset(selected)

    def is_selected(source: Source, epoch: int) -> bool:
        reason = rejected.get(source.places.get(epoch, ""), "")
        filtered = reason.startswith((_TOO_LARGE, _INACCURATE))
        return not filtered and (epochs is None or epoch in epochs)

    task = share.config.shape.task
    return measurements.reported_metrics(
        share.sources, share.ids, share.units, is_selected, schema, task
    )


class _Epoch(NamedTuple):
    """One epoch of all members that this process holds.

    Attributes:
        state: Stacked arrays, NaN for members without a valid state.
        metrics: Metrics of the members with one.
        rejected: Reasons by place, of the states that are rejected.
        originals: Records and kept arrays by member, of states in another dialect.
        rounded: Number of values that were rounded.
    """

    state: dict[str, Any]
    metrics: pl.DataFrame
    rejected: dict[str, str]
    originals: dict[int, originals.Kept]
    rounded: int


def _convert(share: LocalShare, epoch: int) -> _Epoch:
    """Reads one epoch of all members."""
    missing = missing_state(share.info)
    states: list[dict[str, Any]] = []
    rejected, kept, rounded = {}, {}, 0
    for source, member in zip(share.sources, share.ids.to_list(), strict=True):
        states.append(missing)
        if epoch not in source.states:
            continue
        try:
            state, info = _read_state(source, epoch, share)
            states[-1] = _check_member(state, info, source, epoch, share)
        except (UnreadableFileError, UnknownNetworkError) as error:
            reason = rejection_reason(error)
            if share.selection.strict:
                raise ZoojaxError(f"{source.places[epoch]}: {reason}") from error
            rejected[source.places[epoch]] = reason
            continue
        if isinstance(state, ReadState):
            rounded += state.rounded
            original = _original(state, info, source, epoch)
            if original is not None:
                kept[member] = original
    stacked = population.stack(states)
    valid = np.array([state is not missing for state in states])
    metrics = measurements.state_metrics(
        share.sources, share.ids, share.units, epoch, share.config, stacked
    )
    return _Epoch(stacked, metrics.filter(pl.Series(valid)), rejected, kept, rounded)


def _original(
    state: ReadState, info: StateDictInfo, source: Source, epoch: int
) -> originals.Kept | None:
    """What restores the original dialect of a state; None if it was plain."""
    order = (f"{layer.prefix}.{each.name}" for layer, tensors in info.tensors for each in tensors)
    records = state.records
    start, place = source.folder, source.places[epoch]
    start = f"{source.name}/" if start is None else start
    usual = place.endswith(f"/checkpoint_{epoch:06d}/checkpoints")
    if usual and is_plain(records, order):
        return None
    if not usual and place.startswith(start):
        records = with_file(records, place.removeprefix(start))
    return records, state.kept


def _read_state(source: Source, epoch: int, share: LocalShare) -> tuple[State, StateDictInfo]:
    """Reads one state of a member.

    Raises:
        UnreadableFileError: If the file cannot be read safely.
        UnknownNetworkError: If the state is not of the zoo's network.
    """
    state = source.states[epoch]()
    info = infer_network(state)
    if signature(info) != signature(share.info):
        raise UnknownNetworkError(f"{describe(info)}, not {describe(share.info)}")
    if isinstance(state, ReadState):
        source.learn(epoch, state.stored)
    return state, info


def _check_member(
    state: State, info: StateDictInfo, source: Source, epoch: int, share: LocalShare
) -> dict[str, Any]:
    """Converts a state to a member and applies the filters.

    Raises:
        UnknownNetworkError: If the state is not finite, or does not pass a filter.
    """
    member = to_member(state, info)
    used = {name: part for name, part in member.items() if name != "unused"}
    if not all(np.isfinite(leaf).all() for leaf in _leaves(used)):
        raise UnknownNetworkError("one of its values is not finite")
    maximum = max(float(np.abs(leaf).max()) for leaf in _leaves(member["params"]))
    limit = share.selection.max_abs_weight
    if limit is not None and maximum > limit:
        raise UnknownNetworkError(f"{_TOO_LARGE} {maximum:g}")
    accuracy = share.units.value(source.rows.get(epoch, {}), "test_acc")
    minimum = share.selection.min_accuracy
    # Also rejects NaN, an unknown accuracy.
    if minimum is not None and not accuracy >= minimum:
        raise UnknownNetworkError(f"{_INACCURATE} {accuracy:g}")
    return member


def _leaves(tree: dict[str, Any]) -> list[np.ndarray]:
    return [v for x in tree.values() for v in (_leaves(x) if isinstance(x, dict) else [x])]
