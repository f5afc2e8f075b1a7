"""Checkpoints of stacked arrays: Orbax steps with a checksum for every file.

In a multi-process run all processes write a step together. Orbax shards an array evenly over
the processes, so members beyond an even split are saved as a second array:

    {"even": {...}, "rest": {...}}   in place of the tree itself

`read` joins the two: readers always see one stack.
"""

import contextlib
import functools
import gc
import hashlib
import json
import logging
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import atomic_write, ensure_free_space
from zoojax.filesystem.reading import MIB, opened, read_json
from zoojax.runtime import distributed, population
from zoojax.text import printable

CHECKSUMS = "sha256.json"
# Every step has at least Orbax's metadata and some arrays.
_REQUIRED_FILES = ("_CHECKPOINT_METADATA", "state/")
_MAX_FILE_SIZE = 2**40
# Glob characters, backslashes and lone surrogates.
_SPECIAL_CHARACTERS = re.compile(r"[*?\[\]\\\ud800-\udfff]")
_SHARDED, _REMAINDER = "even", "rest"


def save(path: Path, tree: dict[str, Any]) -> None:
    """Saves nested dicts of arrays as one Orbax step, with the checksums of its files.

    In a multi-process run all processes must call this, each with its own members
    (`distributed.local_rows`).

    Args:
        path: Folder of the step.
        tree: Nested dicts of arrays.

    Raises:
        ZoojaxError: If writing fails, in this process or another.
    """
    from orbax.checkpoint import v1 as ocp

    failure, leaves = None, jax.tree.leaves(tree)
    try:
        ensure_free_space(path.parent, sum(x.nbytes for x in leaves))
    except OSError as error:
        failure = _write_error(path, error)
    sizes = distributed.raise_if_any_failed(
        failure, len(leaves[0]) if distributed.is_distributed() else 0
    )
    try:
        with _quiet_logging("absl"), _plain_path(path) as step:
            ocp.save(step, _shard_tree(tree, sizes), overwrite=True)
        if distributed.process_index() == 0:
            files = sorted(file for file in path.rglob("*") if file.is_file())
            digests = {str(file.relative_to(path)): file_digest(file) for file in files}
            atomic_write(path / CHECKSUMS, lambda file: file.write_text(json.dumps(digests)))
    except Exception as error:  # Orbax and TensorStore raise many types for a full disk.
        raise _write_error(path, error) from error


def _write_error(path: Path, error: Exception) -> ZoojaxError:
    dead_process = distributed.find_dead_process(patience=2.0)
    if dead_process is not None:
        return ZoojaxError(dead_process)
    # TensorStore reports the whole chain of causes, the root cause last.
    message = getattr(error, "strerror", None) or str(error) or type(error).__name__
    reason = message.splitlines()[0].rpartition(": ")[2]
    return ZoojaxError(
        f"cannot write {path}: {reason[:200]}; earlier epochs are intact; "
        "rerun the command to resume from the last complete epoch"
    )


def _shard_tree(tree: dict[str, Any], sizes: list[int]) -> dict[str, Any]:
    """The tree to save; in a multi-process run the global arrays of all processes.

    Args:
        tree: Stacked arrays of this process.
        sizes: Number of members of each process.
    """
    if not distributed.is_distributed():
        return tree
    even = min(sizes)
    sharded = {_SHARDED: distributed.global_array(population.take(tree, slice(even)))}
    if even < sizes[-1]:
        # The last process has a few members more.
        remainder = population.take(tree, slice(even, None))
        sharded[_REMAINDER] = distributed.broadcast_from_last(remainder)
    return sharded


def read(
    step: Path,
    rows: slice | None = None,
    *,
    like: dict[str, Any] | None = None,
    optional: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Reads a step as nested dicts of NumPy arrays.

    Args:
        step: Folder of the step.
        rows: Members to return, by position; None for all.
        like: Expected shapes and dtypes (`jax.ShapeDtypeStruct`), checked before any memory
            is allocated for the arrays. None accepts whatever is stored.
        optional: Same as `like`, for top-level entries that may be absent. A value of None
            is ignored.

    Returns:
        The arrays, in the structure that was saved.

    Raises:
        ZoojaxError: If the step is incomplete or damaged, or its arrays are not those
            expected.
    """
    # Checked before Orbax opens it: its reader threads outlive an error and print warnings.
    damage, tree = find_damage(step), {}
    if damage is None:
        _ignore_late_reads()
        with _single_process(), _quiet_logging("absl", "asyncio"), _plain_path(step) as path:
            damage, tree = _load(path, like, optional or {})
            if damage is not None:
                # Abandoned asyncio tasks log when they are collected: collect them here.
                gc.collect()
    if damage is not None:
        raise ZoojaxError(f"{step} is damaged or incomplete: {printable(damage, 200)}")
    if _SHARDED in tree:
        remainder = [tree[_REMAINDER]] if _REMAINDER in tree else []
        tree = population.concatenate([tree[_SHARDED], *remainder])
    return tree if rows is None else population.take(tree, rows)


def _load(
    step: str, like: dict[str, Any] | None, optional: dict[str, Any]
) -> tuple[str | None, dict[str, Any]]:
    """Loads a step with Orbax; returns (problem or None, arrays)."""
    # Imported lazily: it takes a second, and most readers only need tables.
    from orbax.checkpoint import v1 as ocp

    try:
        saved = ocp.metadata(step).metadata
        if not isinstance(saved, dict):
            return "it is not a dict of named arrays", {}
        problem = None if like is None else _mismatch(_joined_shapes(saved), like, optional)
        if problem is not None:
            return problem, {}
        # Load as NumPy arrays: the devices that wrote the step may not exist here.
        return None, ocp.load(step, jax.tree.map(lambda x: np.empty(x.shape, x.dtype), saved))
    except Exception as error:  # Orbax and TensorStore raise many types.
        return (str(error) or type(error).__name__).splitlines()[0], {}


def _joined_shapes(saved: dict[str, Any]) -> dict[str, Any]:
    """The shapes of a step as readers see them: shards of several processes as one stack."""
    if _SHARDED not in saved:
        return saved
    parts = [saved[name] for name in (_SHARDED, _REMAINDER) if name in saved]

    def join(*leaves: Any) -> jax.ShapeDtypeStruct:
        members = sum(leaf.shape[0] for leaf in leaves)
        return jax.ShapeDtypeStruct((members, *leaves[0].shape[1:]), leaves[0].dtype)

    return jax.tree.map(join, *parts)


def _mismatch(saved: dict[str, Any], like: dict[str, Any], optional: dict[str, Any]) -> str | None:
    """Describes how a step's arrays differ from those expected; None if they match."""
    present = {name: x for name, x in optional.items() if x is not None and name in saved}
    actual, expected = _leaf_types(saved), _leaf_types(like | present)
    for name in sorted(expected.keys() - actual.keys()):
        return f"array {name} is missing"
    for name in sorted(actual.keys() - expected.keys()):
        return f"array {name} is unexpected"
    for name, wanted in expected.items():
        if actual[name] != wanted:
            return f"array {name} is {actual[name]}, not {wanted}"
    return None


def _leaf_types(tree: Any) -> dict[str, str]:
    """Dtype and shape of each array, by its path (for example params/LAYER/kernel)."""
    return {
        "/".join(str(getattr(key, "key", key)) for key in path): (
            f"{np.dtype(leaf.dtype)} {list(leaf.shape)}"
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def find_damage(step: Path) -> str | None:
    """Compares the files of a step with their checksums.

    Checksums detect accidental damage only: a forged step can have forged checksums.

    Args:
        step: Folder of the step.

    Returns:
        A description of the damage; None if the files are as they were written.

    Raises:
        ZoojaxError: If a file exists but cannot be read.
    """
    try:
        digests = read_json(step / CHECKSUMS)
    except ZoojaxError as error:
        return str(error)
    if not isinstance(digests, dict):
        return f"{CHECKSUMS} does not map file names to checksums"
    for required in _REQUIRED_FILES:
        if not any(name.startswith(required) for name in digests):
            return f"{CHECKSUMS} has no checksum of {required}"
    files = _list_files(step)
    if isinstance(files, str):
        return files
    for name, digest in digests.items():
        if name not in files:
            return f"{name} is missing"
        if file_digest(step / name) != digest:
            return f"{name} does not match its checksum"
    return None


def _list_files(step: Path) -> set[str] | str:
    """The relative paths of a step's files and folders; a message if one is neither."""
    paths = set()
    for folder, folders, names in os.walk(step, onerror=_raise):
        for name in (*folders, *names):
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                return f"{path.relative_to(step)} is not a regular file"
            paths.add(path.relative_to(step).as_posix())
    return paths


def _raise(error: OSError) -> None:
    raise ZoojaxError(f"cannot read {error.filename}: {error.strerror or error}") from error


def file_digest(file: Path) -> str:
    """Computes the SHA-256 digest of a regular file.

    Args:
        file: Path of the file.

    Returns:
        The digest in hexadecimal.

    Raises:
        ZoojaxError: If the file cannot be read.
    """
    digest = hashlib.sha256()
    with opened(file, _MAX_FILE_SIZE) as content:
        try:
            while block := content.read(MIB):
                digest.update(block)
        except OSError as error:
            raise ZoojaxError(f"cannot read {file}: {error.strerror or error}") from error
    return digest.hexdigest()


@contextlib.contextmanager
def _plain_path(step: Path) -> Iterator[str]:
    """Yields a path to a step without special characters, through a symlink if needed.

    Orbax globs with patterns that start with the path, and TensorStore reads a backslash as
    a slash.

    Raises:
        ZoojaxError: If a link is needed in a multi-process run: it would have to be shared.
    """
    path = str(step.absolute())
    if not _SPECIAL_CHARACTERS.search(path):
        yield path
        return
    if distributed.is_distributed():
        raise ZoojaxError(
            f"several processes cannot use {step}: give a folder whose path has none of * ? [ ] \\"
        )
    with tempfile.TemporaryDirectory(prefix="zoojax-") as folder:
        link = Path(folder) / "link"
        link.symlink_to(step.absolute().parent, target_is_directory=True)
        yield str(link / step.name)


@contextlib.contextmanager
def _single_process() -> Iterator[None]:
    """Makes Orbax read in this process alone: by default it waits for all processes."""
    from orbax.checkpoint import v1 as ocp

    if not distributed.is_distributed():
        yield
        return
    context = ocp.Context()
    context.multiprocessing.primary_host = distributed.process_index()
    context.multiprocessing.active_processes = {distributed.process_index()}
    with context:
        yield


@contextlib.contextmanager
def _quiet_logging(*names: str) -> Iterator[None]:
    """Silences loggers that report an error which Orbax then raises anyway."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@functools.cache
def _ignore_late_reads() -> None:
    """Drops TensorStore's complaints about reads still pending when another read failed."""
    default_hook = sys.unraisablehook

    def report(unraisable: "sys.UnraisableHookArgs") -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            default_hook(unraisable)

    sys.unraisablehook = report
