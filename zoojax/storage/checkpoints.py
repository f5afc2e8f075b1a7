"""Stacked arrays on disk: Orbax steps with the checksums of their files.

Several processes write one step together. Orbax lays an array over them in equal parts, so
what does not divide is an array of its own:

    {"even": {...}, "rest": {...}}   in place of the tree itself

Readers see one stack either way.
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
# What every step has: Orbax's description, and arrays.
_NEEDED = ("_CHECKPOINT_METADATA", "state/")
_LARGEST = 2**40
# What a pattern is made of, and what is no text.
_SPECIAL = re.compile(r"[*?\[\]\\\ud800-\udfff]")
_EVEN, _REST = "even", "rest"


def save(path: Path, tree: dict[str, Any]) -> None:
    """Saves nested dicts of arrays as one Orbax step, with the checksums of its files.

    Args:
        path: the step's folder.
        tree: arrays; where there are several processes, each one's share of the members
            (`processes.share`), all of which call this.

    Raises:
        ZoojaxError: the disk refused.
    """
    from orbax.checkpoint import v1 as ocp

    failure, leaves = None, jax.tree.leaves(tree)
    try:
        ensure_free_space(path.parent, sum(x.nbytes for x in leaves))
    except OSError as error:
        failure = _refused(path, error)
    sizes = distributed.raise_if_any_failed(
        failure, len(leaves[0]) if distributed.is_distributed() else 0
    )
    try:
        with _quiet("absl"), _plain(path) as where:
            ocp.save(where, _shared(tree, sizes), overwrite=True)
        if distributed.process_index() == 0:
            files = sorted(file for file in path.rglob("*") if file.is_file())
            digests = {str(file.relative_to(path)): file_digest(file) for file in files}
            atomic_write(path / CHECKSUMS, lambda file: file.write_text(json.dumps(digests)))
    except Exception as error:  # Orbax and TensorStore raise many kinds for a full disk.
        raise _refused(path, error) from error


def _refused(path: Path, error: Exception) -> ZoojaxError:
    gone = distributed.find_dead_process(patience=2.0)
    if gone is not None:
        return ZoojaxError(gone)
    # TensorStore tells the whole way down; what went wrong comes last.
    told = getattr(error, "strerror", None) or str(error) or type(error).__name__
    reason = told.splitlines()[0].rpartition(": ")[2]
    return ZoojaxError(
        f"cannot write {path}: {reason[:200]}; the epochs before it are safe, and the "
        "same command goes on from the last"
    )


def _shared(tree: dict[str, Any], sizes: list[int]) -> dict[str, Any]:
    """What Orbax saves of a tree: of several processes, the arrays of them all."""
    if not distributed.is_distributed():
        return tree
    even = min(sizes)
    shared = {_EVEN: distributed.global_array(population.take(tree, slice(even)))}
    if even < sizes[-1]:
        # The last process has a few members more.
        shared[_REST] = distributed.broadcast_from_last(population.take(tree, slice(even, None)))
    return shared


def read(
    step: Path,
    rows: slice | None = None,
    *,
    like: dict[str, Any] | None = None,
    optional: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Reads a step as nested dicts of NumPy arrays.

    Args:
        step: its folder.
        rows: of its members; None for all.
        like: shapes and types that its arrays must have, as `jax.ShapeDtypeStruct`: looked at
            before any memory is taken for them. None for whatever is there.
        optional: as `like`: what may be there too, by its name at the top; a value of None
            stands for nothing.

    Raises:
        ZoojaxError: the step is incomplete or damaged, or holds other arrays.
    """
    # Before Orbax sees it: its reading threads outlive an error, and complain.
    damage, tree = find_damage(step), {}
    if damage is None:
        _ignore_late_reads()
        with _by_this_process(), _quiet("absl", "asyncio"), _plain(step) as where:
            damage, tree = _loaded(where, like, optional or {})
            if damage is not None:
                # Tasks that no one waits for any longer log so when they are collected.
                gc.collect()
    if damage is not None:
        raise ZoojaxError(f"{step} is damaged or incomplete: {printable(damage, 200)}")
    if _EVEN in tree:
        tree = population.concatenate([tree[_EVEN], *([tree[_REST]] if _REST in tree else [])])
    return tree if rows is None else population.take(tree, rows)


def _loaded(
    where: str, like: dict[str, Any] | None, optional: dict[str, Any]
) -> tuple[str | None, dict[str, Any]]:
    """What is wrong with a step, and its arrays."""
    # Only here: it takes a second to import, and most readers want tables.
    from orbax.checkpoint import v1 as ocp

    try:
        saved = ocp.metadata(where).metadata
        if not isinstance(saved, dict):
            return "it holds no arrays by name", {}
        problem = None if like is None else _mismatch(_joined(saved), like, optional)
        if problem is not None:
            return problem, {}
        # As NumPy arrays: the devices that wrote it may not be there.
        return None, ocp.load(where, jax.tree.map(lambda x: np.empty(x.shape, x.dtype), saved))
    except Exception as error:  # Orbax and TensorStore raise many kinds.
        return (str(error) or type(error).__name__).splitlines()[0], {}


def _joined(saved: dict[str, Any]) -> dict[str, Any]:
    """The shapes of a step as its readers see it: what several processes wrote as one stack."""
    if _EVEN not in saved:
        return saved
    parts = [saved[name] for name in (_EVEN, _REST) if name in saved]

    def one(*leaves: Any) -> jax.ShapeDtypeStruct:
        members = sum(leaf.shape[0] for leaf in leaves)
        return jax.ShapeDtypeStruct((members, *leaves[0].shape[1:]), leaves[0].dtype)

    return jax.tree.map(one, *parts)


def _mismatch(saved: dict[str, Any], like: dict[str, Any], optional: dict[str, Any]) -> str | None:
    """In what a step's arrays are not those expected; None if they are."""
    expected = like | {name: x for name, x in optional.items() if x is not None and name in saved}
    found, wanted = _leaves(saved), _leaves(expected)
    for name in sorted(wanted.keys() - found.keys()):
        return f"it has no array {name}"
    for name in sorted(found.keys() - wanted.keys()):
        return f"it has an array {name} that no such zoo has"
    for name, want in wanted.items():
        if found[name] != want:
            return f"array {name} is {found[name]}, not {want}"
    return None


def _leaves(tree: Any) -> dict[str, str]:
    """Types and shapes of arrays by their path, as in params/conv1/kernel."""
    return {
        "/".join(str(getattr(key, "key", key)) for key in path): _kind(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _kind(leaf: Any) -> str:
    return f"{np.dtype(leaf.dtype)} {list(leaf.shape)}"


def find_damage(step: Path) -> str | None:
    """What is wrong with the files of a step; None if they are as they were written.

    Checksums guard against damage: whoever forges a step can forge them too.

    Raises:
        ZoojaxError: they are there, and cannot be read.
    """
    try:
        digests = read_json(step / CHECKSUMS)
    except ZoojaxError as error:
        return str(error)
    if not isinstance(digests, dict):
        return f"{CHECKSUMS} is no list of checksums"
    for needed in _NEEDED:
        if not any(name.startswith(needed) for name in digests):
            return f"{CHECKSUMS} has no checksum of {needed}"
    files = _files(step)
    if isinstance(files, str):
        return files
    for name, digest in digests.items():
        if name not in files:
            return f"{name} is missing"
        if file_digest(step / name) != digest:
            return f"{name} is not as it was written"
    return None


def _files(step: Path) -> set[str] | str:
    """The files of a step; or what is there that no step has."""
    found = set()
    for folder, folders, names in os.walk(step, onerror=_raise):
        for name in (*folders, *names):
            path = Path(folder, name)
            kind = path.lstat().st_mode
            if not (stat.S_ISDIR(kind) or stat.S_ISREG(kind)):
                return f"{path.relative_to(step)} is not a regular file"
            found.add(path.relative_to(step).as_posix())
    return found


def _raise(error: OSError) -> None:
    raise ZoojaxError(f"cannot read {error.filename}: {error.strerror or error}") from error


def file_digest(file: Path) -> str:
    """SHA-256 of a regular file.

    Raises:
        ZoojaxError: it cannot be read.
    """
    digest = hashlib.sha256()
    with opened(file, _LARGEST) as content:
        try:
            while block := content.read(MIB):
                digest.update(block)
        except OSError as error:
            raise ZoojaxError(f"cannot read {file}: {error.strerror or error}") from error
    return digest.hexdigest()


@contextlib.contextmanager
def _plain(step: Path) -> Iterator[str]:
    """A path of a step that Orbax takes for no pattern, and can hand to C++.

    It looks for files by patterns that begin with the path, and TensorStore takes a backslash
    for a slash. Where that matters, it gets a link.

    Raises:
        ZoojaxError: several processes would need one link for all.
    """
    where = str(step.absolute())
    if not _SPECIAL.search(where):
        yield where
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
def _by_this_process() -> Iterator[None]:
    """Reading is each process's own affair: Orbax would wait for the others."""
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
def _quiet(*names: str) -> Iterator[None]:
    """Keeps off standard error what loggers say of an error before Orbax raises the same."""
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
    """Drops what TensorStore prints of arrays that were being read when another failed."""
    before = sys.unraisablehook

    def report(unraisable: "sys.UnraisableHookArgs") -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = report
