"""Converts trial folders or a pickled dataset to a zoo.

Conversion proceeds epoch by epoch: its memory is bounded by one epoch of the population, and
an interrupted conversion resumes from the last complete epoch.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zoojax.api.common import explain_interrupt, versions
from zoojax.api.own_images import DEFAULT_STEPS
from zoojax.architectures.base import Architecture
from zoojax.converters import rejects
from zoojax.converters.common_network import find_common_network, image_channels
from zoojax.converters.epoch_conversion import append_epoch, remaining_metrics
from zoojax.converters.members import Defaults, Selection, members_table, selected_epochs
from zoojax.converters.remarks import count_remarks
from zoojax.converters.reported import MetricUnits, parse_integer
from zoojax.converters.sources import Source
from zoojax.converters.state_dicts import StateDictInfo
from zoojax.converters.state_reading import LocalShare
from zoojax.datasets.specs import DataSpec, ImageSet
from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import atomic_rmtree
from zoojax.runtime import distributed, population
from zoojax.storage.parent import parent_of
from zoojax.storage.writer import ZooWriter, create_or_resume
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_config import ZooConfig

REJECTS = rejects.NAME
# Members that a device evaluates at once: few enough for a laptop's memory. Nothing is trained
# here, and twins choose a chunk size of their own.
_CHUNK = 16
_DEFAULT_BATCH_SIZE, _MAX_BATCH_SIZE = 10, 10**8
_MAX_METRICS_ROWS = 10_000_000

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion.

    Attributes:
        zoo: The zoo.
        states: The number of converted states.
        rejected: Reasons for rejecting states, by place.
        notes: Remarks for the user, one sentence each.
    """

    zoo: Zoo
    states: int
    rejected: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def remarks(self) -> dict[str, int]:
        """Counts of what was left out, filled in or is unknown, by remark."""
        return count_remarks(self.zoo)


def convert(
    sources: Sequence[Source],
    out: Path,
    *,
    name: str,
    images: tuple[DataSpec | None, ImageSet] | None = None,
    parent: Zoo | None = None,
    preset: str | None = None,
    defaults: dict[str, Any] | None = None,
    assumed: dict[str, Any] | None = None,
    selection: Selection | None = None,
    report: Report | None = None,
) -> Conversion:
    """Converts members to a zoo, or resumes an interrupted conversion.

    Args:
        sources: The members to convert.
        out: The folder of the zoo: a new one, or that of the same conversion, interrupted.
        name: The name of the zoo.
        images: The image set of the zoo and its spec; without a spec, the zoo stores the
            images themselves.
        parent: The dense zoo, if the members are twins.
        preset: The preset of the zoo, which sets the learning rates of its twins.
        defaults: Hyperparameters for members that report none.
        assumed: Values of hyperparameters that `defaults` lack, too, used with a note; None if
            nothing may be assumed.
        selection: The members and states to convert; None for all.
        report: Progress callback, called with the number of states processed and their total.

    Raises:
        ZoojaxError: If there is nothing to convert; a hyperparameter is unknown; twins do not
            match the parent; a state is rejected in strict mode; every state is rejected, in
            which case no zoo is written; or writing fails.
    """
    selection = selection or Selection()
    network = find_common_network(sources, selection)
    units = MetricUnits.detect(row for s in network.sources for row in s.rows.values())
    values = Defaults(defaults or {}, assumed or {})
    members = members_table(network.sources, network.info, parent, values, selection, units)
    selected = [network.sources[i] for i in members["source"]]
    members = members.drop("source")
    epochs = _epochs(selected, selection)
    notes = [*network.notes, *units.summary()]
    spec, image_set = images if images is not None else (None, None)
    if image_set is not None and network.info.architecture.task.has_own_images:
        notes.append(f"{image_set.name} is left out: no file says which image a member learned")
        spec = image_set = None
    if spec is None and image_set is not None and not _fit(image_set, network.info.architecture):
        net = network.info.architecture.label
        notes.append(f"{image_set.name} does not fit the {net} and is left out")
        image_set = None
    config = replace(
        _network_config(network.info, selected),
        name=name,
        data=spec,
        data_hash=None if image_set is None else image_set.hash,
        epochs=epochs[-1],
        preset=preset,
        parent=None if parent is None else parent_of(parent, parent.newest_epoch, out),
    )
    own_images = image_set if spec is None else None
    with explain_interrupt(out), create_or_resume(out, config, members, own_images) as writer:
        ids = members["id"][writer.rows]
        share = LocalShare(selected[writer.rows], ids, network.info, config, selection, units)
        rejected, rounded = _write_epochs(
            writer, share, epochs, len(selected), network.rejected, report
        )
    if rounded:
        notes.append(f"{rounded} value(s) rounded from float64 to float32")
    return Conversion(writer.zoo, len(writer.zoo.metrics), rejected, tuple(notes))


def _write_epochs(
    writer: ZooWriter,
    share: LocalShare,
    epochs: Sequence[int],
    members: int,
    rejected: dict[str, str],
    report: Report | None,
) -> tuple[dict[str, str], int]:
    """Writes the epochs that the zoo does not have yet, rejects.csv, and remaining metrics.

    Returns:
        Reasons for rejecting states, by place, including those of an interrupted call; and the
        number of values that were rounded.
    """
    out = writer.zoo.path
    stored = rejects.read(out / REJECTS)
    rejected = (stored or {}) | rejected
    total_rounded = 0

    def record(reasons: dict[str, str]) -> None:
        nonlocal stored
        stored = _write_rejects(out / REJECTS, reasons, stored)

    # The first process decides which epochs exist: all processes must skip the same ones.
    message = json.dumps(writer.zoo.epochs).encode()
    existing = json.loads(distributed.all_gather_bytes(message)[0])
    for done, epoch in enumerate(epochs, 1):
        if epoch not in existing:
            total_rounded += append_epoch(writer, share, epoch, rejected, record)
        if report is not None:
            report(done * members, len(epochs) * members)
    if not writer.zoo.epochs:
        with distributed.main_process_first() as first:
            if first:
                atomic_rmtree(out)
        raise ZoojaxError(f"every state is rejected, no zoo is written: {_summary(rejected)}")
    _write_rejects(out / REJECTS, rejected, stored)
    writer.record_metrics(remaining_metrics(share, rejected, writer.zoo.metrics_history.schema))
    return rejected, total_rounded


def _write_rejects(
    file: Path, rejected: dict[str, str], stored: dict[str, str] | None
) -> dict[str, str]:
    """Writes the reasons in process 0, unless the file has them already; returns a copy."""
    if distributed.process_index() == 0 and rejected != stored:
        rejects.write(file, rejected)
    return dict(rejected)


def _summary(rejected: dict[str, str]) -> str:
    """The most common reasons with their counts, and the first place."""
    counts = Counter(rejected.values()).most_common(3)
    place = min(rejected)
    return ", ".join(f"{n} x {reason}" for reason, n in counts) + f"; the first is {place}"


def _epochs(sources: list[Source], selection: Selection) -> list[int]:
    """The epochs to convert, sorted.

    Raises:
        ZoojaxError: If there are none, or the metrics table would be too large.
    """
    epochs = selected_epochs(sources, selection)
    if not epochs:
        raise ZoojaxError("none of the requested epochs exists")
    if sum(len(source.rows) for source in sources) > _MAX_METRICS_ROWS:
        raise ZoojaxError(
            f"more than {_MAX_METRICS_ROWS} rows of metrics; convert fewer members with --where"
        )
    return sorted(epochs)


def _fit(images: ImageSet, net: Architecture) -> bool:
    """Whether a network can process all images and has a class for each label."""
    shape = (net.size, net.size, net.channels)
    return all(
        part.images.shape[1:] == shape and part.labels.max(initial=0) < net.classes
        for part in (images.train, images.val, images.test)
    )


def _network_config(info: StateDictInfo, sources: Sequence[Source]) -> ZooConfig:
    """The config of a zoo as far as its network and its members' training define it."""
    net, classes = info.architecture, info.architecture.classes
    if net.task.has_own_images:
        classes = 1 + max((s.label for s in sources if s.label is not None), default=0)
    return ZooConfig(
        name="",
        architecture=net.name,
        channels=image_channels(net),
        classes=classes,
        data=None,
        data_hash=None,
        epochs=0,
        batch_size=_batch_size(sources),
        # Files do not record the number of steps; twins are trained with the default.
        steps_per_epoch=DEFAULT_STEPS if net.task.has_own_images else None,
        data_order="member",
        chunk=min(_CHUNK, population.fitting_members(net.parameter_count)),
        sparsifier=info.sparsifier,
        versions=versions(),
    ).defined()


def _batch_size(sources: Sequence[Source]) -> int:
    """The batch size that the first trial with a valid one reports."""
    for source in sources:
        reported = parse_integer(source.config.get("training::batchsize"), _MAX_BATCH_SIZE)
        if reported:
            return reported
    return _DEFAULT_BATCH_SIZE
