"""Folders of checkpoint files of any training script: Lightning, timm, Hugging Face, ...

Each subfolder is a member, with one state per file, by epoch. Each file directly in the folder is a
member, unless its name is EPOCH_accACCURACY_seedSEED_RUN: then it is a state of the member RUN.
"""

import functools
import os
import re
from pathlib import Path
from typing import ClassVar

from zoojax.converters.checkpoint_files import is_checkpoint_name, read_state
from zoojax.converters.dialects.base import DialectOptions
from zoojax.converters.formats.base import Listing, SourceFormat
from zoojax.converters.formats.member_tables import config_of, last_epoch, rows_of
from zoojax.converters.ray_trials import unique_name
from zoojax.converters.reported import MAX_EPOCH
from zoojax.converters.sources import Source
from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import exists
from zoojax.text import printable

_MAX_DEPTH, _MAX_FILES = 5, 2_000_000
# Epochs in names of files or their folders; patterns are tried in this order.
_EPOCHS = (
    re.compile(r"epoch[=_-]?([0-9]{1,9})(?![0-9])", re.I),
    re.compile(r"(?:checkpoint|ckpt|iter|step)[=_-]?([0-9]{1,9})(?![0-9])", re.I),
)
_COUNTED = re.compile(r"([0-9]{1,9})_acc([0-9.]{1,20}?)_seed([0-9]{1,10})_(.+)\.[a-z]+")
_NUMBER = re.compile(r"(?:^|[_-])([0-9]{1,9})(?=\.|$)")
# Copies of other states, and parts of states in several files.
_COPY = re.compile(r"(last|latest|best|model_best|final_copy)[._-]?.*", re.I)
_SHARD = re.compile(r".*-[0-9]{5}-of-[0-9]{5}\..*")
_HIDDEN = (".", "__MACOSX")


class CheckpointFolders(SourceFormat):
    """Folders with one or more checkpoint files per member, of any training script."""

    name: ClassVar = "checkpoints"
    label: ClassVar = "folders of checkpoint files"

    def recognize(self, path: Path) -> str | None:
        """A folder with a checkpoint file at some depth."""
        if not path.is_dir():
            return None
        first = next(iter(_files(path, [])), None)
        return None if first is None else f"{printable(first.relative_to(path), 100)} is in it"

    def members(self, path: Path, options: DialectOptions) -> Listing:
        """One member per folder, or per file directly in the folder."""
        notes: list[str] = []
        by_folder: dict[Path, list[Path]] = {}
        for file in _files(path, notes):
            by_folder.setdefault(path / file.relative_to(path).parts[0], []).append(file)
        taken: set[str] = set()
        sources: list[Source] = []
        runs: dict[str, Source] = {}
        for top, files in by_folder.items():
            if top.is_dir():
                name = unique_name(top.name, taken)
                sources.append(_folder_member(path, top, files, name, options))
            elif (match := _COUNTED.fullmatch(top.name)) is not None:
                run = match[4]
                if run not in runs:
                    runs[run] = Source(unique_name(run, taken), config={"seed": match[3]})
                    runs[run].notes.append("epochs are the numbers in the names of its files")
                    sources.append(runs[run])
                _add(runs[run], path, top, int(match[1]), options)
                runs[run].rows[int(match[1])] = {"test_acc": _number(match[2])}
            else:
                name = unique_name(_stem(top.name), taken)
                sources.append(_file_member(path, top, name, options))
        if not any(source.states for source in sources):
            raise ZoojaxError(f"{printable(path)} has no checkpoint files; give --format")
        images = path / "dataset.pt"
        return Listing(sources, notes, images if exists(images) else None)


def _files(root: Path, notes: list[str]):
    """Yields checkpoint files below a folder in a fixed order; notes links instead of following."""
    pending, count = [(root, 0)], 0
    while pending:
        folder, depth = pending.pop()
        try:
            with os.scandir(folder) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError as error:
            raise ZoojaxError(
                f"{printable(folder)} cannot be read ({error.strerror}); make it readable, or move "
                "it elsewhere"
            ) from error
        deeper = []
        for entry in entries:
            if entry.name.startswith(_HIDDEN):
                continue
            if entry.is_symlink():
                if is_checkpoint_name(entry.name) or depth == 0:
                    shown = printable(Path(entry.path).relative_to(root), 100)
                    notes.append(f"{shown} is a link and not followed")
            elif entry.is_dir():
                if depth < _MAX_DEPTH:
                    deeper.append((Path(entry.path), depth + 1))
            elif is_checkpoint_name(entry.name):
                count += 1
                if count > _MAX_FILES:
                    raise ZoojaxError(f"{printable(root)} has more than {_MAX_FILES} checkpoints")
                yield Path(entry.path)
        pending += reversed(deeper)


def _folder_member(
    root: Path, folder: Path, files: list[Path], name: str, options: DialectOptions
) -> Source:
    """A member with the states in a folder."""
    source = Source(name, config=config_of(folder), rows=rows_of(folder))
    for file in files:
        place = printable(file.relative_to(root), 300)
        if _SHARD.fullmatch(file.name):
            source.skipped[place] = "one of several files of a state; save it as one file"
        elif len(files) > 1 and _COPY.fullmatch(file.name):
            source.notes.append(f"{printable(file.name, 60)} is taken for a copy and not read")
        else:
            epoch = _epoch(file, folder)
            if epoch is None:
                epoch = last_epoch(folder) if len(files) == 1 else None
                if epoch is None:
                    epoch = 0
                    source.notes.append("its file has no epoch: 0")
            _add(source, root, file, epoch, options)
    return source


def _file_member(root: Path, file: Path, name: str, options: DialectOptions) -> Source:
    """A member with one file."""
    source = Source(name)
    source.notes.append("its file has no epoch: 0")
    _add(source, root, file, 0, options)
    return source


def _add(source: Source, root: Path, file: Path, epoch: int, options: DialectOptions) -> None:
    """Adds a state to a member, or to its skipped entries."""
    place = printable(file.relative_to(root), 300)
    if epoch > MAX_EPOCH:
        source.skipped[place] = "is no epoch"
    elif epoch in source.places:
        source.skipped[place] = f"epoch {epoch} twice"
        source.notes.append(f"epoch {epoch} twice; {printable(file.name, 60)} is ignored")
    else:
        source.places[epoch] = place
        source.states[epoch] = functools.partial(read_state, file, options=options)


def _epoch(file: Path, folder: Path) -> int | None:
    """Returns the epoch in the name of a file, or of a folder around it; None if there is none."""
    names = [file.name, *reversed(file.relative_to(folder).parts[:-1])]
    for pattern in _EPOCHS:
        for name in names:
            match = pattern.search(name)
            if match is not None:
                return int(match[1])
    for name in names:
        match = _NUMBER.search(_stem(name))
        if match is not None:
            return int(match[1])
    return None


def _stem(name: str) -> str:
    """Returns a name without the ending of a checkpoint."""
    return re.sub(r"(\.(pt|pth|ckpt|bin|safetensors|th|pt2|tar)){1,2}$", "", name)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
