"""Converts one epoch of all members that this process holds."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from zoojax.converters import measurements
from zoojax.converters.common_network import describe, rejection_reason, signature
from zoojax.converters.members import Selection
from zoojax.converters.reported import MetricUnits
from zoojax.converters.safe_load import UnreadableFileError
from zoojax.converters.sources import Source
from zoojax.converters.state_dicts import (
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


def append_epoch(writer: ZooWriter, share: LocalShare, epoch: int) -> dict[str, str]:
    """Converts one epoch and appends it to the zoo, if any member has a valid state.

    All processes call this together.

    Args:
        writer: The zoo.
        share: The members of this process.
        epoch: The epoch.

    Returns:
        Reasons by place, of the states that any process has rejected.

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
    state, metrics, rejected = converted
    message = json.dumps([len(metrics), rejected]).encode()
    counts, reasons = zip(*map(json.loads, distributed.all_gather_bytes(message)), strict=True)
    if any(counts):
        writer.append(epoch, state, None, metrics)
    return {place: reason for part in reasons for place, reason in part.items()}


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

    return measurements.reported_metrics(share.sources, share.ids, share.units, is_selected, schema)


def _convert(share: LocalShare, epoch: int) -> tuple[dict[str, Any], pl.DataFrame, dict[str, str]]:
    """Reads one epoch of all members.

    Returns:
        Stacked arrays, NaN for members without a valid state; metrics of the others; reasons
        by place, of the states that are rejected.
    """
    missing = missing_state(share.info)
    states: list[dict[str, Any]] = []
    rejected = {}
    for source in share.sources:
        states.append(missing)
        if epoch not in source.states:
            continue
        try:
            states[-1] = _read_member(source, epoch, share)
        except (UnreadableFileError, UnknownNetworkError) as error:
            reason = rejection_reason(error)
            if share.selection.strict:
                raise ZoojaxError(f"{source.places[epoch]}: {reason}") from error
            rejected[source.places[epoch]] = reason
    stacked = population.stack(states)
    valid = np.array([state is not missing for state in states])
    metrics = measurements.state_metrics(
        share.sources, share.ids, share.units, epoch, share.config, stacked
    )
    return stacked, metrics.filter(pl.Series(valid)), rejected


def _read_member(source: Source, epoch: int, share: LocalShare) -> dict[str, Any]:
    """Reads one state of a member and applies the filters.

    Raises:
        UnreadableFileError: If the file cannot be read safely.
        UnknownNetworkError: If the state is not of the zoo's network, is not finite, or does
            not pass a filter.
    """
    state = source.states[epoch]()
    info = infer_network(state)
    if signature(info) != signature(share.info):
        raise UnknownNetworkError(f"{describe(info)}, not {describe(share.info)}")
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
