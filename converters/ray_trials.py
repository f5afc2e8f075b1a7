"""Finds and reads the trial folders of Ray Tune 1 and 2.

    root/
      NN_tune_trainable_<...>/        one trial: one member
        params.json                   its config (may be missing or wrong)
        result.json                   JSON lines, one per report, with the config
        progress.csv                  the same rows, flat
        checkpoint_<epoch>/checkpoints

Ray 2 counts checkpoints instead: rows of its function interface name the folder of their
checkpoint, and folders of its class interface belong to the rows in their order. Its trials have
any name.

Checkpoints are located here, not read. None of these files is trusted.
"""

import contextlib
import csv
import io
import itertools
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoojax.converters.dialects.base import listed
from zoojax.converters.reported import (
    EPOCH_KEYS,
    MAX_EPOCH,
    REPORT_NAMES,
    Row,
    parse_integer,
    parse_row,
)
from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import MIB, NotFoundError, is_folder, read_bytes
from zoojax.text import printable

_TRIAL = "_trainable_"
_CHECKPOINT, _TEMPORARY = "checkpoint_", "checkpoint_tmp"
_EPOCH = re.compile("[0-9]{1,9}")
_STATE = "checkpoints"
# Names of states in checkpoint folders of other makers, the preferred ones first.
_OTHER_STATES = (
    "checkpoint.pt", "checkpoint.pth", "model.pt", "model.pth", "state.pt", "state.pth",
    "model.safetensors", "pytorch_model.bin", "model.ckpt", "model_final.pth", "weights.pt",
)  # fmt: skip
_RAY_2_FILES = {"tuner.pkl", ".validate_storage_marker"}
_TRIAL_FILES = ("result.json", "params.json", "progress.csv")
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
        rows: Reported metrics by epoch, the last report of each.
        checkpoints: The files of the states by epoch.
        skipped: Reasons by place, of entries that look like states but are not used.
        notes: Remarks for the members table. They decide the fingerprint of the zoo: reworded,
            the same files would convert to another zoo.
        folders: Epochs by the name of the checkpoint folder, as rows report them.
    """

    path: Path
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)
    checkpoints: dict[int, Path] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    folders: dict[str, int] = field(default_factory=dict)


def scan_trials(root: Path, *, any_name: bool = False) -> list[Trial]:
    """Reads all trial folders except their checkpoints, sorted by name.

    Plain files, `checkpoint_tmp*` and links that point outside the root are ignored.

    Args:
        root: The folder that contains the trial folders.
        any_name: Whether folders of any name are trials if they have a trial's files.

    Returns:
        The trials, including those without a checkpoint.

    Raises:
        ZoojaxError: If the root is not a folder or contains no trial, or the root or a trial
            cannot be read.
    """
    folders, skipped = _trial_folders(root, any_name)
    if not folders:
        reason = next((f"; {name}: {reason}" for name, reason in skipped.items()), "")
        raise ZoojaxError(f"{root} contains no trial folder (named *{_TRIAL}*){reason}")
    home, names = os.path.realpath(root), set()
    trials = [_read_trial(path, unique_name(path.name, names), home) for path in sorted(folders)]
    if any((root / name).exists() for name in _RAY_2_FILES):
        for trial in trials:
            _date_checkpoints(trial)
    return trials


def trial_names(root: Path) -> list[str]:
    """Names of the trial folders of Ray 1 and 2 in a folder; empty if it cannot be read."""
    try:
        return [folder.name for folder in sorted(_trial_folders(root, any_name=True)[0])]
    except ZoojaxError:
        return []


def is_trial(folder: Path) -> bool:
    """Whether a folder of any name has the files of a trial and a checkpoint folder."""
    if not any((folder / name).is_file() for name in _TRIAL_FILES):
        return False
    return any(entry.name.startswith(_CHECKPOINT) for entry in _entries(folder))


def skipped_links(root: Path) -> dict[str, str]:
    """Lists the trial folders that are links and not followed.

    Args:
        root: The folder that contains the trial folders.

    Returns:
        Reasons by name.

    Raises:
        ZoojaxError: If the root is not a folder or cannot be read.
    """
    return _trial_folders(root)[1]


def unique_name(name: str, taken: set[str]) -> str:
    """Makes a name printable and unique, and adds it to the names taken."""
    base = unique = printable(name, 200) or "unnamed"
    count = 1
    while unique in taken:
        count += 1
        unique = f"{base}~{count}"
    taken.add(unique)
    return unique


def _trial_folders(root: Path, any_name: bool = False) -> tuple[list[Path], dict[str, str]]:
    """Trial folders, and reasons by name for links that are not followed."""
    if not is_folder(root):
        raise ZoojaxError(
            f"{root} is not a folder; give the folder that contains the trial folders"
        )
    folders, skipped = [], {}
    for entry in _entries(root):
        is_directory = _is_folder(entry)
        if _TRIAL not in entry.name and not (
            any_name and is_directory and not entry.is_symlink() and is_trial(Path(entry.path))
        ):
            continue
        if not entry.is_symlink():
            if is_directory:
                folders.append(Path(entry.path))
        elif not is_directory:
            skipped[printable(entry.name, 200)] = "a link that does not lead to a folder"
        elif not _is_inside(entry.path, os.path.realpath(root)):
            skipped[printable(entry.name, 200)] = "a link that leads out of the zoo"
        else:
            folders.append(Path(entry.path))
    return folders, skipped


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ZoojaxError(
            f"{printable(folder)} cannot be read ({error.strerror or error}); make it readable, or "
            "move it elsewhere"
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A circular link.
        return False


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:  # In a folder that cannot be read.
        return False


def _is_inside(path: str | Path, home: str) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(home)


def _read_trial(path: Path, name: str, home: str) -> Trial:
    """Reads one trial folder; `home` is the resolved root, which links must not leave."""
    trial = Trial(path, name)
    if name != path.name:
        trial.notes.append("its folder has another name, which cannot be shown or is taken")
    reported_config = _read_reports(trial, home)
    trial.config = _config(trial, home, reported_config)
    for entry in _entries(path):
        if entry.name.startswith(_CHECKPOINT) and not entry.name.startswith(_TEMPORARY):
            _add_checkpoint(trial, entry, home)
    return trial


def _add_checkpoint(trial: Trial, entry: os.DirEntry[str], home: str) -> None:
    """Adds a checkpoint folder to a trial, or to what the trial skips."""
    digits = entry.name.removeprefix(_CHECKPOINT)
    epoch = int(digits) if _EPOCH.fullmatch(digits) else MAX_EPOCH + 1
    epoch = trial.folders.get(entry.name, epoch)
    shown, problem, note = printable(entry.name, 60), None, None
    file, is_link = Path(entry.path, _STATE), False
    if not _is_folder(entry):
        problem = "leads to no folder" if entry.is_symlink() else "is no folder"
    elif epoch > MAX_EPOCH:
        problem = "is no epoch"
    else:
        file, is_link = _state_of(entry.path)
    if problem is not None:
        pass
    # Real paths are resolved for links only: there are tens of thousands of states.
    elif (entry.is_symlink() or is_link) and not _is_inside(file, home):
        problem = "leads out of the zoo"
    elif epoch in trial.checkpoints:
        problem, note = f"epoch {epoch} twice", f"epoch {epoch} twice; {shown} is ignored"
    else:
        trial.checkpoints[epoch] = file
    if problem is not None:
        trial.skipped[f"{trial.name}/{shown}"] = problem
        trial.notes.append(note or f"{shown} {problem} and is ignored")


def _state_of(folder: str) -> tuple[Path, bool]:
    """The file of a state in a checkpoint folder, and whether it is a link."""
    file = os.path.join(folder, _STATE)  # noqa: PTH118  (faster)
    try:
        return Path(file), stat.S_ISLNK(os.lstat(file).st_mode)
    except OSError:
        pass
    with contextlib.suppress(OSError):
        names = set(os.listdir(folder))  # noqa: PTH208
        for name in _OTHER_STATES:
            if name in names:
                other = Path(folder, name)
                return other, _is_link(other)
        found = [n for n in sorted(names) if n.endswith((".pt", ".pth", ".safetensors", ".pt2"))]
        if len(found) == 1:
            other = Path(folder, found[0])
            return other, _is_link(other)
    return Path(file), False


def _date_checkpoints(trial: Trial) -> None:
    """Finds the epochs of Ray 2's folders, whose numbers count checkpoints.

    Rows of the function interface have named them already. Otherwise there must be as many folders
    as rows; if not, the numbers are kept, with a note.
    """
    if trial.folders or not trial.checkpoints or not trial.rows:
        return
    if trial.checkpoints.keys() == trial.rows.keys():
        return
    if len(trial.checkpoints) == len(trial.rows):
        files = [trial.checkpoints[number] for number in sorted(trial.checkpoints)]
        trial.checkpoints = dict(zip(sorted(trial.rows), files, strict=True))
        trial.notes.append("epochs of its checkpoints are those of its rows, in order")
    else:
        trial.notes.append("its checkpoint folders count checkpoints, their epochs are unknown")


def _read_file(trial: Trial, name: str, home: str, limit: int) -> bytes:
    """The bytes of a file in a trial folder.

    Raises:
        NotFoundError: If there is no such file.
        ZoojaxError: If it is not a regular file, too large, or a link out of the zoo.
    """
    file = trial.path / name
    if _is_link(file) and not _is_inside(file, home):
        raise ZoojaxError(f"{name} leads out of the zoo")
    return read_bytes(file, limit)


def _config(trial: Trial, home: str, reported_config: dict[str, Any]) -> dict[str, Any]:
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


def _read_reports(trial: Trial, home: str) -> dict[str, Any]:
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
                name: index
                for index, name in enumerate(next(lines, []))
                if name in REPORT_NAMES or name in EPOCH_KEYS
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
