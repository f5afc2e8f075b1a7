"""Trial folders as Ray Tune 1.8 left them: what is there, and what it says of itself.

    root/
      NN_tune_trainable_<...>/        one trial: one member
        params.json                   its config (may be missing or lie)
        result.json                   JSON lines, one per report, the config within
        progress.csv                  the same rows, flat
        checkpoint_<epoch>/checkpoints

Nothing here reads a checkpoint; it finds them. All of it may be made by anybody.
"""

import csv
import io
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoojax.converters.reported import EPOCH_KEYS, KNOWN, LAST_EPOCH, Row, row, whole
from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import MIB, NotFoundError, is_folder, read_bytes
from zoojax.text import printable

_TRIAL = "_trainable_"
_CHECKPOINT, _TEMPORARY = "checkpoint_", "checkpoint_tmp"
_EPOCH = re.compile("[0-9]{1,9}")
_STATE = "checkpoints"
_PARAMS_LIMIT, _ROWS_LIMIT = 16 * MIB, 64 * MIB
# More than any training reports; what a zoo's metrics table can hold is bounded too.
_MOST_ROWS = 20_000


@dataclass
class Trial:
    """One trial folder.

    Attributes:
        path: the folder.
        name: its name, by which twins name their dense member; in visible characters.
        config: what params.json says, else the config in result.json; empty if neither.
        rows: reported numbers by epoch, the last report of each.
        checkpoints: the file of each epoch's state.
        skipped: reasons by place, of what looks like a state and is not taken.
        notes: what is odd about it, for the members table.
    """

    path: Path
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)
    checkpoints: dict[int, Path] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def scan(root: Path) -> list[Trial]:
    """The trials of a zoo, by name; those without any checkpoint too.

    Plain files, `checkpoint_tmp*` and whatever a symbolic link leads to outside the
    root are left alone.

    Raises:
        ZoojaxError: the root is not a folder, holds no trial, or cannot be read, or a trial
            cannot.
    """
    found, linked = _folders(root)
    if not found:
        reason = next((f"; {name}: {why}" for name, why in linked.items()), "")
        raise ZoojaxError(f"{root} holds no trial folder (named *{_TRIAL}*){reason}")
    home, names = os.path.realpath(root), set()
    return [_read(path, unique(path.name, names), home) for path in sorted(found)]


def linked(root: Path) -> dict[str, str]:
    """Trials that are links and not followed: reasons by name.

    Raises:
        ZoojaxError: the root is not a folder or cannot be read.
    """
    return _folders(root)[1]


def unique(name: str, taken: set[str]) -> str:
    """A name in visible characters that is not taken yet, and now is."""
    base = shown = printable(name, 200) or "unnamed"
    count = 1
    while shown in taken:
        count += 1
        shown = f"{base}~{count}"
    taken.add(shown)
    return shown


def _folders(root: Path) -> tuple[list[Path], dict[str, str]]:
    """The trial folders; and reasons by name, of links that are not followed."""
    if not is_folder(root):
        raise ZoojaxError(f"{root} is not a folder; give the folder that holds the trial folders")
    found, linked = [], {}
    for entry in _entries(root):
        if _TRIAL not in entry.name:
            continue
        folder = _is_folder(entry)
        if not entry.is_symlink():
            if folder:
                found.append(Path(entry.path))
        elif not folder:
            linked[printable(entry.name, 200)] = "a link that leads to no folder"
        elif not _is_inside(entry.path, os.path.realpath(root)):
            linked[printable(entry.name, 200)] = "a link that leads out of the zoo"
        else:
            found.append(Path(entry.path))
    return found, linked


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ZoojaxError(
            f"{printable(folder)} cannot be read ({error.strerror or error}); make it readable, or "
            "move it away"
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


def _read(path: Path, name: str, home: str) -> Trial:
    trial = Trial(path, name)
    if name != path.name:
        trial.notes.append("its folder has another name, which cannot be shown or is taken")
    reported = _rows(trial, home)
    trial.config = _config(trial, home, reported)
    for entry in _entries(path):
        if not entry.name.startswith(_CHECKPOINT) or entry.name.startswith(_TEMPORARY):
            continue
        file = Path(entry.path, _STATE)
        digits = entry.name.removeprefix(_CHECKPOINT)
        epoch = int(digits) if _EPOCH.fullmatch(digits) else LAST_EPOCH + 1
        shown, problem, note = printable(entry.name, 60), None, None
        if not _is_folder(entry):
            if entry.is_symlink():
                problem = "leads to no folder"
        elif epoch > LAST_EPOCH:
            problem = "is no epoch"
        # Of most states nothing more is asked: there are tens of thousands.
        elif (entry.is_symlink() or _is_link(file)) and not _is_inside(file, home):
            problem = "leads out of the zoo"
        elif epoch in trial.checkpoints:
            problem, note = f"epoch {epoch} twice", f"epoch {epoch} twice; {shown} is ignored"
        else:
            trial.checkpoints[epoch] = file
        if problem is not None:
            trial.skipped[f"{name}/{shown}"] = problem
            trial.notes.append(note or f"{shown} {problem} and is ignored")
    return trial


def _content(trial: Trial, name: str, home: str, limit: int) -> bytes:
    """The bytes of a file of a trial.

    Raises:
        NotThere: there is none.
        ZoojaxError: it is no regular file, too large, or a link that leads out of the zoo.
    """
    file = trial.path / name
    if _is_link(file) and not _is_inside(file, home):
        raise ZoojaxError(f"{name} leads out of the zoo")
    return read_bytes(file, limit)


def _config(trial: Trial, home: str, reported: dict[str, Any]) -> dict[str, Any]:
    try:
        config = json.loads(_content(trial, "params.json", home, _PARAMS_LIMIT).decode())
        if isinstance(config, dict):
            return config
        trial.notes.append("params.json is not an object")
    except NotFoundError:
        pass
    except (ValueError, RecursionError, ZoojaxError):
        trial.notes.append("params.json is unreadable")
    return reported


def _rows(trial: Trial, home: str) -> dict[str, Any]:
    """Fills in the rows; the last config that the reports hold, empty without one."""
    try:
        content = _content(trial, "result.json", home, _ROWS_LIMIT).decode(errors="replace")
    except NotFoundError:
        return _csv_rows(trial, home)
    except ZoojaxError:
        trial.notes.append("result.json is unreadable")
        return _csv_rows(trial, home)
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
            yield report

    _keep(trial, "result.json", reports())
    return config


def _csv_rows(trial: Trial, home: str) -> dict[str, Any]:
    try:
        content = _content(trial, "progress.csv", home, _ROWS_LIMIT).decode(errors="replace")
    except NotFoundError:
        trial.notes.append("no result.json and no progress.csv")
        return {}
    except ZoojaxError:
        trial.notes.append("progress.csv is unreadable")
        return {}

    def reports() -> Iterator[Mapping[str, Any]]:
        lines = csv.reader(io.StringIO(content, newline=""))
        try:
            # The known columns alone: there may be millions.
            columns = {
                name: place
                for place, name in enumerate(next(lines, []))
                if name in KNOWN or name in EPOCH_KEYS
            }
            for line in lines:
                yield {name: line[at] for name, at in columns.items() if at < len(line)}
        except csv.Error:
            trial.notes.append("progress.csv is unreadable from some line on")

    _keep(trial, "progress.csv", reports())
    return {}


def _keep(trial: Trial, name: str, reports: Iterable[Mapping[str, Any]]) -> None:
    """Rows by epoch. A resumed trial reports an epoch twice: the last counts. A line cut
    short by a crash is passed over."""
    found = [([whole(r.get(key), LAST_EPOCH) for key in EPOCH_KEYS], row(r)) for r in reports]
    # The first key that any report has an epoch under.
    place = next((i for i in range(len(EPOCH_KEYS)) if any(e[i] is not None for e, _ in found)), 0)
    if place:
        trial.notes.append(f"{name} has no {EPOCH_KEYS[0]}: epochs are its {EPOCH_KEYS[place]}")
    broken = sum(epochs[place] is None for epochs, _ in found)
    if broken:
        trial.notes.append(f"{broken} broken line(s) in {name}")
    rows = {epoch: values for epochs, values in found if (epoch := epochs[place]) is not None}
    if len(rows) > _MOST_ROWS:
        trial.notes.append(f"{name} has {len(rows)} epochs; {_MOST_ROWS} are kept")
    trial.rows = dict(itertools.islice(rows.items(), _MOST_ROWS))
