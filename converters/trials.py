"""Trial folders as Ray Tune 1.8 left them: what is there, and what it says of itself.

    root/
      NN_tune_trainable_<...>/        one trial: one member
        params.json                   its config (may be missing or lie)
        result.json                   JSON lines, a row a report, the config within
        progress.csv                  the same rows, flat
        checkpoint_<epoch>/checkpoints

Nothing here reads a checkpoint; it finds them.
"""

import csv
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoojax.errors import ZoojaxError

_CHECKPOINT = re.compile(r"checkpoint_([0-9]{1,9})")
_STATE = "checkpoints"


@dataclass
class Trial:
    """One trial folder.

    Attributes:
        path: the folder.
        config: what params.json says, else the config in result.json; empty if neither.
        rows: reported metrics by training iteration, the last report of each.
        checkpoints: the file of each epoch's state.
        notes: what is odd about it, for the members table.
    """

    path: Path
    config: dict[str, Any] = field(default_factory=dict)
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    checkpoints: dict[int, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The folder's name, by which twins name their dense member."""
        return self.path.name


def scan(root: Path) -> list[Trial]:
    """The trials of a zoo, by name; those without any checkpoint too.

    Plain files, `checkpoint_tmp*` and whatever a symbolic link leads to outside the
    root are left alone.

    Raises:
        ZoojaxError: the root is not a folder, or holds no trial.
    """
    if not root.is_dir():
        raise ZoojaxError(f"{root} is not a folder; give the folder that holds the trial folders")
    home = root.resolve()
    found = []
    with os.scandir(root) as entries:
        for entry in entries:
            if "_trainable_" not in entry.name or not entry.is_dir():
                continue
            if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(home):
                continue
            found.append(Path(entry.path))
    if not found:
        raise ZoojaxError(f"{root} holds no trial folder (named *_trainable_*)")
    return [_read(path, home) for path in sorted(found)]


def _read(path: Path, home: Path) -> Trial:
    trial = Trial(path)
    trial.rows = _rows(trial, home)
    trial.config = _config(trial, home)
    for entry in sorted(os.scandir(path), key=lambda e: e.name):
        match = _CHECKPOINT.fullmatch(entry.name)
        if match is None or not entry.is_dir():
            continue
        file, epoch = Path(entry.path) / _STATE, int(match[1])
        if not file.resolve().is_relative_to(home):
            trial.notes.append(f"{entry.name} leads out of the zoo and is ignored")
        elif epoch in trial.checkpoints:
            trial.notes.append(f"epoch {epoch} twice; {entry.name} is ignored")
        else:
            trial.checkpoints[epoch] = file
    return trial


def _inside(trial: Trial, name: str, home: Path) -> Path:
    """A file of a trial.

    Raises:
        PermissionError: a symbolic link leads out of the zoo.
    """
    file = trial.path / name
    if not file.resolve().is_relative_to(home):
        raise PermissionError(f"{name} leads out of the zoo")
    return file


def _config(trial: Trial, home: Path) -> dict[str, Any]:
    try:
        config = json.loads(_inside(trial, "params.json", home).read_text())
        if isinstance(config, dict):
            return config
        trial.notes.append("params.json is not an object")
    except FileNotFoundError:
        pass
    except (ValueError, RecursionError, OSError):
        trial.notes.append("params.json is unreadable")
    configs = [row["config"] for row in trial.rows.values() if isinstance(row.get("config"), dict)]
    return configs[-1] if configs else {}


def _rows(trial: Trial, home: Path) -> dict[int, dict[str, Any]]:
    """Rows by training iteration. A resumed trial reports an iteration twice: the last
    counts. A line cut short by a crash is passed over."""
    try:
        lines = _inside(trial, "result.json", home).read_text(errors="replace").split("\n")
    except FileNotFoundError:
        return _csv_rows(trial, home)
    except OSError:
        trial.notes.append("result.json is unreadable")
        return _csv_rows(trial, home)
    rows, broken = {}, 0
    for line in lines:
        try:
            row = json.loads(line)
            rows[int(row["training_iteration"])] = row
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            broken += bool(line.strip())
    if broken:
        trial.notes.append(f"{broken} broken line(s) in result.json")
    return rows


def _csv_rows(trial: Trial, home: Path) -> dict[int, dict[str, Any]]:
    rows = {}
    try:
        csv_file = _inside(trial, "progress.csv", home)
        with csv_file.open(newline="", errors="replace") as file:
            for row in csv.DictReader(file):
                try:
                    rows[int(row["training_iteration"])] = row
                except (KeyError, TypeError, ValueError):
                    continue
    except FileNotFoundError:
        trial.notes.append("no result.json and no progress.csv")
    except (OSError, csv.Error):
        trial.notes.append("progress.csv is unreadable")
    return rows
