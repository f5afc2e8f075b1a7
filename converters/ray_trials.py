"""Finds and reads the trial folders of Ray Tune 1 and 2.

    root/
      NN_tune_trainable_<...>/        one trial: one member
        params.json                   its config (may be missing or wrong)
        result.json                   JSON lines, one per report, with the config
        progress.csv                  the same rows, flat
        checkpoint_<epoch>/checkpoints

In Ray 2, the numbers of checkpoint folders count checkpoints. Rows of its function interface name
the folder of their checkpoint; folders of its class interface belong to the rows in order. Its
trials have any name.

Checkpoints are located here, not read. None of these files is trusted.
"""

import contextlib
import os
import re
import stat
from pathlib import Path

from zoojax.converters.reported import MAX_EPOCH
from zoojax.converters.trial_reports import (
    Trial,
    is_inside,
    is_link,
    read_config,
    read_reports,
)
from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import is_folder
from zoojax.text import printable

_TRIAL = "_trainable_"
_CHECKPOINT, _TEMPORARY = "checkpoint_", "checkpoint_tmp"
_EPOCH = re.compile("[0-9]{1,9}")
_STATE = "checkpoints"
# Names of states in checkpoint folders of other training scripts, preferred ones first.
_OTHER_STATES = (
    "checkpoint.pt", "checkpoint.pth", "model.pt", "model.pth", "state.pt", "state.pth",
    "model.safetensors", "pytorch_model.bin", "model.ckpt", "model_final.pth", "weights.pt",
)  # fmt: skip
_RAY_2_FILES = {"tuner.pkl", ".validate_storage_marker"}
_TRIAL_FILES = ("result.json", "params.json", "progress.csv")


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
        elif not is_inside(entry.path, os.path.realpath(root)):
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


def _read_trial(path: Path, name: str, home: str) -> Trial:
    """Reads one trial folder; `home` is the resolved root, which links must not leave."""
    trial = Trial(path, name)
    if name != path.name:
        trial.notes.append("its folder has another name, which cannot be shown or is taken")
    reported_config = read_reports(trial, home)
    trial.config = read_config(trial, home, reported_config)
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
    elif (entry.is_symlink() or is_link) and not is_inside(file, home):
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
                return other, is_link(other)
        found = [n for n in sorted(names) if n.endswith((".pt", ".pth", ".safetensors", ".pt2"))]
        if len(found) == 1:
            other = Path(folder, found[0])
            return other, is_link(other)
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
