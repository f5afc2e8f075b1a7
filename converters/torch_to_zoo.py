"""A torch zoo, trial folders or a pickled data set, made a zoojax zoo: epoch by epoch,
in memory bounded by one epoch of the population, continued where it was interrupted."""

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import polars as pl

from converters import layout
from converters.roster import Selection, members_table, wanted_epochs
from converters.sources import Source
from converters.states import Description, NotAMember, describe, to_member
from converters.torch_checkpoints import Rejected
from zoojax import evaluate, population, processes
from zoojax.data import DataSpec, ImageSet
from zoojax.errors import ZoojaxError
from zoojax.files import write_beside
from zoojax.make import versions
from zoojax.variational_dropout import threshold
from zoojax.zoo import Zoo, masked, parent_of
from zoojax.zoo_config import Parent, ZooConfig
from zoojax.zoo_writer import ZooWriter, begin_or_continue

REJECTS = "rejects.csv"
# Members a device evaluates at once: few enough for a laptop's memory. Nothing is trained
# here, and twins choose a chunk of their own.
_CHUNK = 16

_sparsity = jax.jit(jax.vmap(evaluate.sparsity))
_REPORTED = ("train_loss", "train_acc", "val_loss", "val_acc", "test_loss", "test_acc")


@dataclass(frozen=True)
class Conversion:
    """What came of a conversion.

    Attributes:
        zoo: the zoo.
        states: states converted.
        rejected: reasons by place, of states that were not.
    """

    zoo: Zoo
    states: int
    rejected: dict[str, str]


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
        report: told the states done and their number.

    Raises:
        ZoojaxError: nothing to convert; hyper-parameters that nothing tells; twins of
            another zoo; the first rejected state, if strict; the disk refused.
    """
    selection = selection or Selection()
    chosen = _describe_all(sources, selection)
    members = members_table(chosen.sources, chosen.common, parent, defaults or {}, selection)
    kept = [chosen.sources[i] for i in members["source"]]
    members = members.drop("source")
    wanted = sorted({e for s in kept for e in s.states} & wanted_epochs(kept, selection))
    if not wanted:
        raise ZoojaxError("none of the epochs asked for is there")
    first = next((s.config for s in kept if s.config), {})
    spec, image_set = images if images is not None else (None, None)
    config = ZooConfig(
        name=name,
        kind=chosen.common.kind,
        architecture=chosen.common.architecture.name,
        channels=chosen.common.architecture.channels,
        classes=chosen.common.architecture.classes,
        data=spec,
        data_hash=None if image_set is None else image_set.hash,
        epochs=wanted[-1],
        batch_size=int(first.get("training::batchsize", 10)),
        data_order="member",
        chunk=_CHUNK,
        preset=preset,
        scope="global" if chosen.common.kind == "mp" else None,
        variant=chosen.common.variant,
        parent=_parent(out, parent),
        versions=versions(),
    )
    own = image_set if spec is None else None
    with begin_or_continue(out, config, members, own) as writer:
        mine = _Share(kept[writer.rows], members["id"][writer.rows], chosen.common, selection)
        rejected = _read_rejects(out / REJECTS) | chosen.rejected
        # What is there is what the first process sees: all must do the same.
        there = json.loads(processes.exchange(json.dumps(writer.zoo.epochs).encode())[0])
        for done, epoch in enumerate(wanted, 1):
            if epoch not in there:
                rejected |= _add_epoch(writer, mine, epoch)
                _write_rejects(out / REJECTS, rejected)
            if report is not None:
                report(done * len(kept), len(wanted) * len(kept))
        _write_rejects(out / REJECTS, rejected)
    return Conversion(writer.zoo, len(writer.zoo.metrics), rejected)


class _Share(NamedTuple):
    """What a process converts: its sources and their members' ids, of what network."""

    sources: list[Source]
    ids: pl.Series
    common: Description
    selection: Selection


def _add_epoch(writer: ZooWriter, mine: _Share, epoch: int) -> dict[str, str]:
    """Converts an epoch, if any member has it; reasons for the states that are rejected."""
    failure, converted = None, None
    try:
        converted = _epoch(mine, epoch)
    except ZoojaxError as error:
        failure = error
    processes.settle(failure)
    assert converted is not None
    state, metrics, refused = converted
    told = processes.exchange(json.dumps([len(metrics), refused]).encode())
    counts, reasons = zip(*map(json.loads, told), strict=True)
    if any(counts):
        writer.append(epoch, state, None, metrics)
    return {place: reason for some in reasons for place, reason in some.items()}


@dataclass(frozen=True)
class _Described:
    sources: list[Source]
    common: Description
    rejected: dict[str, str]


def _describe_all(sources: Sequence[Source], selection: Selection) -> _Described:
    """The sources that are of the commonest network and kind; the others are rejected."""
    found: list[tuple[Source, Description]] = []
    rejected = {}
    for source in sources:
        description = None
        reasons = {}
        for epoch in sorted(source.states, reverse=True):
            try:
                description = describe(source.states[epoch]())
                source.layers = description.prefixes
                break
            except (Rejected, NotAMember) as error:
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


def _what(description: Description) -> tuple:
    """All of a description but the names of its layers, which may differ within a zoo."""
    return description.architecture, description.kind, description.variant


def _label(description: Description) -> str:
    net = description.architecture
    kind = {"dense": "dense", "mp": "pruned", "vd": "variational"}[description.kind]
    return f"{kind} {net.name} CNN, {net.channels} channel(s), {net.classes} classes"


def _parent(out: Path, parent: Zoo | None) -> Parent | None:
    if parent is None:
        return None
    return parent_of(parent, parent.epochs[-1], out)


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
            found[-1] = _state(source, epoch, mine.common, mine.selection)
        except (Rejected, NotAMember) as error:
            reason = _reason(error)
            if mine.selection.strict:
                raise ZoojaxError(f"{source.places[epoch]}: {reason}") from error
            rejected[source.places[epoch]] = reason
    stacked = population.stack(found)
    there = np.array([state is not blank for state in found])
    return stacked, _metrics(mine.sources, mine.ids, epoch, stacked, there), rejected


def _state(source: Source, epoch: int, common: Description, selection: Selection) -> dict[str, Any]:
    state = source.states[epoch]()
    description = describe(state)
    if _what(description) != _what(common):
        raise NotAMember(f"{_label(description)}, not {_label(common)}")
    member = to_member(state, description)
    values = [v for k in ("params", "log_sigma2") for v in _leaves(member.get(k, {}))]
    if not all(np.isfinite(v).all() for v in values):
        raise NotAMember("a number in it is not finite")
    largest = max(float(np.abs(v).max()) for v in _leaves(member["params"]))
    if selection.largest_weight is not None and largest > selection.largest_weight:
        raise NotAMember(f"its largest weight is {largest:g}")
    accuracy = _number(source.rows.get(epoch, {}).get("test_acc"))
    lowest = selection.lowest_accuracy
    if lowest is not None and not accuracy >= lowest:
        raise NotAMember(f"its test accuracy is {accuracy:g}")
    return member


def _blank(common: Description) -> dict[str, Any]:
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


def _metrics(
    sources: list[Source], ids: pl.Series, epoch: int, state: dict[str, Any], there: np.ndarray
) -> pl.DataFrame:
    """Reported accuracies and losses, and sparsities counted from the states."""
    reported = [source.rows.get(epoch, {}) for source in sources]
    table = {
        name: np.array([_number(row.get(name)) for row in reported], np.float32)
        for name in _REPORTED
    }
    given = np.array([_number(row.get("ggap")) for row in reported], np.float32)
    own = table["train_acc"] - table["test_acc"]
    table["ggap"] = np.where(np.isnan(own), given, own)
    params = state["params"]
    if "mask" in state:
        params = masked(params, state["mask"])
    if "log_sigma2" in state:
        params = threshold(params, state["log_sigma2"])
    table |= jax.device_get(_sparsity(params))
    frame = pl.DataFrame(
        {
            "member": ids,
            "epoch": pl.Series([epoch] * len(ids), dtype=pl.Int64),
            **{name: pl.Series(values).fill_nan(None) for name, values in table.items()},
            "finite": pl.Series([True] * len(ids)),
        }
    )
    return frame.filter(pl.Series(there))


def _leaves(tree: dict[str, Any]) -> list[np.ndarray]:
    return [v for x in tree.values() for v in (_leaves(x) if isinstance(x, dict) else [x])]


def _number(value: object) -> float:
    """A reported number; NaN where there is none."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, Rejected) else str(error)


def _write_rejects(file: Path, rejected: dict[str, str]) -> None:
    if processes.index() != 0:
        return

    def write(path: Path) -> None:
        with path.open("w", newline="") as opened:
            rows = csv.writer(opened)
            rows.writerow(("state", "reason"))
            rows.writerows(sorted(rejected.items()))

    write_beside(file, write)


def _read_rejects(file: Path) -> dict[str, str]:
    if not file.exists():
        return {}
    with file.open(newline="") as opened:
        return {row["state"]: row["reason"] for row in csv.DictReader(opened)}
