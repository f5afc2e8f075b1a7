"""Published zoos: a folder, or a dataset on the Hugging Face Hub, that `zoojax publish` wrote.

    zoo.json, members.parquet, metrics.parquet   as in any zoo
    weights/epoch-<N>.safetensors                the states of an epoch, stacked by member
    images.npz                                   images, if they were published
    checksums.json                               SHA-256 and size of every file
    twins/<NAME>/...                             the same for each twin
    README.md, croissant.json                    descriptions

Files are read on demand, and compared with their checksums on first use.
"""

import functools
import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import jax
import msgspec
import numpy as np
import polars as pl

from zoojax.datasets.loading import load_saved
from zoojax.datasets.specs import ImageSet
from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import exists, read_json, read_table
from zoojax.json_fields import Sha256
from zoojax.storage import checkpoints
from zoojax.storage.stores import CONFIG, IMAGES, MEMBERS, METRICS, STATES
from zoojax.text import first_line, printable

CHECKSUMS = "checksums.json"
FORMAT, SCHEMA = "zoojax-published", 1
_WEIGHTS = re.compile(r"weights/epoch-(0|[1-9][0-9]{0,8})\.safetensors")
_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
# Number of members that are read at once.
_BLOCK = 1024
# Names of safetensors' types.
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8",
    "BOOL": "bool",
}  # fmt: skip


@dataclass(frozen=True)
class Checksum:
    """A file as it was published.

    Attributes:
        sha256: SHA-256 of its content, in hexadecimal.
        bytes: Its size.
    """

    sha256: Sha256
    bytes: Annotated[int, msgspec.Meta(ge=0, le=2**50)]


class Files(Protocol):
    """Where the files of a published zoo are.

    Attributes:
        place: Folder or address, for messages.
    """

    place: str

    def path(self, name: str) -> Path:
        """Returns the local path of a file."""
        ...


class FolderFiles:
    """Files of a published zoo in a folder.

    Attributes:
        place: The folder.
    """

    def __init__(self, folder: Path):
        self._folder, self.place = folder, str(folder)

    def path(self, name: str) -> Path:
        """Returns the path of a file."""
        return self._folder / name


def weights_file(epoch: int) -> str:
    """Returns the name of the file with the states of an epoch."""
    return f"weights/epoch-{epoch}.safetensors"


def is_published(folder: Path) -> bool:
    """Whether a folder is that of a published zoo."""
    return exists(folder / CHECKSUMS)


class PublishedStore:
    """A published zoo; see `zoojax.storage.stores.Store`.

    Attributes:
        path: The folder or address.
        files: The files.
    """

    in_memory = False

    def __init__(self, files: Files, path: Path | None = None):
        self.files, self.path = files, Path(files.place) if path is None else path
        self._checksums = _read_checksums(files)
        self._verified: set[str] = set()

    @property
    def has_images(self) -> bool:
        """Whether the images were published."""
        return IMAGES in self._checksums

    def names(self) -> list[str]:
        """Returns the names of all files that have a checksum, sorted."""
        return sorted(self._checksums)

    def file(self, name: str) -> Path:
        """Returns the local path of a file, after comparing it with its checksum.

        Args:
            name: Name in the folder of the zoo.

        Raises:
            ZoojaxError: If the file is missing, damaged or was not published.
        """
        if name not in self._checksums:
            raise ZoojaxError(f"{self.files.place} has no {name}")
        path, expected = self.files.path(name), self._checksums[name]
        if name not in self._verified:
            if not exists(path):
                raise ZoojaxError(
                    f"{self.files.place}: {name} is missing (SHA-256 {expected.sha256})"
                )
            if checkpoints.file_digest(path) != expected.sha256:
                raise ZoojaxError(
                    f"{self.files.place}: {name} is damaged; its SHA-256 is not {expected.sha256}"
                )
            self._verified.add(name)
        return path

    def config(self) -> Any:
        """Reads the content of zoo.json."""
        return read_json(self.file(CONFIG))

    def members(self) -> pl.DataFrame:
        """Reads the members table."""
        return read_table(self.file(MEMBERS))

    def identity(self) -> pl.DataFrame:
        """Returns the members table, which identifies the zoo."""
        return self.members()

    def metrics_version(self) -> Hashable:
        """Returns the checksum of the metrics table; None if there is none."""
        found = self._checksums.get(METRICS)
        return None if found is None else found.sha256

    def metrics(self) -> pl.DataFrame:
        """Reads the metrics table."""
        return read_table(self.file(METRICS))

    def has(self, kind: str) -> bool:
        """Whether there are checkpoints of a kind; optimizer states are not published."""
        return kind == STATES

    def epochs(self, kind: str) -> list[int]:
        """Lists the epochs with states, ascending."""
        found = (_WEIGHTS.fullmatch(name) for name in self._checksums if kind == STATES)
        return sorted(int(each[1]) for each in found if each is not None)

    def read(
        self,
        kind: str,
        epoch: int,
        rows: slice | None,
        like: dict[str, Any] | None,
        optional: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """Reads the states of an epoch; see `zoojax.storage.checkpoints.read`.

        Raises:
            ZoojaxError: If there are none, or their file is damaged or not as expected.
        """
        if kind != STATES:
            raise ZoojaxError(f"{self.files.place} has no {kind} states: they are not published")
        return read_arrays(self.file(weights_file(epoch)), rows, like, optional or {})

    def blocks(self, kind: str, epoch: int, members: int) -> list[slice]:
        """Returns blocks of rows; any rows of a file can be read."""
        del kind, epoch
        starts = range(0, max(members, 1), _BLOCK)
        return [slice(start, min(start + _BLOCK, members)) for start in starts]

    def digest(self, kind: str, epoch: int) -> str:
        """Returns the checksum of an epoch's file; empty if there is none."""
        found = self._checksums.get(weights_file(epoch)) if kind == STATES else None
        return "" if found is None else found.sha256

    def images(self) -> ImageSet | None:
        """Reads the published images."""
        return load_saved(self.file(IMAGES)) if self.has_images else None


def _read_checksums(files: Files) -> dict[str, Checksum]:
    """Reads and validates the list of files.

    Raises:
        ZoojaxError: If there is none, or it is damaged.
    """
    path = files.path(CHECKSUMS)
    if not exists(path):
        raise ZoojaxError(f"{files.place} is not a published zoo: it has no {CHECKSUMS}")
    content = read_json(path)
    known = isinstance(content, dict) and content.get("format") == FORMAT
    if not known or type(content.get("schema")) is not int:
        raise ZoojaxError(f"{files.place} is not a published zoo: {CHECKSUMS} is another file")
    if content["schema"] != SCHEMA:
        raise ZoojaxError(
            f"{files.place} has schema {content['schema']}, but this version of zoojax reads "
            f"{SCHEMA}; upgrade with: pip install -U zoojax"
        )
    try:
        checksums = msgspec.convert(content.get("files"), dict[str, Checksum])
    except msgspec.ValidationError as error:
        raise ZoojaxError(f"{files.place}: {CHECKSUMS} is damaged: {printable(error)}") from error
    for name in checksums:
        if not _FILE.fullmatch(name):
            raise ZoojaxError(
                f"{files.place}: {CHECKSUMS} is damaged: {printable(name, 80)} is not a file name"
            )
    for name in (CONFIG, MEMBERS):
        if name not in checksums:
            raise ZoojaxError(f"{files.place} is not a published zoo: {CHECKSUMS} has no {name}")
    return checksums


def flat_arrays(tree: dict[str, Any]) -> dict[str, Any]:
    """Returns the leaves of nested dicts by path, such as "params/conv1/kernel"."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(str(getattr(k, "key", k)) for k in path): leaf for path, leaf in leaves}


def read_arrays(
    file: Path,
    rows: slice | None,
    like: dict[str, Any] | None,
    optional: dict[str, Any],
) -> dict[str, Any]:
    """Reads nested dicts of arrays from a safetensors file.

    Args:
        file: The file.
        rows: Members to read; None for all.
        like: Expected shapes and dtypes, checked before memory is allocated; None accepts any.
        optional: The same for top-level entries that may be absent; a value of None is ignored.

    Raises:
        ZoojaxError: If the file is damaged, or its arrays are not those expected.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as content:
            saved = {name: _shape(content.get_slice(name)) for name in content.keys()}  # noqa: SIM118
            problem = None if like is None else _mismatch(saved, like, optional)
            if problem is not None:
                raise ValueError(problem)
            part = slice(None) if rows is None else rows
            # A copy: a part of an array would keep the whole one in memory.
            arrays = {name: np.array(content.get_slice(name)[part]) for name in saved}
    except (SafetensorError, ValueError, OSError, OverflowError) as error:
        raise ZoojaxError(f"{file} is damaged: {first_line(error)}") from error
    return _nested(arrays)


def _shape(part: Any) -> jax.ShapeDtypeStruct:
    kind = part.get_dtype()
    if kind not in _DTYPES:
        raise ValueError(f"arrays of type {printable(kind, 20)} are not supported")
    return jax.ShapeDtypeStruct(tuple(part.get_shape()), np.dtype(_DTYPES[kind]))


def _mismatch(saved: dict[str, Any], like: dict[str, Any], optional: dict[str, Any]) -> str | None:
    tops = {name.partition("/")[0] for name in saved}
    present = {name: tree for name, tree in optional.items() if tree is not None and name in tops}
    expected = flat_arrays({**like, **present})
    for name, wanted in expected.items():
        if name not in saved:
            return f"array {name} is missing"
        found = saved[name]
        if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
            return (
                f"array {name} is {found.dtype} {list(found.shape)}, not {wanted.dtype} "
                f"{list(wanted.shape)}"
            )
    unexpected = sorted(saved.keys() - expected.keys())
    return f"array {printable(unexpected[0], 80)} is unexpected" if unexpected else None


def _nested(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, values in arrays.items():
        *folders, last = name.split("/")
        functools.reduce(lambda part, key: part.setdefault(key, {}), folders, tree)[last] = values
    return tree


def damaged_files(store: PublishedStore, names: Iterable[str] | None = None) -> list[str]:
    """Describes the files of a published zoo that are missing or damaged.

    Args:
        store: The published zoo.
        names: Files to read; None for all.
    """
    problems = []
    for name in store.names() if names is None else names:
        try:
            store.file(name)
        except ZoojaxError as error:
            problems.append(str(error))
    return problems
