"""Safe reading of what torch.save wrote: nothing in the file runs, nothing absurd is allocated.

A file is first only looked at: its zip directory and checksums, and its pickle, whose
opcodes are followed without acting on any. What that finds harmless is then given to
torch's own restricted unpickler (`weights_only=True`). Both forms of torch.save are read:
the zip, and the row of pickles that torch wrote before 1.6.
"""

import functools
import io
import os
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from zoojax.converters.safe_pickle import Foreign, PickleCheck, Stub, UnsafePickleError, short
from zoojax.errors import ZoojaxError
from zoojax.text import printable

State = dict[str, np.ndarray]
T = TypeVar("T")
MIB = 2**20

_SMALL = 2**16
_OVERHEAD = 256  # bytes of an array besides its numbers, so that empty ones count too
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_ZIP_END = struct.Struct("<4s4H2LH")
_ZIP64_LOCATOR = struct.Struct("<4sLQL")
_ZIP64_END = struct.Struct("<4sQ2H2L4Q")


class UnreadableFileError(ZoojaxError):
    """A file that is not read: `path`, and in `reason` what is wrong with it."""

    def __init__(self, path: Path, reason: str):
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{printable(self.path, 1000)}: {self.reason}"


class Limits(NamedTuple):
    """How large a file may be.

    Attributes:
        file: bytes of the file, and of the arrays made from it.
        pickle: bytes of its pickles.
        entries: entries in its zip.
    """

    file: int
    pickle: int
    entries: int


def _no_classes(module: str, name: str) -> None:
    return None


def read_state(path: Path, *, limit: int = 256 * MIB) -> State:
    """Reads a bare state dict.

    Args:
        path: The file; a symbolic link is followed.
        limit: The most bytes that the file, and the arrays made from it, may have.

    Returns:
        float32 arrays by name, in the file's order, each in memory of its own.

    Raises:
        UnreadableFileError: anything else than a mapping of names to float32 tensors.
    """
    limits = Limits(limit, pickle=4 * MIB, entries=10_000)
    return read(path, limits, lambda state: to_arrays(state, limit))


def read(
    path: Path, limits: Limits, convert: Callable[[object], T], foreign: Foreign = _no_classes
) -> T:
    """Reads what torch.save wrote, after checking that it is safe to.

    Args:
        path: The file.
        limits: Its bounds.
        convert: Makes the result of what torch has loaded, or raises UnsafePickleError.
        foreign: Says which stub the instances of a class (module, name) become; None
            refuses the file.

    Raises:
        UnreadableFileError: the file is unsafe, damaged, too large or not torch's, or refused.
    """
    with warnings.catch_warnings():
        # What torch would warn of is either refused or of no concern.
        warnings.simplefilter("ignore")
        try:
            return convert(_load(_bytes(path, limits.file), limits, foreign))
        except UnsafePickleError as refusal:
            reason = str(refusal)
        except MemoryError:
            reason = "takes more memory than there is"
    # Raised above, it would keep the refusal's frames, and so the file's content, alive.
    raise UnreadableFileError(path, reason)


def to_arrays(state: object, limit: int) -> State:
    """Copies a state dict's tensors into arrays.

    Raises:
        UnsafePickleError: not a mapping of names to float32 tensors, or more than `limit` bytes.
    """
    if not isinstance(state, dict):
        raise UnsafePickleError(f"a {_kind(state)}, not a state dict")
    arrays = {}
    # Not state.items(): a pickle can hide the methods of an OrderedDict behind attributes.
    for name, tensor in dict.items(state):
        if not isinstance(name, str):
            raise UnsafePickleError(f"not a state dict: a key is a {_kind(name)}, not a string")
        # One tensor under many names takes no room in the file, but here it would.
        limit -= _OVERHEAD + (tensor.nbytes if isinstance(tensor, torch.Tensor) else 0)
        if limit < 0:
            raise UnsafePickleError("its tensors take more memory than is allowed")
        arrays[name] = to_array(tensor, name)
    return arrays


def cost(state: Mapping[str, np.ndarray]) -> int:
    """The bytes of a state's arrays, as `to_arrays` counts them."""
    return sum(_OVERHEAD + array.nbytes for array in state.values())


def to_array(tensor: object, name: str, dtype: torch.dtype = torch.float32) -> np.ndarray:
    """Copies a tensor into a contiguous array.

    Raises:
        UnsafePickleError: not a tensor, or of another type, which would not convert without loss.
    """
    if not isinstance(tensor, torch.Tensor):
        raise UnsafePickleError(f"{short(name)} is a {_kind(tensor)}, not a tensor")
    if tensor.dtype != dtype:
        raise UnsafePickleError(f"{short(name)} is {tensor.dtype}, not {dtype}")
    return np.array(tensor.detach().numpy(), order="C")


def _load(data: bytes, limits: Limits, foreign: Foreign) -> object:
    try:
        if data.startswith(b"PK\x03\x04"):
            stubs = _check_zip(data, limits, foreign)
        else:
            stubs = _check_legacy(data, limits, foreign)
    except UnsafePickleError:
        raise
    except Exception as error:
        raise UnsafePickleError(f"not a torch file, or damaged: {_line(error)}") from error
    try:
        with torch.serialization.safe_globals([(stub, name) for name, stub in stubs.items()]):
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except UnsafePickleError:
        raise
    except Exception as error:
        raise UnsafePickleError(f"torch cannot read it: {_line(error)}") from error


def _bytes(path: Path, limit: int) -> bytes:
    """The bytes of a regular file; opened without waiting, as a pipe would make us."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                folder = stat.S_ISDIR(status.st_mode)
                raise UnsafePickleError("a folder" if folder else "not a regular file")
            if status.st_size > limit:
                raise UnsafePickleError(f"{status.st_size} bytes, more than the {limit} allowed")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(status.st_size)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UnsafePickleError(f"cannot be read: {error.strerror or error}") from error
    if not data:
        raise UnsafePickleError("empty")
    return data


def _check_zip(data: bytes, limits: Limits, foreign: Foreign) -> dict[str, type[Stub]]:
    """Checks the zip form; the stubs it needs, by class."""
    records = _records(data, limits.entries)
    if "data.pkl" not in records:
        raise UnsafePickleError("a zip without data.pkl: not a torch file")
    if len(records["data.pkl"]) > limits.pickle:
        raise UnsafePickleError(f"its pickle has more than the {limits.pickle} bytes allowed")
    sizes = tuple((name, len(record)) for name, record in records.items())
    pickle = bytes(records["data.pkl"])
    return (_check_small if len(pickle) < _SMALL else _check_pickle)(pickle, sizes, foreign)


def _check_pickle(
    pickle: bytes, sizes: tuple[tuple[str, int], ...], foreign: Foreign
) -> dict[str, type[Stub]]:
    of_record = dict(sizes)
    check = PickleCheck(foreign, lambda key: of_record.get(f"data/{key}", -1))
    check.run(io.BytesIO(pickle))
    return check.stubs


# The files of a zoo differ in their storages alone: one pickle, looked at once.
_check_small = functools.lru_cache(maxsize=32)(_check_pickle)


def _check_legacy(data: bytes, limits: Limits, foreign: Foreign) -> dict[str, type[Stub]]:
    """Checks the form before torch 1.6: five pickles, then length and bytes of each storage."""
    stream = io.BytesIO(data[: limits.pickle])
    check = PickleCheck(foreign, lambda key: None, room=len(data))
    if check.run(stream) != _LEGACY_MAGIC:
        raise UnsafePickleError("a pickle, but not a torch file")
    for _ in ("protocol version", "machine", "object"):
        check.run(stream)
    keys: Any = check.run(stream)
    # Memory of a storage that is not in this list would be left as it was found.
    if not all(type(key) is str for key in keys) or sorted(keys) != sorted(check.storages):
        raise UnsafePickleError("damaged: the list of its storages does not match their use")
    claimed = sum(8 + storage.nbytes for storage in check.storages.values())
    if stream.tell() + claimed != len(data):
        raise UnsafePickleError(f"damaged: {len(data)} bytes instead of {stream.tell() + claimed}")
    return check.stubs


def _records(data: bytes, most: int) -> dict[str, memoryview]:
    """The entries of a zip as torch writes it, checked, without their common folder.

    Torch reads the zip with a library of its own, which may see another zip in bytes that
    are ambiguous; so nothing ambiguous passes.
    """
    start, count, size = _central_directory(data)
    if count > most or size > 1024 * count:
        raise UnsafePickleError(f"an absurd zip directory: {count} entries in {size} bytes")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
    if not 0 < len(entries) == count:
        raise UnsafePickleError(f"damaged: {len(entries)} zip entries instead of {count}")
    folder = entries[0].filename.partition("/")[0] + "/"
    records = {}
    end = 0
    for entry in entries:
        name = entry.filename
        if (
            name != entry.orig_filename
            or "\\" in name
            or not name.startswith(folder)
            or not {"", ".", ".."}.isdisjoint(name.split("/"))
        ):
            raise UnsafePickleError(f"an unsafe name in its zip: {short(name)}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise UnsafePickleError(
                f"a compressed zip entry, which torch never writes: {short(name)}, "
                f"{entry.file_size} bytes from {entry.compress_size}"
            )
        header = entry.header_offset
        begin = header + 30 + sum(struct.unpack_from("<2H", data, header + 26))
        if header < end or begin + entry.file_size > start:
            raise UnsafePickleError(f"zip entries overlap: {short(name)}")
        end = begin + entry.file_size
        record = memoryview(data)[begin:end]
        # Torch itself does not look at the checksums.
        if zlib.crc32(record) != entry.CRC:
            raise UnsafePickleError(f"damaged: the checksum of {short(name)} is wrong")
        records[name.removeprefix(folder)] = record
    if len({name.casefold() for name in records}) < count:
        raise UnsafePickleError("two zip entries of one name")
    return records


def _central_directory(data: bytes) -> tuple[int, int, int]:
    """Start, number of entries and size of a zip's directory, which must end the file."""
    end = len(data) - _ZIP_END.size
    end64 = end - _ZIP64_LOCATOR.size - _ZIP64_END.size
    if end64 < 0:
        raise UnsafePickleError("truncated")
    signature, *_, count, size, start, _ = _ZIP_END.unpack_from(data, end)
    if signature != b"PK\x05\x06":
        raise UnsafePickleError("truncated, or followed by other bytes: a zip without its end")
    signature, _, located, _ = _ZIP64_LOCATOR.unpack_from(data, end - _ZIP64_LOCATOR.size)
    if signature == b"PK\x06\x07":
        signature, *_, count, size, start = _ZIP64_END.unpack_from(data, end64)
        end = end64
        if signature != b"PK\x06\x06" or located != end:
            raise UnsafePickleError("damaged: the end of its zip contradicts itself")
    if start + size != end:
        raise UnsafePickleError("damaged: its zip directory is not where it should be")
    return start, count, size


def _kind(value: object) -> str:
    return type(value).__name__


def _line(error: Exception) -> str:
    """An error in one line, without torch's advice to load unsafely."""
    lines = str(error).strip().splitlines()
    return printable(lines[0], 200) if lines else type(error).__name__
