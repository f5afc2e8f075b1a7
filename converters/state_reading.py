"""Reads the states of one epoch and converts them to members, in batches where possible."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from zoojax.converters import originals
from zoojax.converters.batches import BatchState, StateBatch
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
from zoojax.runtime import population
from zoojax.storage.zoo_config import ZooConfig

# Prefixes of the reasons that filters give. A resumed conversion reads them from rejects.csv.
TOO_LARGE, INACCURATE = "its largest weight is", "its test accuracy is"
# States of a batch that are converted at once.
_READ_BYTES = 8 * 2**20


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


class Converted(NamedTuple):
    """One epoch of some members.

    Attributes:
        state: Stacked arrays, NaN for members without a valid state.
        valid: Whether each member has a valid state.
        rejected: Reasons for rejecting states, by place.
        originals: Records and kept arrays by member, of states in another dialect.
        rounded: Number of values that were rounded.
    """

    state: dict[str, Any]
    valid: np.ndarray
    rejected: dict[str, str]
    originals: dict[int, originals.Kept]
    rounded: int


def convert_states(share: LocalShare, epoch: int, rows: slice) -> Converted:
    """Reads one epoch of some members.

    Args:
        share: The members of this process.
        epoch: The epoch.
        rows: Rows of the members to read, within the share.

    Raises:
        ZoojaxError: If a state is rejected in strict mode.
    """
    sources, ids = share.sources[rows], share.ids[rows].to_list()
    stacked = _stacked(missing_state(share.info), len(sources))
    valid = np.zeros(len(sources), bool)
    rejected, kept, rounded = {}, {}, 0
    batched = _fill_batches(share, epoch, sources, stacked, valid, rejected)
    for i, (source, member) in enumerate(zip(sources, ids, strict=True)):
        if epoch not in source.states or i in batched:
            continue
        try:
            state, info = _read_state(source, epoch, share)
            _set_row(stacked, i, _check_member(state, info, source, epoch, share))
            valid[i] = True
        except (UnreadableFileError, UnknownNetworkError) as error:
            _reject(share, source, epoch, rejected, rejection_reason(error), error)
            continue
        if isinstance(state, ReadState):
            rounded += state.rounded
            original = _original(state, info, source, epoch)
            if original is not None:
                kept[member] = original
    return Converted(stacked, valid, rejected, kept, rounded)


def _reject(
    share: LocalShare,
    source: Source,
    epoch: int,
    rejected: dict[str, str],
    reason: str,
    cause: Exception | None = None,
) -> None:
    """Records the reason of a rejected state; in strict mode, raises it."""
    if share.selection.strict:
        raise ZoojaxError(f"{source.places[epoch]}: {reason}") from cause
    rejected[source.places[epoch]] = reason


def _fill_batches(
    share: LocalShare,
    epoch: int,
    sources: Sequence[Source],
    stacked: dict[str, Any],
    valid: np.ndarray,
    rejected: dict[str, str],
) -> set[int]:
    """Reads the states that are in batches of the zoo's network.

    Args:
        share: The members of this process.
        epoch: The epoch.
        sources: The sources of the rows of `stacked`.
        stacked: Stacked states; those of valid members are filled in.
        valid: Whether each member has a valid state, filled in.
        rejected: Reasons by place, filled in.

    Returns:
        Positions of the members whose states have been read.
    """
    batches: dict[StateBatch, list[int]] = {}
    for i, source in enumerate(sources):
        read = source.states.get(epoch)
        if isinstance(read, BatchState):
            batches.setdefault(read.batch, []).append(i)
    done: set[int] = set()
    for batch, members in batches.items():
        if batch.layout is None or signature(batch.layout.info) != signature(share.info):
            continue
        step = max(1, _READ_BYTES // (4 * batch.columns))
        for start in range(0, len(members), step):
            some = np.array(members[start : start + step])
            reads = [sources[i].states[epoch] for i in some]
            indices = np.array([each.index for each in reads if isinstance(each, BatchState)])
            arrays = batch.layout.members(batch.rows(indices))
            problems = _problems(arrays, [sources[i] for i in some], epoch, share)
            for position, reason in problems.items():
                _reject(share, sources[some[position]], epoch, rejected, reason)
            good = np.setdiff1d(np.arange(len(some)), list(problems))
            _set_row(stacked, some[good], population.take(arrays, good) if problems else arrays)
            valid[some[good]] = True
        done.update(members)
    return done


def _stacked(member: dict[str, Any], count: int) -> dict[str, Any]:
    """Stacks copies of a member."""
    return {
        name: _stacked(part, count)
        if isinstance(part, dict)
        else np.broadcast_to(part, (count, *np.shape(part))).copy()
        for name, part in member.items()
    }


def _set_row(stacked: dict[str, Any], rows: int | np.ndarray, state: dict[str, Any]) -> None:
    """Sets rows of stacked arrays."""
    for name, part in state.items():
        if isinstance(part, dict):
            _set_row(stacked[name], rows, part)
        else:
            stacked[name][rows] = part


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
    problems = _problems(population.stack([member]), [source], epoch, share)
    if problems:
        raise UnknownNetworkError(problems[0])
    return member


def _problems(
    stacked: dict[str, Any], sources: Sequence[Source], epoch: int, share: LocalShare
) -> dict[int, str]:
    """Reasons to reject states by position: values that are not finite, and the filters."""
    selection = share.selection
    used = {name: part for name, part in stacked.items() if name != "unused"}
    finite = np.logical_and.reduce([_rowwise(np.all, np.isfinite(x)) for x in leaves_of(used)])
    problems = dict.fromkeys(np.flatnonzero(~finite).tolist(), "one of its values is not finite")
    if selection.max_abs_weight is not None:
        leaves = leaves_of(stacked["params"])
        largest = np.maximum.reduce([_rowwise(np.max, np.abs(x)) for x in leaves])
        for i in np.flatnonzero(largest > selection.max_abs_weight).tolist():
            problems.setdefault(i, f"{TOO_LARGE} {float(largest[i]):g}")
    minimum = selection.min_accuracy
    for i, source in enumerate(sources if minimum is not None else ()):
        accuracy = share.units.value(source.rows.get(epoch, {}), "test_acc")
        # Also rejects NaN, an unknown accuracy.
        if minimum is not None and not accuracy >= minimum:
            problems.setdefault(i, f"{INACCURATE} {accuracy:g}")
    return problems


def _rowwise(reduce: Callable[..., np.ndarray], stacked: np.ndarray) -> np.ndarray:
    """Reduces an array by member, [members, ...] -> [members]."""
    return reduce(stacked.reshape(len(stacked), -1), axis=1)


def leaves_of(tree: dict[str, Any]) -> list[np.ndarray]:
    """Lists the arrays of a nested dict."""
    return [v for x in tree.values() for v in (leaves_of(x) if isinstance(x, dict) else [x])]
