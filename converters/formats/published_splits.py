"""The train, validation and test split that a zoo was published with, as a JSON file of paths.

    {"train": ["a/model_1.pth", ...], ...}
    {"train": {"path": [...], "label": [...]}, ...}

The paths may be from another machine: only their last parts are compared.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoojax.converters.formats.tables import read_config
from zoojax.converters.reported import parse_integer
from zoojax.converters.sources import MAX_LABEL, Source
from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import entries
from zoojax.text import printable

_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_MAX_FILES, _MAX_PATHS, _MAX_PATH_LENGTH = 20, 5_000_000, 4096
# How many last parts of a path are compared, the largest number first.
_PARTS = (5, 4, 3, 2, 1)

# Split and label of a path, by its last parts; None if paths with these parts differ in the split.
_Table = dict[tuple[str, ...], tuple[str, int | None] | None]


def add_splits(root: Path, sources: list[Source]) -> list[str]:
    """Fills in the splits, and unknown labels, of members that a file in a folder names.

    Args:
        root: The folder of the members.
        sources: The members; `split` and `label` are filled in.

    Returns:
        Remarks for the user: which file was used, for how many members.
    """
    notes = []
    for file in _files(root):
        try:
            content = read_config(file)
        except ZoojaxError as error:
            notes.append(f"splits cannot be read: {printable(error, 300)}")
            continue
        table = _table(content)
        found = sum(_fill_in(source, table) for source in sources)
        if found:
            notes.append(f"the splits of {found} members are read from {printable(file.name, 100)}")
    return notes


def _files(root: Path) -> list[Path]:
    """Lists the files in a folder that may contain splits."""
    names = [name for name in entries(root) if _is_split_name(name)] if root.is_dir() else []
    files = [root / name for name in sorted(names)[:_MAX_FILES]]
    return [file for file in files if file.is_file() and not file.is_symlink()]


def _is_split_name(name: str) -> bool:
    return "split" in name.lower() and name.lower().endswith(".json")


def _table(content: dict[str, Any]) -> _Table:
    table: _Table = {}
    for path, split, label in _paths(content):
        parts = tuple(part for part in path.replace("\\", "/").split("/") if part)
        for count in _PARTS:
            key = parts[-count:]
            if len(key) == count and table.setdefault(key, (split, label)) != (split, label):
                table[key] = None
    return table


def _paths(content: dict[str, Any]) -> Iterator[tuple[str, str, int | None]]:
    """Yields paths with their splits and labels."""
    count = 0
    for name, listed in content.items():
        split = _SPLITS.get(name.lower())
        labels: Any = ()
        if isinstance(listed, dict):
            listed, labels = listed.get("path"), listed.get("label")
        if split is None or not isinstance(listed, list):
            continue
        for i, path in enumerate(listed):
            count += 1
            if count > _MAX_PATHS:
                return
            if isinstance(path, str) and len(path) <= _MAX_PATH_LENGTH:
                known = isinstance(labels, list) and i < len(labels)
                yield path, split, parse_integer(labels[i], MAX_LABEL) if known else None


def _fill_in(source: Source, table: _Table) -> bool:
    """Fills in the split of a member; returns whether it is known."""
    found = {entry for place in source.places.values() if (entry := _lookup(table, place))}
    splits = {split for split, _ in found}
    if len(splits) != 1:
        if splits:
            source.notes.append("its states are in several published splits")
        return False
    source.split = splits.pop()
    labels = {label for _, label in found}
    if source.label is None and len(labels) == 1:
        source.label = labels.pop()
    return True


def _lookup(table: _Table, place: str) -> tuple[str, int | None] | None:
    parts = tuple(place.split("/"))
    for count in _PARTS:
        key = parts[-count:]
        if len(key) == count and key in table:
            return table[key]
    return None
