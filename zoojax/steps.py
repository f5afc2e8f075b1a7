"""Stacked arrays on disk: Orbax steps with the checksums of their files.

Several processes write one step together. Orbax lays an array over them in equal parts, so
what does not divide is an array of its own:

    {"even": {...}, "rest": {...}}   in place of the tree itself

Readers see one stack either way.
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from zoojax import population, processes
from zoojax.errors import ZoojaxError
from zoojax.files import reserve, write_beside

CHECKSUMS = "sha256.json"
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
        reserve(path.parent, sum(x.nbytes for x in leaves))
    except OSError as error:
        failure = _refused(path, error)
    sizes = processes.settle(failure, len(leaves[0]) if processes.several() else 0)
    try:
        with _no_log():
            ocp.save(str(path.absolute()), _shared(tree, sizes), overwrite=True)
        if processes.index() == 0:
            files = sorted(file for file in path.rglob("*") if file.is_file())
            digests = {str(file.relative_to(path)): file_digest(file) for file in files}
            write_beside(path / CHECKSUMS, lambda file: file.write_text(json.dumps(digests)))
    except Exception as error:  # Orbax and TensorStore raise many kinds for a full disk.
        raise _refused(path, error) from error


def _refused(path: Path, error: Exception) -> ZoojaxError:
    gone = processes.gone(patience=2.0)
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
    if not processes.several():
        return tree
    even = min(sizes)
    shared = {_EVEN: processes.laid_out(population.take(tree, slice(even)))}
    if even < sizes[-1]:
        # The last process has a few members more.
        shared[_REST] = processes.from_last(population.take(tree, slice(even, None)))
    return shared


def read(step: Path, rows: slice | None = None) -> dict[str, Any]:
    """Reads a step as nested dicts of NumPy arrays.

    Args:
        step: its folder.
        rows: of its members; None for all.

    Raises:
        ZoojaxError: the step is incomplete or damaged.
    """
    # Only here: it takes a second to import, and most readers want tables.
    from orbax.checkpoint import v1 as ocp

    # Before Orbax sees it: its reading threads outlive an error, and complain.
    damage = find_damage(step)
    if damage is None:
        try:
            with _by_this_process():
                where = str(step.absolute())
                # As NumPy arrays: the devices that wrote it may not be there.
                like = jax.tree.map(
                    lambda x: np.empty(x.shape, x.dtype), ocp.metadata(where).metadata
                )
                tree = ocp.load(where, like)
        except Exception as error:  # Orbax and TensorStore raise many kinds.
            damage = str(error).splitlines()[0] if str(error) else type(error).__name__
        else:
            if _EVEN in tree:
                tree = population.concatenate(
                    [tree[_EVEN], *([tree[_REST]] if _REST in tree else [])]
                )
            return tree if rows is None else population.take(tree, rows)
    raise ZoojaxError(f"{step} is damaged or incomplete: {damage[:200]}")


def find_damage(step: Path) -> str | None:
    """What is wrong with the files of a step; None if they are as they were written.

    Raises:
        ZoojaxError: they are there, and cannot be read.
    """
    try:
        digests = json.loads((step / CHECKSUMS).read_text())
        for name, digest in digests.items():
            if file_digest(step / name) != digest:
                return f"{name} is not as it was written"
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        return str(error)
    except OSError as error:
        raise ZoojaxError(f"cannot read {step}: {error.strerror or error}") from error
    except (ValueError, AttributeError) as error:
        return str(error)
    return None


def file_digest(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextlib.contextmanager
def _by_this_process() -> Iterator[None]:
    """Reading is each process's own affair: Orbax would wait for the others."""
    from orbax.checkpoint import v1 as ocp

    if not processes.several():
        yield
        return
    context = ocp.Context()
    context.multiprocessing.primary_host = processes.index()
    context.multiprocessing.active_processes = {processes.index()}
    with context:
        yield


@contextlib.contextmanager
def _no_log() -> Iterator[None]:
    """Keeps off standard error what Orbax logs of an error before it raises the same."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
