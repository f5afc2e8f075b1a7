"""A torch zoo, trial folders or a pickled data set, made a zoojax zoo: epoch by epoch,
in memory bounded by one epoch of the population, resumed where it was interrupted."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from zoojax.api.common import versions
from zoojax.architectures.base import Architecture
from zoojax.converters import layout, measurements, rejects
from zoojax.converters.members import Selection, members_table, said_ratio, wanted_epochs
from zoojax.converters.reported import Reports, whole
from zoojax.converters.safe_load import UnreadableFileError
from zoojax.converters.sources import Source
from zoojax.converters.state_dicts import (
    StateDictInfo,
    UnknownNetworkError,
    infer_network,
    to_member,
)
from zoojax.datasets.specs import DataSpec, ImageSet
from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import atomic_rmtree
from zoojax.runtime import distributed, population
from zoojax.storage.writer import ZooWriter, create_or_resume
from zoojax.storage.zoo import Zoo, parent_of
from zoojax.storage.zoo_config import Parent, ZooConfig

REJECTS = rejects.NAME
# Members a device evaluates at once: few enough for a laptop's memory. Nothing is trained
# here, and twins choose a chunk of their own.
_CHUNK = 16

_BATCH_SIZE, _LARGEST_BATCH = 10, 10**8
# What a metrics table may hold.
_MOST_ROWS = 10_000_000
# Beginnings of the reasons that the user's own filters give.
_LARGE, _INACCURATE = "its largest weight is", "its test accuracy is"


@dataclass(frozen=True)
class Conversion:
    """What came of a conversion.

    Attributes:
        zoo: the zoo.
        states: states converted.
        rejected: reasons by place, of states that were not.
        notes: what the user should know of it, a sentence each.
    """

    zoo: Zoo
    states: int
    rejected: dict[str, str]
    notes: tuple[str, ...] = ()


def convert(
    sources: Sequence[Source],
    out: Path,
    *,
    name: str,
    images: tuple[DataSpec | None, ImageSet] | None = None,
    parent: Zoo | None = None,
    preset: str | None = None,
    defaults: dict[str, Any] | None = None,
    selection: Selection | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Conversion:
    """Converts members to a zoo.

    Args:
        sources: the members to be.
        out: the zoo's folder: new, or of the same conversion interrupted.
        name: the zoo's name.
        images: the zoo's image set; with its spec, or with None to keep it in the zoo.
        parent: the dense zoo, of twins.
        preset: the preset that the zoo is of, for the learning rates of its twins.
        defaults: hyper-parameters for members that say nothing of theirs.
        selection: which members and states.
        report: called with the states done and their number.

    Raises:
        ZoojaxError: nothing to convert; hyper-parameters that nothing gives; twins of
            another zoo; the first rejected state, if strict; every state is rejected, and
            no zoo is kept; the disk is full or not writable.
    """
    selection = selection or Selection()
    chosen = _describe_all(sources, selection)
    reports = Reports.of(row for source in chosen.sources for row in source.rows.values())
    notes = reports.summary()
    members = members_table(
        chosen.sources, chosen.common, parent, defaults or {}, selection, reports
    )
    kept = [chosen.sources[i] for i in members["source"]]
    members = members.drop("source")
    wanted = sorted({e for s in kept for e in s.states} & wanted_epochs(kept, selection))
    if not wanted:
        raise ZoojaxError("none of the epochs asked for is there")
    if sum(len(source.rows) for source in kept) > _MOST_ROWS:
        raise ZoojaxError(
            f"more than {_MOST_ROWS} rows of metrics; convert fewer members with --where"
        )
    net = chosen.common.architecture
    spec, image_set = images if images is not None else (None, None)
    if spec is None and image_set is not None and not _fit(image_set, net):
        notes.append(f"{image_set.name} holds no images of the {net.name} CNN and is left out")
        image_set = None
    config = replace(
        _config(chosen.common, kept),
        name=name,
        data=spec,
        data_hash=None if image_set is None else image_set.hash,
        epochs=wanted[-1],
        preset=preset,
        parent=_parent(out, parent),
    )
    own = image_set if spec is None else None
    with create_or_resume(out, config, members, own) as writer:
        ids = members["id"][writer.rows]
        mine = _Share(kept[writer.rows], ids, chosen.common, selection, reports)
        known = rejects.read(out / REJECTS)
        rejected = (known or {}) | chosen.rejected
        # What is there is what the first process sees: all must do the same.
        there = json.loads(distributed.all_gather_bytes(json.dumps(writer.zoo.epochs).encode())[0])
        for done, epoch in enumerate(wanted, 1):
            if epoch not in there:
                rejected |= _add_epoch(writer, mine, epoch)
                known = _write_rejects(out / REJECTS, rejected, known)
            if report is not None:
                report(done * len(kept), len(wanted) * len(kept))
        if not writer.zoo.epochs:
            with distributed.main_process_first() as first:
                if first:
                    atomic_rmtree(out)
            raise ZoojaxError(f"every state is rejected, no zoo is kept: {_listed(rejected)}")
        _write_rejects(out / REJECTS, rejected, known)
        writer.record_metrics(_without_states(mine, rejected, writer.zoo.metrics_history.schema))
    return Conversion(writer.zoo, len(writer.zoo.metrics), rejected, tuple(notes))


def _write_rejects(
    file: Path, rejected: dict[str, str], known: dict[str, str] | None
) -> dict[str, str]:
    """Writes reasons unless the file is known to hold them; returns them. One process writes."""
    if distributed.process_index() == 0 and rejected != known:
        rejects.write(file, rejected)
    return dict(rejected)


def _listed(rejected: dict[str, str]) -> str:
    """Reasons with how often each was given, and the first place."""
    counts = Counter(rejected.values()).most_common(3)
    place = min(rejected)
    return ", ".join(f"{n} x {reason}" for reason, n in counts) + f"; the first is {place}"


def _fit(images: ImageSet, net: Architecture) -> bool:
    shape = (net.size, net.size, net.channels)
    return all(
        part.images.shape[1:] == shape and part.labels.max(initial=0) < net.classes
        for part in (images.train, images.val, images.test)
    )


def _config(common: StateDictInfo, sources: Sequence[Source]) -> ZooConfig:
    """What a zoo's config says of its network and training, before it has a name or epochs."""
    net = common.architecture
    return ZooConfig(
        name="",
        kind=common.kind,
        architecture=net.name,
        channels=net.channels,
        classes=net.classes,
        data=None,
        data_hash=None,
        epochs=0,
        batch_size=_batch_size(sources),
        data_order="member",
        chunk=_CHUNK,
        scope="global" if common.kind == "mp" else None,
        variant=common.variant,
        versions=versions(),
    )


def _batch_size(sources: Sequence[Source]) -> int:
    """The first that a trial says."""
    for source in sources:
        said = whole(source.config.get("training::batchsize"), _LARGEST_BATCH)
        if said:
            return said
    return _BATCH_SIZE


class _Share(NamedTuple):
    """What a process converts: its sources and their members' ids, of what network."""

    sources: list[Source]
    ids: pl.Series
    common: StateDictInfo
    selection: Selection
    reports: Reports


def _add_epoch(writer: ZooWriter, mine: _Share, epoch: int) -> dict[str, str]:
    """Converts an epoch, if any member has it; reasons for the states that are rejected."""
    failure, converted = None, None
    try:
        converted = _epoch(mine, epoch)
    except ZoojaxError as error:
        failure = error
    distributed.raise_if_any_failed(failure)
    assert converted is not None
    state, metrics, refused = converted
    told = distributed.all_gather_bytes(json.dumps([len(metrics), refused]).encode())
    counts, reasons = zip(*map(json.loads, told), strict=True)
    if any(counts):
        writer.append(epoch, state, None, metrics)
    return {place: reason for some in reasons for place, reason in some.items()}


@dataclass(frozen=True)
class _Described:
    sources: list[Source]
    common: StateDictInfo
    rejected: dict[str, str]


def _describe_all(sources: Sequence[Source], selection: Selection) -> _Described:
    """The sources that are of the commonest network and kind; the others are rejected."""
    found: list[tuple[Source, StateDictInfo]] = []
    rejected = {}
    for source in sources:
        description = None
        reasons = {}
        rejected |= source.skipped
        for epoch in sorted(source.states, reverse=True):
            try:
                description = _look_at(source, epoch)
                break
            except (UnreadableFileError, UnknownNetworkError) as error:
                reasons[source.places[epoch]] = _reason(error)
        if description is None:
            rejected |= reasons
        else:
            found.append((source, description))
    if not found:
        place, reason = next(iter(rejected.items()))
        raise ZoojaxError(f"no state can be converted; the first, {place}: {reason}")
    kinds = Counter(_what(d) for _, d in found)
    common = next(d for _, d in found if _what(d) == kinds.most_common(1)[0][0])
    for source, description in found:
        if _what(description) != _what(common):
            reason = f"{_label(description)}, where the zoo's is a {_label(common)}"
            rejected |= dict.fromkeys(source.places.values(), reason)
    if selection.strict and rejected:
        raise ZoojaxError("{}: {}".format(*next(iter(rejected.items()))))
    kept = [source for source, d in found if _what(d) == _what(common)]
    return _Described(kept, common, rejected)


def _look_at(source: Source, epoch: int) -> StateDictInfo:
    """Describes a member by one of its states.

    Raises:
        UnreadableFileError: the file is not read.
        UnknownNetworkError: it is of no known network, or nothing gives its pruning ratio.
    """
    state = source.states[epoch]()
    description = infer_network(state)
    if description.kind == "mp":
        masks = [state[f"{prefix}.weight_mask"] for prefix in description.prefixes]
        pruned = 1 - sum(float((m != 0).sum()) for m in masks) / sum(m.size for m in masks)
        if pruned == 1 and said_ratio(source) is None:
            raise UnknownNetworkError("its masks leave no weight, and it says no prune::amount")
        source.pruned = pruned
    source.layers = description.prefixes
    return description


def _what(description: StateDictInfo) -> tuple:
    """All of a description but the names of its layers, which may differ within a zoo."""
    return description.architecture, description.kind, description.variant


def _label(description: StateDictInfo) -> str:
    net = description.architecture
    kind = {"dense": "dense", "mp": "pruned", "vd": "variational"}[description.kind]
    return f"{kind} {net.name} CNN, {net.channels} channel(s), {net.classes} classes"


def _parent(out: Path, parent: Zoo | None) -> Parent | None:
    if parent is None:
        return None
    return parent_of(parent, parent.newest_epoch, out)


def _epoch(mine: _Share, epoch: int) -> tuple[dict[str, Any], pl.DataFrame, dict[str, str]]:
    """One epoch of the population: stacked arrays, NaN where a member has no state; metrics
    of those that have; reasons for those rejected."""
    blank = _blank(mine.common)
    found: list[dict[str, Any]] = []
    rejected = {}
    for source in mine.sources:
        found.append(blank)
        if epoch not in source.states:
            continue
        try:
            found[-1] = _state(source, epoch, mine)
        except (UnreadableFileError, UnknownNetworkError) as error:
            reason = _reason(error)
            if mine.selection.strict:
                raise ZoojaxError(f"{source.places[epoch]}: {reason}") from error
            rejected[source.places[epoch]] = reason
    stacked = population.stack(found)
    there = np.array([state is not blank for state in found])
    metrics = measurements.of_states(mine.sources, mine.ids, mine.reports, epoch, stacked)
    return stacked, metrics.filter(pl.Series(there)), rejected


def _without_states(mine: _Share, rejected: dict[str, str], schema: pl.Schema) -> pl.DataFrame:
    """Metrics of all epochs that were reported and are selected, with a state or without.

    Those of states that the user's own filters reject are left out.
    """
    selected = mine.selection.epochs
    epochs = None if selected is None else frozenset(selected)

    def is_wanted(source: Source, epoch: int) -> bool:
        reason = rejected.get(source.places.get(epoch, ""), "")
        filtered = reason.startswith((_LARGE, _INACCURATE))
        return not filtered and (epochs is None or epoch in epochs)

    return measurements.reported(mine.sources, mine.ids, mine.reports, is_wanted, schema)


def _state(source: Source, epoch: int, mine: _Share) -> dict[str, Any]:
    common, selection = mine.common, mine.selection
    state = source.states[epoch]()
    description = infer_network(state)
    if _what(description) != _what(common):
        raise UnknownNetworkError(f"{_label(description)}, not {_label(common)}")
    member = to_member(state, description)
    values = [v for k in ("params", "log_sigma2") for v in _leaves(member.get(k, {}))]
    if not all(np.isfinite(v).all() for v in values):
        raise UnknownNetworkError("a number in it is not finite")
    largest = max(float(np.abs(v).max()) for v in _leaves(member["params"]))
    if selection.largest_weight is not None and largest > selection.largest_weight:
        raise UnknownNetworkError(f"{_LARGE} {largest:g}")
    accuracy = mine.reports.value(source.rows.get(epoch, {}), "test_acc")
    lowest = selection.lowest_accuracy
    if lowest is not None and not accuracy >= lowest:
        raise UnknownNetworkError(f"{_INACCURATE} {accuracy:g}")
    return member


def _blank(common: StateDictInfo) -> dict[str, Any]:
    """A member without a state: NaN, nothing masked."""
    shapes = layout.torch_shapes(common.architecture)
    zeros = {}
    for layer, prefix in zip(shapes, common.prefixes, strict=True):
        shape = shapes[layer]
        names = {"dense": ["weight"], "mp": ["weight_orig"], "vd": ["weight", "log_sigma2"]}
        zeros |= {f"{prefix}.{n}": np.full(shape, np.nan, np.float32) for n in names[common.kind]}
        zeros[f"{prefix}.bias"] = np.full(shape[:1], np.nan, np.float32)
        if common.kind == "mp":
            zeros[f"{prefix}.weight_mask"] = np.ones(shape, np.float32)
        if common.variant == "released":
            zeros[f"{prefix}.log_sigma2_bias"] = np.full(shape[:1], np.nan, np.float32)
    return to_member(zeros, common)


def _leaves(tree: dict[str, Any]) -> list[np.ndarray]:
    return [v for x in tree.values() for v in (_leaves(x) if isinstance(x, dict) else [x])]


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, UnreadableFileError) else str(error)
