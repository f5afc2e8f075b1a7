"""Reads safetensors files: a header of JSON, then the bytes of the tensors.

The format is at https://huggingface.co/docs/safetensors. The header is checked before anything is
allocated: tensors lie within the file, do not overlap, and have the sizes of their shapes.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from zoojax.converters.inert import STORAGES, Storage, TensorRef, UnsafePickleError, shorten
from zoojax.converters.safe_load import TorchFile
from zoojax.filesystem.reading import parse_json
from zoojax.text import printable

_KINDS = {
    "F64": "DoubleStorage", "F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage",
    "I64": "LongStorage", "I32": "IntStorage", "I16": "ShortStorage", "I8": "CharStorage",
    "U8": "ByteStorage", "BOOL": "BoolStorage", "C64": "ComplexFloatStorage",
}  # fmt: skip
_MAX_HEADER_BYTES = 64 * 2**20
_MAX_TENSORS = 5_000_000
_MAX_DIMENSIONS = 64


class SafetensorsFile(NamedTuple):
    """A safetensors file.

    Attributes:
        tensors: The tensors: `content` is a dict of them by name.
        about: The metadata.
    """

    tensors: TorchFile
    about: dict[str, str]


def is_safetensors(data: bytes) -> bool:
    """Whether bytes begin like a safetensors file: the length of a header, and the header."""
    return len(data) > 9 and int.from_bytes(data[:8], "little") < len(data) and data[8:9] == b"{"


class Header(NamedTuple):
    """The header of a safetensors file.

    Attributes:
        places: References to the tensors, and their first and last bytes, by name, in order.
        about: The metadata.
        start: Position of the first tensor in the file.
    """

    places: dict[str, tuple[TensorRef, int, int]]
    about: dict[str, str]
    start: int


def parse_safetensors(data: bytes) -> SafetensorsFile:
    """Parses a safetensors file.

    Args:
        data: The bytes of the file.

    Raises:
        UnsafePickleError: If the file is damaged.
    """
    header = parse_header(data, len(data))
    values = memoryview(data)[header.start :]
    content = {name: tensor for name, (tensor, _, _) in header.places.items()}
    storages = {name: values[begin:end] for name, (_, begin, end) in header.places.items()}
    return SafetensorsFile(TorchFile(content, storages), header.about)


def header_size(data: bytes, size: int) -> int:
    """Returns the position of the first tensor of a safetensors file.

    Args:
        data: The first bytes of the file, at least 8.
        size: The size of the file.

    Raises:
        UnsafePickleError: If the file is damaged.
    """
    length = int.from_bytes(data[:8], "little")
    if not 0 < length <= min(_MAX_HEADER_BYTES, size - 8):
        raise UnsafePickleError(f"not safetensors, or damaged: a header of {length} bytes")
    return 8 + length


def parse_header(data: bytes, size: int) -> Header:
    """Parses the header of a safetensors file.

    Args:
        data: The first bytes of the file, at least its header.
        size: The size of the file.

    Raises:
        UnsafePickleError: If the file is damaged.
    """
    start = header_size(data, size)
    try:
        header = parse_json(data[8:start])
    except ValueError as error:
        raise UnsafePickleError(
            f"not safetensors, or damaged: its header is not JSON: {printable(error, 100)}"
        ) from error
    if not isinstance(header, dict) or len(header) > _MAX_TENSORS:
        raise UnsafePickleError("not safetensors, or damaged: its header is not a list of tensors")
    about = header.pop("__metadata__", {})
    if not isinstance(about, dict) or not all(isinstance(v, str) for v in about.values()):
        raise UnsafePickleError("damaged: its metadata is not text")
    places = {}
    end = 0
    for name, begin, stop, tensor in sorted(_tensors(header), key=lambda each: each[1:3]):
        if begin != end or stop > size - start:
            raise UnsafePickleError(f"damaged: {shorten(name)} is not where it should be")
        end = stop
        places[name] = tensor, begin, stop
    if end != size - start:
        raise UnsafePickleError(f"damaged: {size - start - end} bytes belong to no tensor")
    # In the order of the header.
    return Header({name: places[name] for name in header}, about, start)


def _tensors(header: Mapping[str, object]):
    """Yields name, begin, end and reference of each tensor."""
    for name, entry in header.items():
        match entry:
            case {"dtype": str(kind), "shape": list(shape), "data_offsets": [begin, end]} if len(
                shape
            ) <= _MAX_DIMENSIONS and all(
                type(n) is int and 0 <= n < 2**63 for n in (*shape, begin, end)
            ):
                pass
            case _:
                raise UnsafePickleError(f"damaged: {shorten(name)} has no type, shape and place")
        if kind not in _KINDS:
            raise UnsafePickleError(f"{shorten(name)} is {printable(kind, 20)}, which is not read")
        storage = Storage(_KINDS[kind], name, math.prod(shape))
        if storage.numel * STORAGES[storage.kind].itemsize != end - begin:
            raise UnsafePickleError(f"an absurd tensor size: {shorten(name)} has another size")
        strides = [1] * len(shape)
        for axis in range(len(shape) - 2, -1, -1):
            strides[axis] = strides[axis + 1] * shape[axis + 1]
        yield name, begin, end, TensorRef(storage, 0, tuple(shape), tuple(strides))
