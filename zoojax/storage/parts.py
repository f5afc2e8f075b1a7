"""Steps in parts: the members of a large epoch, split over several checkpoints.

    states/<epoch>/
      parts.json             {"members": 270000, "rows": 1683}
      part_000000/           an Orbax step with the rows 0 to 1682
      part_000001/ ...

Each part is written and read separately, so memory is bounded by one part, and an interrupted epoch
resumes after its last part. Steps without parts.json are whole: one checkpoint of all members.
"""

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import (
    atomic_rmtree,
    atomic_write,
    is_temporary,
    make_folder,
    os_errors,
)
from zoojax.filesystem.reading import entries, exists, read_json
from zoojax.runtime import population
from zoojax.storage import checkpoints

_FILE = "parts.json"
# A part and its copies fit into the memory of a small computer; smaller parts are slower.
_PART_BYTES = 32 * 2**20
_PART = re.compile("part_[0-9]{6}")


class Parts(NamedTuple):
    """How the members of a step are split.

    Attributes:
        members: Number of members.
        rows: Members of each part but the last, which may have fewer.
    """

    members: int
    rows: int

    @property
    def slices(self) -> list[slice]:
        """Rows of each part."""
        starts = range(0, self.members, self.rows)
        return [slice(start, min(start + self.rows, self.members)) for start in starts]


def choose_parts(members: int, bytes_per_member: int) -> Parts:
    """Splits an epoch into parts of equal sizes that are small enough for memory.

    Args:
        members: Number of members.
        bytes_per_member: Size of a member's state.

    Returns:
        The split; a single part for a small epoch.
    """
    fitting = max(1, _PART_BYTES // max(1, bytes_per_member))
    count = math.ceil(members / fitting)
    return Parts(members, math.ceil(members / count))


def part_folder(step: Path, index: int) -> Path:
    """Returns the folder of a part."""
    return step / f"part_{index:06d}"


def claim_step(step: Path, parts: Parts) -> None:
    """Prepares a step for its parts; keeps those of an interrupted call with the same split.

    Args:
        step: Folder of the step.
        parts: The split.

    Raises:
        ZoojaxError: If the folder cannot be written.
    """
    if exists(step) and _stored(step) != parts:
        atomic_rmtree(step)
    make_folder(step)
    for name in entries(step):
        if is_temporary(name):
            with os_errors(step / name):
                (step / name).unlink(missing_ok=True)
        elif name.startswith("part_") and not _PART.fullmatch(name):
            atomic_rmtree(step / name)
    if not exists(step / _FILE):
        text = json.dumps(parts._asdict())
        atomic_write(step / _FILE, lambda file: file.write_text(text))


def is_split(step: Path) -> bool:
    """Whether a step is in parts."""
    return exists(step / _FILE)


def slices_of(step: Path, members: int) -> list[slice]:
    """Returns rows that are stored together: those of each part, or of all members.

    Args:
        step: Folder of the step.
        members: Number of members of the zoo.

    Raises:
        ZoojaxError: If the step is damaged.
    """
    return _parts_of(step, members).slices if is_split(step) else [slice(0, members)]


def read(
    step: Path,
    rows: slice | None,
    like: dict[str, Any] | None,
    optional: dict[str, Any] | None,
) -> dict[str, Any]:
    """Reads a step, whole or in parts; of the parts only those that contain the rows.

    Args:
        step: Folder of the step.
        rows: Members to return, by position; None for all.
        like: See `checkpoints.read`.
        optional: See `checkpoints.read`.

    Returns:
        The arrays, in the structure that was saved.

    Raises:
        ZoojaxError: As in `checkpoints.read`.
    """
    if not is_split(step):
        return checkpoints.read(step, rows, like=like, optional=optional)
    parts = _parts_of(step, None if like is None else jax.tree.leaves(like)[0].shape[0])
    start, stop, _ = (rows or slice(None)).indices(parts.members)
    if start >= stop:
        return population.take(read_part(step, 0, like, optional), slice(0))
    joined: dict[str, Any] = {}
    for index, own in enumerate(parts.slices):
        first, last = max(start, own.start), min(stop, own.stop)
        if first >= last:
            continue
        tree = read_part(step, index, like, optional)
        chosen = population.take(tree, slice(first - own.start, last - own.start))
        if last - first == stop - start:
            return chosen
        if not joined:
            joined = _empty(chosen, stop - start)
        _fill(joined, chosen, slice(first - start, last - start))
    return joined


def read_part(
    step: Path, index: int, like: dict[str, Any] | None, optional: dict[str, Any] | None
) -> dict[str, Any]:
    """Reads one part of a step.

    Args:
        step: Folder of the step.
        index: Number of the part.
        like: Expected shapes and dtypes of the whole step; see `checkpoints.read`.
        optional: The same for arrays that may be absent.

    Raises:
        ZoojaxError: If the part is damaged.
    """
    own = _parts_of(step, None).slices[index]
    count = own.stop - own.start

    def resized(tree: Any) -> Any:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape[1:]), x.dtype), tree)

    optional = {name: resized(tree) for name, tree in (optional or {}).items()}
    return checkpoints.read(part_folder(step, index), like=resized(like), optional=optional)


def find_damage(step: Path) -> str | None:
    """Compares the files of a step, whole or in parts, with their checksums.

    Args:
        step: Folder of the step.

    Returns:
        A description of the first damage; None if the files are as they were written.

    Raises:
        ZoojaxError: If a file exists but cannot be read.
    """
    if not is_split(step):
        return checkpoints.find_damage(step)
    parts = _stored(step)
    if parts is None:
        return f"{_FILE} is damaged"
    for index, _ in enumerate(parts.slices):
        damage = find_part_damage(step, index)
        if damage is not None:
            return f"{part_folder(step, index).name}: {damage}"
    return None


def digest(step: Path) -> str:
    """Returns the digest of a step's checksums, those of all parts if it is split.

    Args:
        step: Folder of the step.

    Raises:
        ZoojaxError: If checksums are missing or the split is damaged.
    """
    if not is_split(step):
        return checkpoints.file_digest(step / checkpoints.CHECKSUMS)
    folders = [part_folder(step, i) for i, _ in enumerate(_parts_of(step, None).slices)]
    listed = [checkpoints.file_digest(folder / checkpoints.CHECKSUMS) for folder in folders]
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()


def find_part_damage(step: Path, index: int) -> str | None:
    """Compares the files of a part with their checksums; see `find_damage`."""
    folder = part_folder(step, index)
    return "it is a link" if folder.is_symlink() else checkpoints.find_damage(folder)


def _stored(step: Path) -> Parts | None:
    """The split of a step; None if it is whole or parts.json is damaged."""
    try:
        content = read_json(step / _FILE)
    except ZoojaxError:
        return None
    if not isinstance(content, dict) or content.keys() != {*Parts._fields}:
        return None
    parts = Parts(**content)
    valid = all(type(n) is int and 0 < n < 2**31 for n in parts)
    # A forged file must not make the list of parts long.
    return parts if valid and -(-parts.members // parts.rows) < 10**6 else None


def _parts_of(step: Path, members: int | None) -> Parts:
    parts = _stored(step)
    if parts is None or members not in (None, parts.members):
        wanted = "" if members is None else f", not one of {members} members"
        raise ZoojaxError(f"{step} is damaged or incomplete: {_FILE} has no valid split{wanted}")
    return parts


def _empty(like: dict[str, Any], members: int) -> dict[str, Any]:
    return jax.tree.map(lambda x: np.empty((members, *x.shape[1:]), x.dtype), like)


def _fill(target: dict[str, Any], source: dict[str, Any], rows: slice) -> None:
    """Copies a stacked tree to rows of another; both have been checked to have the same leaves."""
    for into, array in zip(jax.tree.leaves(target), jax.tree.leaves(source), strict=True):
        into[rows] = array
