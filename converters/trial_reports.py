"""Reads the config and the reports of a trial folder: params.json, result.json, progress.csv."""

import csv
import io
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoojax.converters.dialects.base import listed
from zoojax.converters.reported import (
    EPOCH_KEYS,
    MAX_EPOCH,
    Row,
    is_reported,
    parse_integer,
    parse_row,
)
from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import MIB, NotFoundError, read_bytes

_MAX_PARAMS_BYTES, _MAX_ROWS_BYTES = 16 * MIB, 64 * MIB
# More than any training reports; the metrics table of a zoo is bounded as well.
_MAX_ROWS = 20_000


@dataclass
class Trial:
    """One trial folder.

    Attributes:
        path: The folder.
        name: Its name in printable characters; twins refer to their dense member by it.
        config: The content of params.json, else the config in result.json, else empty.
        rows: Reported metrics by epoch: the last report of each.
        checkpoints: The files of the states by epoch.
        skipped: Reasons, by place, why entries that look like states are not used.
        notes: Notes for the members table. They are part of the zoo's fingerprint: with other
            words, the same files would convert to another zoo.
        folders: Epochs by the name of the checkpoint folder, as rows report them.
        epoch_column: Where the epochs of the rows are: "training_iteration of result.json".
    """

    path: Path
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)
    checkpoints: dict[int, Path] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    folders: dict[str, int] = field(default_factory=dict)
    epoch_column: str = ""


def is_link(path: Path) -> bool:
    """Whether a path is a link. Never raises."""
    try:
        return path.is_symlink()
    except OSError:  # In a folder that cannot be read.
        return False


def is_inside(path: str | Path, home: str) -> bool:
    """Whether a path, links resolved, is within a resolved folder."""
    return Path(os.path.realpath(path)).is_relative_to(home)


def _read_file(trial: Trial, name: str, home: str, limit: int) -> bytes:
    """The bytes of a file in a trial folder.

    Raises:
        NotFoundError: If there is no such file.
        ZoojaxError: If it is not a regular file, too large, or a link out of the zoo.
    """
    file = trial.path / name
    if is_link(file) and not is_inside(file, home):
        raise ZoojaxError(f"{name} leads out of the zoo")
    return read_bytes(file, limit)


def read_config(trial: Trial, home: str, reported_config: dict[str, Any]) -> dict[str, Any]:
    """The content of params.json, or the config in the reports if it cannot be read."""
    try:
        config = json.loads(_read_file(trial, "params.json", home, _MAX_PARAMS_BYTES).decode())
        if isinstance(config, dict):
            differing = [
                k for k in config.keys() & reported_config if config[k] != reported_config[k]
            ]
            if differing:
                trial.notes.append(
                    f"params.json and its reports differ in {listed(differing)}, params.json counts"
                )
            return config
        trial.notes.append("params.json is not an object")
    except NotFoundError:
        pass
    except (ValueError, RecursionError, ZoojaxError):
        trial.notes.append("params.json is unreadable")
    return reported_config


def read_reports(trial: Trial, home: str) -> dict[str, Any]:
    """Fills in the rows of a trial and returns the last config in its reports, else {}."""
    try:
        content = _read_file(trial, "result.json", home, _MAX_ROWS_BYTES).decode(errors="replace")
    except NotFoundError:
        return _read_csv_reports(trial, home)
    except ZoojaxError:
        trial.notes.append("result.json is unreadable")
        return _read_csv_reports(trial, home)
    config: dict[str, Any] = {}

    def reports() -> Iterator[Mapping[str, Any]]:
        nonlocal config
        for line in content.split("\n"):
            if not line.strip():
                continue
            try:
                report = json.loads(line)
            except (ValueError, RecursionError):
                report = None
            if not isinstance(report, dict):
                report = {}
            if isinstance(report.get("config"), dict):
                config = report["config"]
            if "checkpoint_dir_name" in report:
                _note_folder(trial, report)
            yield report

    _set_rows(trial, "result.json", reports())
    return config


def _note_folder(trial: Trial, report: Mapping[str, Any]) -> None:
    """Notes the checkpoint folder that a row of Ray 2 names."""
    name, epoch = report.get("checkpoint_dir_name"), report.get(EPOCH_KEYS[0])
    number = parse_integer(epoch, MAX_EPOCH)
    if isinstance(name, str) and number is not None and len(trial.folders) < _MAX_ROWS:
        trial.folders[name] = number


def _read_csv_reports(trial: Trial, home: str) -> dict[str, Any]:
    """Fills in the rows from progress.csv, which has no config."""
    try:
        content = _read_file(trial, "progress.csv", home, _MAX_ROWS_BYTES).decode(errors="replace")
    except NotFoundError:
        trial.notes.append("no result.json and no progress.csv")
        return {}
    except ZoojaxError:
        trial.notes.append("progress.csv is unreadable")
        return {}

    def reports() -> Iterator[Mapping[str, Any]]:
        lines = csv.reader(io.StringIO(content, newline=""))
        try:
            # Only known columns: there may be millions.
            columns = {
                name: index for index, name in enumerate(next(lines, [])) if is_reported(name)
            }
            for line in lines:
                yield {name: line[i] for name, i in columns.items() if i < len(line)}
        except csv.Error:
            trial.notes.append("progress.csv is unreadable from some line on")

    _set_rows(trial, "progress.csv", reports())
    return {}


def _set_rows(trial: Trial, name: str, reports: Iterable[Mapping[str, Any]]) -> None:
    """Fills in the rows of a trial by epoch.

    If an epoch is reported twice, as in a resumed trial, the last report counts. Lines without
    an epoch, such as one that a crash has truncated, are skipped.
    """
    parsed = [
        ([parse_integer(report.get(key), MAX_EPOCH) for key in EPOCH_KEYS], parse_row(report))
        for report in reports
    ]
    # The first key under which any report has an epoch.
    key = next((i for i in range(len(EPOCH_KEYS)) if any(e[i] is not None for e, _ in parsed)), 0)
    if parsed:
        trial.epoch_column = f"{EPOCH_KEYS[key]} of {name}"
    if key:
        trial.notes.append(f"{name} has no {EPOCH_KEYS[0]}: epochs are its {EPOCH_KEYS[key]}")
    broken = sum(epochs[key] is None for epochs, _ in parsed)
    if broken:
        trial.notes.append(f"{broken} broken line(s) in {name}")
    rows: dict[int, Row] = {}
    contradictions = 0
    for epochs, row in parsed:
        epoch = epochs[key]
        if epoch is not None:
            earlier = rows.get(epoch)
            # A resumed trial reports an epoch again; NaN differs from itself.
            contradictions += earlier is not None and repr(earlier) != repr(row)
            rows[epoch] = row
    if contradictions:
        trial.notes.append(
            f"{contradictions} epoch(s) in {name} reported twice with other values, the last counts"
        )
    if len(rows) > _MAX_ROWS:
        trial.notes.append(f"{name} has {len(rows)} epochs; {_MAX_ROWS} are kept")
    trial.rows = dict(itertools.islice(rows.items(), _MAX_ROWS))
