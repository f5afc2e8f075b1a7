"""Zoos of model-zoo-jax: parameters of Haiku, one folder per optimizer step.

    seed_42_iter_0/config.json
    seed_42_iter_0/18740/arrays.npy       arrays of np.save one after the other, by sorted names
    seed_42_iter_0/18740/tree.pkl         the names: a pickle of nested dicts
    seed_42_iter_0/18740/metrics.json

See model_zoo_jax/logger.py in https://github.com/Emilija2000/model-zoo-jax.
"""

import functools
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from zoojax.converters.checkpoint_files import MAX_STATE_BYTES
from zoojax.converters.dialects.base import DialectOptions, Draft, ReadState
from zoojax.converters.dialects.haiku import plain_arrays
from zoojax.converters.dialects.number_types import NumberTypes
from zoojax.converters.foreign_classes import is_foreign_class
from zoojax.converters.formats.base import Listing, SourceFormat
from zoojax.converters.formats.tables import find_file, read_config
from zoojax.converters.inert import Stub, UnsafePickleError
from zoojax.converters.npy import read_array
from zoojax.converters.ray_trials import unique_name
from zoojax.converters.reported import MAX_EPOCH, parse_row
from zoojax.converters.safe_load import guarded, read_file
from zoojax.converters.safe_pickle import SafeUnpickler
from zoojax.converters.sources import Source
from zoojax.errors import ZoojaxError
from zoojax.text import first_line, printable

_ARRAYS, _TREE, _METRICS, _CONFIG = "arrays.npy", "tree.pkl", "metrics.json", "config.json"
_MAX_DEPTH, _MAX_FOLDERS, _MAX_TREE_BYTES, _MAX_ARRAYS = 4, 2_000_000, 2**22, 10_000


class Haiku(SourceFormat):
    """Folders of runs with one folder per step, which holds arrays.npy and tree.pkl."""

    name: ClassVar = "haiku"
    label: ClassVar = "parameters of Haiku (model-zoo-jax)"

    def recognize(self, path: Path) -> str | None:
        """A folder with arrays.npy in a folder of a step."""
        first = next(_steps(path), None) if path.is_dir() else None
        if first is None:
            return None
        return f"{printable((first / _ARRAYS).relative_to(path), 100)} is in it"

    def members(self, path: Path, options: DialectOptions) -> Listing:
        """One member per folder of a run; its epochs are the optimizer's steps."""
        sources: dict[Path, Source] = {}
        taken: set[str] = set()
        for step in _steps(path):
            run, number = step.parent, int(step.name)
            if run not in sources:
                sources[run] = _member(path, run, taken)
            source = sources[run]
            place = printable((step / _ARRAYS).relative_to(path), 300)
            if number > MAX_EPOCH:
                source.skipped[place] = "is not an epoch"
                continue
            source.places[number] = place
            source.states[number] = functools.partial(_read_step, step, options)
            source.rows[number] = _row(step)
        if not sources:
            raise ZoojaxError(f"{printable(path)} has no folder with {_ARRAYS}; give --format")
        return Listing(list(sources.values()), ["epochs are the optimizer's steps"])


def _steps(root: Path) -> Iterator[Path]:
    """Yields the folders of steps in a fixed order, without following links."""
    pending, visited = [(root, 0)], 0
    while pending:
        folder, depth = pending.pop()
        visited += 1
        try:
            with os.scandir(folder) as scanned:
                names = sorted(e.name for e in scanned if e.is_dir(follow_symlinks=False))
        except OSError:
            continue
        steps = [n for n in names if re.fullmatch("[0-9]{1,9}", n) and _has_arrays(folder / n)]
        yield from (folder / name for name in sorted(steps, key=int))
        if depth < _MAX_DEPTH and visited < _MAX_FOLDERS:
            deeper = [folder / name for name in names if name not in steps]
            pending += [(each, depth + 1) for each in reversed(deeper)]


def _has_arrays(folder: Path) -> bool:
    return find_file(folder, (_ARRAYS,)) is not None


def _member(root: Path, run: Path, taken: set[str]) -> Source:
    notes: list[str] = []
    try:
        config = read_config(run / _CONFIG)
    except ZoojaxError:
        config = {}
        notes.append(f"{_CONFIG} is missing or unreadable")
    if config.get("class_dropped") is not None:
        notes.append(f"class {printable(config['class_dropped'], 40)} was left out of training")
    inside = run.relative_to(root).as_posix()
    return Source(
        unique_name(run.name, taken),
        config=config,
        notes=notes,
        folder="" if inside == "." else f"{inside}/",
    )


def _row(step: Path) -> dict[str, float]:
    try:
        return parse_row(read_config(step / _METRICS))
    except ZoojaxError:
        return {}


def _read_step(step: Path, options: DialectOptions) -> ReadState:
    """Reads the parameters of one step as a torch state dict.

    Raises:
        UnreadableFileError: If a file is unsafe or damaged, or the network is unknown.
    """

    def read() -> ReadState:
        names = _names(read_file(step / _TREE, _MAX_TREE_BYTES))
        data = io.BytesIO(read_file(step / _ARRAYS, MAX_STATE_BYTES))
        arrays = {name: read_array(data) for name in names}
        if data.read(1):
            raise UnsafePickleError(f"it has more arrays than {_TREE} has names")
        draft = Draft({}, options)
        plain_arrays(draft, arrays)
        NumberTypes().read(draft)
        return draft.finish()

    return guarded(step / _ARRAYS, read)


def _names(pickle: bytes) -> list[tuple[str, str]]:
    """Reads the (module, leaf) names in the order of the arrays, which is the sorted order."""
    try:
        tree = SafeUnpickler(is_foreign_class, lambda key: -1).run(io.BytesIO(pickle))
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{_TREE}: {error}") from error
    except Exception as error:
        raise UnsafePickleError(f"{_TREE} is damaged: {first_line(error)}") from error
    modules = _mapping(tree)
    names = [
        (module, leaf) for module in sorted(modules) for leaf in sorted(_mapping(modules[module]))
    ]
    if not 0 < len(names) <= _MAX_ARRAYS:
        raise UnsafePickleError(f"{_TREE} has {len(names)} names")
    return names


def _mapping(value: object) -> dict[str, object]:
    """Returns the items of a dict, or of a FlatMapping of older versions of Haiku."""
    if isinstance(value, Stub):
        parts = [value.items, value.state.get("_mapping"), *value.args]
        value = next((part for part in parts if isinstance(part, dict) and part), None)
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise UnsafePickleError(f"{_TREE} is not a dict of dicts")
    return value
