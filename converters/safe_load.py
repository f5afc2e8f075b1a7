"""Reads files of torch.save safely: no code in them runs, and memory is bounded.

A file is first inspected without unpickling it: its zip directory and checksums, and the
opcodes of its pickle. Only a file that passes is given to torch's restricted unpickler
(`weights_only=True`). Both formats of torch.save are supported: the zip, and the sequence of
pickles that torch wrote before 1.6.
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

from zoojax.converters.layouts.normalizations import COUNTER
from zoojax.converters.safe_pickle import (
    PickleCheck,
    Stub,
    StubResolver,
    UnsafePickleError,
    shorten,
)
from zoojax.errors import ZoojaxError
from zoojax.text import printable

State = dict[str, np.ndarray]
T = TypeVar("T")
MIB = 2**20

_MAX_CACHED_PICKLE = 2**16
_OVERHEAD = 256  # Bytes of an array in addition to its values, so that empty arrays count too.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_ZIP_END = struct.Struct("<4s4H2LH")
_ZIP64_LOCATOR = struct.Struct("<4sLQL")
_ZIP64_END = struct.Struct("<4sQ2H2L4Q")


class UnreadableFileError(ZoojaxError):
    """A file that cannot be read safely.

    Attributes:
        path: The file.
        reason: What is wrong with it.
    """

    def __init__(self, path: Path, reason: str):
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{printable(self.path, 1000)}: {self.reason}"


class Limits(NamedTuple):
    """Maximum sizes of a file.

    Attributes:
        file: Bytes of the file, and of the arrays in it.
        pickle: Bytes of its pickles.
        entries: Entries in its zip.
    """

    file: int
    pickle: int
    entries: int


def _no_stubs(module: str, name: str) -> None:
    return None


def read_state(path: Path, *, limit: int = 256 * MIB) -> State:
    """Reads a bare state dict.

    Args:
        path: The file; a symbolic link is followed.
        limit: Maximum bytes of the file, and of the arrays in it.

    Returns:
        float32 arrays by name, in the file's order; no two of them share memory.

    Raises:
        UnreadableFileError: If it is anything but a mapping of names to float32 tensors.
    """
    limits = Limits(limit, pickle=4 * MIB, entries=10_000)
    return read_torch_file(path, limits, lambda state: to_arrays(state, limit))


def read_torch_file(
    path: Path,
    limits: Limits,
    convert: Callable[[object], T],
    resolve_stub: StubResolver = _no_stubs,
) -> T:
    """Reads a file of torch.save after checking that this is safe.

    Args:
        path: The file.
        limits: Maximum sizes.
        convert: Converts what torch has loaded to the result, or raises UnsafePickleError.
        resolve_stub: Returns the stub for the instances of a class (module, name); None
            rejects the file.

    Raises:
        UnreadableFileError: If the file is unsafe, damaged, too large, not a torch file, or
            rejected by `convert`.
    """
    with warnings.catch_warnings():
        # Whatever torch warns about is either rejected or harmless.
        warnings.simplefilter("ignore")
        try:
            return convert(_load(_read_file(path, limits.file), limits, resolve_stub))
        except UnsafePickleError as error:
            reason = str(error)
        except MemoryError:
            reason = "takes more memory than is available"
    # Raised inside, it would keep the frames of the error, and so the file's content, alive.
    raise UnreadableFileError(path, reason)


def to_arrays(state: object, limit: int) -> State:
    """Copies the tensors of a state dict into arrays.

    Args:
        state: What torch has loaded.
        limit: Maximum bytes of the arrays.

    Raises:
        UnsafePickleError: If it is not a mapping of names to float32 tensors (counters of batches
            are int64), or too large.
    """
    if not isinstance(state, dict):
        raise UnsafePickleError(f"a {_type_name(state)}, not a state dict")
    arrays = {}
    # Not state.items(): a pickle can hide the methods of an OrderedDict behind attributes.
    for name, tensor in dict.items(state):
        if not isinstance(name, str):
            raise UnsafePickleError(
                f"not a state dict: a key is a {_type_name(name)}, not a string"
            )
        # One tensor under many names is small in the file, but each copy takes memory.
        limit -= _OVERHEAD + (tensor.nbytes if isinstance(tensor, torch.Tensor) else 0)
        if limit < 0:
            raise UnsafePickleError("its tensors take more memory than is allowed")
        counts = name.endswith(f".{COUNTER}")
        arrays[name] = to_array(tensor, name, torch.int64 if counts else torch.float32)
    return arrays


def memory_cost(state: Mapping[str, np.ndarray]) -> int:
    """The bytes of a state's arrays as `to_arrays` counts them."""
    return sum(_OVERHEAD + array.nbytes for array in state.values())


def to_array(tensor: object, name: str, dtype: torch.dtype = torch.float32) -> np.ndarray:
    """Copies a tensor into a contiguous array.

    Args:
        tensor: What torch has loaded.
        name: A name for messages.
        dtype: The required type; conversion from another one would lose information.

    Raises:
        UnsafePickleError: If it is not a tensor, or of another type.
    """
    if not isinstance(tensor, torch.Tensor):
        raise UnsafePickleError(f"{shorten(name)} is a {_type_name(tensor)}, not a tensor")
    if tensor.dtype != dtype:
        raise UnsafePickleError(f"{shorten(name)} is {tensor.dtype}, not {dtype}")
    return np.array(tensor.detach().numpy(), order="C")


def _load(data: bytes, limits: Limits, resolve_stub: StubResolver) -> object:
    """Checks the content of a file, then loads it with torch."""
    try:
        if data.startswith(b"PK\x03\x04"):
            stubs = _check_zip(data, limits, resolve_stub)
        else:
            stubs = _check_legacy(data, limits, resolve_stub)
    except UnsafePickleError:
        raise
    except Exception as error:
        raise UnsafePickleError(f"not a torch file, or damaged: {_first_line(error)}") from error
    try:
        with torch.serialization.safe_globals([(stub, name) for name, stub in stubs.items()]):
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except UnsafePickleError:
        raise
    except Exception as error:
        raise UnsafePickleError(f"torch cannot read it: {_first_line(error)}") from error


def _read_file(path: Path, limit: int) -> bytes:
    """The bytes of a regular file."""
    try:
        # Opening a pipe without O_NONBLOCK would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                is_folder = stat.S_ISDIR(status.st_mode)
                raise UnsafePickleError("a folder" if is_folder else "not a regular file")
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


def _check_zip(data: bytes, limits: Limits, resolve_stub: StubResolver) -> dict[str, type[Stub]]:
    """Checks a file in the zip format; returns the stubs that it needs, by class."""
    records = _read_zip(data, limits.entries)
    if "data.pkl" not in records:
        raise UnsafePickleError("a zip without data.pkl: not a torch file")
    if len(records["data.pkl"]) > limits.pickle:
        raise UnsafePickleError(f"its pickle has more than the {limits.pickle} bytes allowed")
    sizes = tuple((name, len(record)) for name, record in records.items())
    pickle = bytes(records["data.pkl"])
    check = _check_cached if len(pickle) < _MAX_CACHED_PICKLE else _check_pickle
    return check(pickle, sizes, resolve_stub)


def _check_pickle(
    pickle: bytes, sizes: tuple[tuple[str, int], ...], resolve_stub: StubResolver
) -> dict[str, type[Stub]]:
    record_sizes = dict(sizes)
    check = PickleCheck(resolve_stub, lambda key: record_sizes.get(f"data/{key}", -1))
    check.run(io.BytesIO(pickle))
    return check.stubs


# The files of a zoo differ only in their storages: their common pickle is checked once.
_check_cached = functools.lru_cache(maxsize=32)(_check_pickle)


def _check_legacy(data: bytes, limits: Limits, resolve_stub: StubResolver) -> dict[str, type[Stub]]:
    """Checks a file in the format before torch 1.6; returns the stubs that it needs, by class.

    The format is five pickles, then the length and the bytes of each storage.
    """
    stream = io.BytesIO(data[: limits.pickle])
    check = PickleCheck(resolve_stub, lambda key: None, available=len(data))
    if check.run(stream) != _LEGACY_MAGIC:
        raise UnsafePickleError("a pickle, but not a torch file")
    for _ in ("protocol version", "machine", "object"):
        check.run(stream)
    keys: Any = check.run(stream)
    # Torch would leave the memory of a storage that is not in this list uninitialized.
    if not all(type(key) is str for key in keys) or sorted(keys) != sorted(check.storages):
        raise UnsafePickleError("damaged: the list of its storages does not match their use")
    claimed = sum(8 + storage.nbytes for storage in check.storages.values())
    if stream.tell() + claimed != len(data):
        raise UnsafePickleError(f"damaged: {len(data)} bytes instead of {stream.tell() + claimed}")
    return check.stubs


def _read_zip(data: bytes, max_entries: int) -> dict[str, memoryview]:
    """Checks a zip as torch writes it and returns its entries without their common folder.

    Torch reads the zip with another library, which might interpret ambiguous bytes
    differently; therefore everything ambiguous is rejected.
    """
    start, count, size = _central_directory(data)
    if count > max_entries or size > 1024 * count:
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
            raise UnsafePickleError(f"an unsafe name in its zip: {shorten(name)}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise UnsafePickleError(
                f"a compressed zip entry, which torch never writes: {shorten(name)}, "
                f"{entry.file_size} bytes from {entry.compress_size}"
            )
        header = entry.header_offset
        begin = header + 30 + sum(struct.unpack_from("<2H", data, header + 26))
        if header < end or begin + entry.file_size > start:
            raise UnsafePickleError(f"zip entries overlap: {shorten(name)}")
        end = begin + entry.file_size
        record = memoryview(data)[begin:end]
        # Torch does not verify the checksums.
        if zlib.crc32(record) != entry.CRC:
            raise UnsafePickleError(f"damaged: the checksum of {shorten(name)} is wrong")
        records[name.removeprefix(folder)] = record
    if len({name.casefold() for name in records}) < count:
        raise UnsafePickleError("two zip entries of one name")
    return records


def _central_directory(data: bytes) -> tuple[int, int, int]:
    """Start, number of entries and size of a zip's directory, which must be at its end."""
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


def _type_name(value: object) -> str:
    return type(value).__name__


def _first_line(error: Exception) -> str:
    """The first line of an error, without torch's advice to load unsafely."""
    lines = str(error).strip().splitlines()
    return printable(lines[0], 200) if lines else type(error).__name__
