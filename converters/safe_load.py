"""Reads files of torch.save safely: no code in them runs, and memory is bounded.

A file is never unpickled: its zip directory and checksums are checked, the opcodes of its pickle
are followed with inert objects, and its tensors are copied from its bytes. Both formats of
torch.save are supported: the zip, and the sequence of pickles that torch wrote before 1.6.
"""

import functools
import io
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from zoojax.converters.inert import (
    Storage,
    TensorRef,
    UnsafePickleError,
    shorten,
    type_name,
)
from zoojax.converters.layouts.normalizations import COUNTER
from zoojax.converters.safe_pickle import SafeUnpickler, StubFilter
from zoojax.converters.torch_zip import read_zip
from zoojax.errors import ZoojaxError
from zoojax.text import first_line, printable

State = dict[str, np.ndarray]
T = TypeVar("T")
MIB = 2**20

_MAX_CACHED_PICKLE = 2**16
_OVERHEAD = 256  # Bytes of an array in addition to its values, so that empty arrays count too.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_FLOAT32, _INT64 = np.dtype(np.float32), np.dtype(np.int64)


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


class TorchFile:
    """The content of a file of torch.save.

    Attributes:
        content: The object in it: containers, numbers, text, references to tensors, stubs.
    """

    def __init__(self, content: object, storages: Mapping[str, memoryview]):
        self.content = content
        self._storages = storages

    def part(self, content: object) -> "TorchFile":
        """Returns a part of the content as the content of a file of its own."""
        return TorchFile(content, self._storages)

    def array(self, tensor: TensorRef) -> np.ndarray:
        """Copies a tensor into a contiguous array of its own type.

        Args:
            tensor: The tensor; it is within the bounds of its storage.
        """
        dtype = tensor.storage.dtype
        if tensor.numel == 0:
            return np.empty(tensor.shape, dtype)
        values = np.frombuffer(self._storages[tensor.storage.key], dtype)[tensor.offset :]
        strides = [step * dtype.itemsize for step in tensor.strides]
        return np.array(np.ndarray(tensor.shape, dtype, values, strides=strides), order="C")


def no_stubs(module: str, name: str) -> bool:
    """Rejects every foreign class."""
    return False


def read_torch_file(
    path: Path,
    limits: Limits,
    convert: Callable[[TorchFile], T],
    is_stub: StubFilter = no_stubs,
) -> T:
    """Reads a file of torch.save after checking that this is safe.

    Args:
        path: The file.
        limits: Maximum sizes.
        convert: Converts the content to the result, or raises UnsafePickleError.
        is_stub: Whether the instances of a class (module, name) become stubs; otherwise the file
            is rejected.

    Raises:
        UnreadableFileError: If the file is unsafe, damaged, too large, not a torch file, or
            rejected by `convert`.
    """
    return guarded(
        path, lambda: convert(parse_torch_file(read_file(path, limits.file), limits, is_stub))
    )


def guarded(path: Path, read: Callable[[], T]) -> T:
    """Calls a function that reads a file; its reasons become errors that name the file.

    Raises:
        UnreadableFileError: If the function rejects the file, or needs too much memory.
    """
    try:
        return read()
    except UnsafePickleError as error:
        reason = str(error)
    except MemoryError:
        reason = "takes more memory than is available"
    # Raised inside, it would keep the frames of the error, and so the file's content, alive.
    raise UnreadableFileError(path, reason)


def to_arrays(file: TorchFile, state: object, limit: int) -> State:
    """Copies the tensors of a state dict into arrays.

    Args:
        file: The file.
        state: The state dict in it.
        limit: Maximum bytes of the arrays.

    Raises:
        UnsafePickleError: If it is not a mapping of names to float32 tensors (counters of batches
            are int64), or too large.
    """
    if not isinstance(state, dict):
        raise UnsafePickleError(f"a {type_name(state)}, not a state dict")
    arrays = {}
    for name, tensor in state.items():
        if not isinstance(name, str):
            raise UnsafePickleError(f"not a state dict: a key is a {type_name(name)}, not a string")
        limit = charge(tensor, limit)
        counts = name.endswith(f".{COUNTER}")
        arrays[name] = to_array(file, tensor, name, _INT64 if counts else _FLOAT32)
    return arrays


def charge(tensor: object, limit: int) -> int:
    """Subtracts the bytes of a tensor's copy from a limit.

    A tensor with many names is small in a file, but each copy takes memory.

    Raises:
        UnsafePickleError: If the limit does not allow it.
    """
    limit -= _OVERHEAD + (tensor.nbytes if isinstance(tensor, TensorRef) else 0)
    if limit < 0:
        raise UnsafePickleError("its tensors take more memory than is allowed")
    return limit


def memory_cost(state: Mapping[str, np.ndarray]) -> int:
    """The bytes of a state's arrays as `to_arrays` counts them."""
    return sum(_OVERHEAD + array.nbytes for array in state.values())


def to_array(file: TorchFile, tensor: object, name: str, dtype: np.dtype = _FLOAT32) -> np.ndarray:
    """Copies a tensor into a contiguous array.

    Args:
        file: The file.
        tensor: The tensor in it.
        name: A name for messages.
        dtype: The required type; conversion from another one would lose information.

    Raises:
        UnsafePickleError: If it is not a tensor, or of another type.
    """
    if not isinstance(tensor, TensorRef):
        raise UnsafePickleError(f"{shorten(name)} is a {type_name(tensor)}, not a tensor")
    if tensor.storage.dtype != dtype:
        raise UnsafePickleError(f"{shorten(name)} is {tensor.storage.dtype}, not {dtype}")
    return file.array(tensor)


def parse_torch_file(data: bytes, limits: Limits, is_stub: StubFilter = no_stubs) -> TorchFile:
    """Parses the content of a file of torch.save.

    Args:
        data: The bytes of the file.
        limits: Maximum sizes.
        is_stub: As in `read_torch_file`.

    Raises:
        UnsafePickleError: If the file is unsafe, damaged, or not a torch file.
    """
    try:
        if data.startswith(b"PK\x03\x04"):
            return _parse_zip(data, limits, is_stub)
        return _parse_legacy(data, limits, is_stub)
    except UnsafePickleError:
        raise
    except MemoryError:
        raise
    except Exception as error:
        raise UnsafePickleError(f"not a torch file, or damaged: {first_line(error)}") from error


def read_file(path: Path, limit: int) -> bytes:
    """Reads the bytes of a regular file.

    Args:
        path: The file; a symbolic link is followed.
        limit: Maximum bytes.

    Raises:
        UnsafePickleError: If it is not a regular file, empty, too large, or cannot be read.
    """
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


def _parse_zip(data: bytes, limits: Limits, is_stub: StubFilter) -> TorchFile:
    """Parses a file in the zip format."""
    records = read_zip(data, limits.entries)
    if "data.pkl" not in records:
        raise UnsafePickleError("a zip without data.pkl: not a torch file")
    if bytes(records.get("byteorder", b"little")) != b"little":
        raise UnsafePickleError("its numbers are big-endian; save it on a little-endian machine")
    if len(records["data.pkl"]) > limits.pickle:
        raise UnsafePickleError(f"its pickle has more than the {limits.pickle} bytes allowed")
    sizes = tuple((name, len(record)) for name, record in records.items())
    pickle = bytes(records["data.pkl"])
    parse = _parse_cached if len(pickle) < _MAX_CACHED_PICKLE else _parse_pickle
    content = parse(pickle, sizes, is_stub)
    prefix = "data/"
    storages = {n.removeprefix(prefix): r for n, r in records.items() if n.startswith(prefix)}
    return TorchFile(content, storages)


def _parse_pickle(pickle: bytes, sizes: tuple[tuple[str, int], ...], is_stub: StubFilter) -> object:
    record_sizes = dict(sizes)
    unpickler = SafeUnpickler(is_stub, lambda key: record_sizes.get(f"data/{key}", -1))
    return unpickler.run(io.BytesIO(pickle))


# The files of a zoo differ only in their storages: their common pickle is parsed once. Nothing
# changes a parsed object.
_parse_cached = functools.lru_cache(maxsize=32)(_parse_pickle)


def _parse_legacy(data: bytes, limits: Limits, is_stub: StubFilter) -> TorchFile:
    """Parses a file in the format before torch 1.6.

    The format is five pickles, then the length and the bytes of each storage.
    """
    stream = io.BytesIO(data[: limits.pickle])
    unpickler = SafeUnpickler(is_stub, lambda key: None, available=len(data))
    if unpickler.run(stream) != _LEGACY_MAGIC:
        raise UnsafePickleError("a pickle, but not a torch file")
    for _ in ("protocol version", "machine"):
        unpickler.run(stream)
    content = unpickler.run(stream)
    keys: Any = unpickler.run(stream)
    if not all(type(key) is str for key in keys) or sorted(keys) != sorted(unpickler.storages):
        raise UnsafePickleError("damaged: the list of its storages does not match their use")
    used: dict[str, Storage] = unpickler.storages
    claimed = sum(8 + storage.nbytes for storage in used.values())
    if stream.tell() + claimed != len(data):
        raise UnsafePickleError(f"damaged: {len(data)} bytes instead of {stream.tell() + claimed}")
    storages, view, position = {}, memoryview(data), stream.tell()
    for key in keys:
        count = int.from_bytes(data[position : position + 8], "little", signed=True)
        if count != used[key].numel:
            raise UnsafePickleError(f"damaged: storage {shorten(key)} has another length")
        storages[key] = view[position + 8 : position + 8 + used[key].nbytes]
        position += 8 + used[key].nbytes
    return TorchFile(content, storages)
