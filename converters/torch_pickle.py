"""Writes files as torch.save does, without torch and without the classes that the files name.

`PickleWriter` writes the opcodes of a pickle of protocol 2 for containers, numbers, text, tensors,
and instances of classes that need not exist here. The storages of the tensors are entries of the
same zip, which `TorchZip` writes one at a time.
"""

import math
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

_FOLDER = "archive"
_STORAGES = {"float32": "FloatStorage", "int64": "LongStorage"}


@dataclass(frozen=True, eq=False)
class Instance:
    """An instance of a class, with its attributes.

    Attributes:
        module: Module of the class.
        name: Name of the class.
        attributes: Its attributes by name.
    """

    module: str
    name: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Call:
    """The result of calling a class or function when the file is loaded.

    Attributes:
        module: Module of the function.
        name: Name of the function.
        arguments: Its arguments.
        items: Entries of the result, if it is a dict.
    """

    module: str
    name: str
    arguments: tuple = ()
    items: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class Tensor:
    """A contiguous tensor in a storage.

    Attributes:
        storage: Key of the storage.
        dtype: "float32" or "int64".
        numel: Number of values of the storage.
        offset: Position of its first value.
        shape: Its shape.
    """

    storage: str
    dtype: str
    numel: int
    offset: int
    shape: tuple[int, ...]


def ordered_dict(items: Mapping[str, Any]) -> Call:
    """An OrderedDict, like the state dicts of torch."""
    return Call("collections", "OrderedDict", (), items)


class PickleWriter:
    """Writes one object; objects that appear twice are written once."""

    def __init__(self) -> None:
        self._parts: list[bytes] = [b"\x80\x02"]
        self._numbers: dict[Any, int] = {}
        # Keeps objects alive whose ids are keys of `_numbers`.
        self._kept: list[object] = []

    def dump(self, value: Any) -> bytes:
        """Returns the pickle of a value.

        Args:
            value: None, bool, int, float, str, list, tuple, dict, `Instance`, `Call` or `Tensor`.
        """
        self._write(value)
        return b"".join((*self._parts, b"."))

    def _write(self, value: Any) -> None:
        if value is None or isinstance(value, bool):
            self._parts.append({None: b"N", True: b"\x88", False: b"\x89"}[value])
        elif isinstance(value, int):
            self._parts.append(_integer(value))
        elif isinstance(value, float):
            self._parts.append(b"G" + struct.pack(">d", value))
        elif isinstance(value, str):
            if not self._repeat(value):
                data = value.encode("utf-8", "surrogatepass")
                self._parts.append(b"X" + struct.pack("<I", len(data)) + data)
                self._remember(value)
        elif isinstance(value, tuple):
            self._tuple(value)
        elif not self._repeat(id(value)):
            self._kept.append(value)
            self._object(value)

    def _object(self, value: Any) -> None:
        """Writes an object with an identity."""
        if isinstance(value, list):
            self._parts.append(b"]")
            self._remember(id(value))
            self._items(value, b"e")
        elif isinstance(value, dict):
            self._parts.append(b"}")
            self._remember(id(value))
            self._items([each for item in value.items() for each in item], b"u")
        elif isinstance(value, Instance):
            self._global(value.module, value.name)
            self._parts.append(b")\x81")
            self._remember(id(value))
            self._write(dict(value.attributes))
            self._parts.append(b"b")
        elif isinstance(value, Call):
            self._global(value.module, value.name)
            self._tuple(value.arguments)
            self._parts.append(b"R")
            self._remember(id(value))
            self._items([each for item in (value.items or {}).items() for each in item], b"u")
        else:
            self._tensor(value)
            self._remember(id(value))

    def _tensor(self, tensor: Tensor) -> None:
        """Writes a tensor, whose storage is a persistent id."""
        strides = [math.prod(tensor.shape[axis + 1 :]) for axis in range(len(tensor.shape))]
        self._global("torch._utils", "_rebuild_tensor_v2")
        self._parts.append(b"((")
        self._write("storage")
        self._global("torch", _STORAGES[tensor.dtype])
        for each in (tensor.storage, "cpu", tensor.numel):
            self._write(each)
        self._parts.append(b"tQ")
        for each in (tensor.offset, tensor.shape, tuple(strides), False):
            self._write(each)
        self._global("collections", "OrderedDict")
        self._parts.append(b")Rt" + b"R")

    def _items(self, values: list[Any], end: bytes) -> None:
        if values:
            self._parts.append(b"(")
            for value in values:
                self._write(value)
            self._parts.append(end)

    def _tuple(self, values: tuple) -> None:
        self._parts.append(b"(" if len(values) > 3 else b"")
        for value in values:
            self._write(value)
        self._parts.append({0: b")", 1: b"\x85", 2: b"\x86", 3: b"\x87"}.get(len(values), b"t"))

    def _global(self, module: str, name: str) -> None:
        if not self._repeat((module, name)):
            self._parts.append(f"c{module}\n{name}\n".encode())
            self._remember((module, name))

    def _repeat(self, key: Any) -> bool:
        """Refers to an object that has been written; False if it has not."""
        number = self._numbers.get(key)
        if number is not None:
            short = number < 256
            self._parts.append(
                b"h" + bytes([number]) if short else b"j" + struct.pack("<I", number)
            )
        return number is not None

    def _remember(self, key: Any) -> None:
        number = self._numbers[key] = len(self._numbers)
        short = number < 256
        self._parts.append(b"q" + bytes([number]) if short else b"r" + struct.pack("<I", number))


def _integer(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


class TorchZip:
    """A file in the zip format of torch.save.

    Attributes:
        archive: The zip.
    """

    def __init__(self, stream: IO[bytes], content: Any):
        """Writes everything but the storages.

        Args:
            stream: The file to write to.
            content: The object that `torch.load` returns.
        """
        self.archive = zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED)
        self._entry("data.pkl", PickleWriter().dump(content))
        self._entry("byteorder", b"little")
        self._entry("version", b"3\n")

    def storage(self, key: str, data: bytes | memoryview) -> None:
        """Writes the values of a storage, little endian."""
        self._entry(f"data/{key}", data)

    def _entry(self, name: str, data: bytes | memoryview) -> None:
        # Without a time, so the same zoo results in the same file.
        self.archive.writestr(zipfile.ZipInfo(f"{_FOLDER}/{name}"), data)

    def __enter__(self) -> "TorchZip":
        return self

    def __exit__(self, *_: object) -> None:
        # Writes the directory of the zip.
        self.archive.close()
