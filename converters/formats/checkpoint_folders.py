"""Folders of checkpoint files of any training script: Lightning, timm, Hugging Face, ...

Files of one folder are the states of a member, by epoch; folders such as "checkpoints" and
"epoch_3" belong to the folder around them. Each file directly in the given folder is a member,
unless its name begins with an epoch: then the folder is the member. Files named
EPOCH_accACCURACY_seedSEED_RUN (p-diff, RPG) are states of the member RUN.
"""

import functools
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from zoojax.converters.checkpoint_files import is_checkpoint_name, read_state
from zoojax.converters.dialects.base import DialectOptions
from zoojax.converters.formats.base import Listing, SourceFormat
from zoojax.converters.formats.member_tables import config_of, last_epoch, reports_of
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
_COUNTED = re.compile(
    r"(?P<epoch>[0-9]{1,9})_acc(?P<accuracy>[0-9.]{1,20}?)(?:_class(?P<task>[0-9]{1,9}))?"
    r"_seed(?P<seed>[0-9]{1,10})(?:_class(?P<task_>[0-9]{1,9}))?_(?P<run>.+)\.[a-z]+"
)
# Folders within the folder of a member.
_INNER = re.compile(
    r"(checkpoints?|ckpts?|weights|states?|models?|best|last|latest|final)"
    r"|(epoch|checkpoint|ckpt|iter|iteration|step)[=_-]?-?[0-9]{1,9}", re.I
)  # fmt: skip
# Files of one run, directly in the given folder.
_ONE_RUN = re.compile(r"(epoch|checkpoint|ckpt|iter|iteration|step)[=_-]?[0-9]{1,9}(?![0-9])", re.I)
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
        first = next(iter(checkpoint_files(path, [])), None)
        return None if first is None else f"{printable(first.relative_to(path), 100)} is in it"

    def members(self, path: Path, options: DialectOptions) -> Listing:
        """One member per folder, per run in the names of files, or per file in the given folder."""
        notes: list[str] = []
        groups: dict[tuple[Path, str | None], list[Path]] = {}
        for file in checkpoint_files(path, notes):
            groups.setdefault(_member_of(path, file), []).append(file)
        if not groups:
            raise ZoojaxError(f"{printable(path)} has no checkpoint files; give --format")
        taken: set[str] = set()
        names = _folder_names(path, {folder for folder, run in groups if run is None})
        sources = []
        for (folder, run), files in groups.items():
            if run is not None:
                sources.append(_run_member(path, files, unique_name(run, taken), options))
            elif folder.is_dir():
                name = unique_name(names[folder], taken)
                sources.append(_folder_member(path, folder, files, name, options))
            else:
                name = unique_name(stem(folder.name), taken)
                sources.append(_file_member(path, folder, name, options))
        if not any(source.states for source in sources):
            raise ZoojaxError(f"{printable(path)} has no checkpoint files; give --format")
        images = path / "dataset.pt"
        return Listing(sources, notes, images if exists(images) else None)


def _member_of(root: Path, file: Path) -> tuple[Path, str | None]:
    """Returns the folder of a file's member, or the file itself; and the run in its name."""
    match = _COUNTED.fullmatch(file.name)
    parts = file.relative_to(root).parts[:-1]
    while parts and _INNER.fullmatch(parts[-1]):
        parts = parts[:-1]
    folder = root.joinpath(*parts)
    if match is not None:
        task = match["task"] or match["task_"]
        return folder, match["run"] + ("" if task is None else f"_class{task}")
    is_member = file.parent == root and _ONE_RUN.match(file.name) is None
    return (file if is_member else folder), None


def _folder_names(root: Path, folders: set[Path]) -> dict[Path, str]:
    """Names members by their folders: by the last part of the path if that is unique."""
    counts = Counter(folder.name for folder in folders)
    return {
        folder: folder.name
        if counts[folder.name] == 1
        else "-".join(folder.relative_to(root).parts) or folder.name
        for folder in folders
    }


def checkpoint_files(root: Path, notes: list[str]) -> Iterator[Path]:
    """Yields checkpoint files below a folder in a fixed order.

    Args:
        root: The folder.
        notes: Remarks are added about links, which are not followed.

    Raises:
        ZoojaxError: If a folder cannot be read, or there are too many files.
    """
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


def _run_member(root: Path, files: list[Path], name: str, options: DialectOptions) -> Source:
    """A member with the states of one run; accuracies and the seed are in the names of files."""
    source = Source(name, folder="")
    source.notes.append("epochs are the numbers in the names of its files")
    for file in files:
        match = _COUNTED.fullmatch(file.name)
        assert match is not None
        epoch = int(match["epoch"])
        source.config.setdefault("seed", match["seed"])
        _add(source, root, file, epoch, options)
        source.rows.setdefault(epoch, {"test_acc": _number(match["accuracy"])})
    return source


def _folder_member(
    root: Path, folder: Path, files: list[Path], name: str, options: DialectOptions
) -> Source:
    """A member with the states in a folder."""
    reported = reports_of(folder)
    inside = folder.relative_to(root).as_posix()
    source = Source(
        name,
        config=_config(root, folder),
        rows=reported.rows,
        notes=reported.notes,
        folder="" if inside == "." else f"{inside}/",
    )
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


def _config(root: Path, folder: Path) -> dict[str, Any]:
    """The config in the folder of a member, or in a folder around it."""
    while True:
        config = config_of(folder)
        if config or folder == root or folder.parent == root:
            return config
        folder = folder.parent


def _file_member(root: Path, file: Path, name: str, options: DialectOptions) -> Source:
    """A member with one file."""
    source = Source(name, folder="")
    source.notes.append("its file has no epoch: 0")
    _add(source, root, file, 0, options)
    return source


def _add(source: Source, root: Path, file: Path, epoch: int, options: DialectOptions) -> None:
    """Adds a state to a member, or to its skipped entries."""
    place = printable(file.relative_to(root), 300)
    if epoch > MAX_EPOCH:
        source.skipped[place] = "is not an epoch"
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
        match = _NUMBER.search(stem(name))
        if match is not None:
            return int(match[1])
    return None


def stem(name: str) -> str:
    """Returns a name without the ending of a checkpoint."""
    return re.sub(r"(\.(pt|pth|ckpt|bin|safetensors|th|pt2|tar)){1,2}$", "", name)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
