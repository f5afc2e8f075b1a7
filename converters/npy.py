"""Reads and writes arrays in NumPy's format, without pickles."""

import io
import math
from typing import BinaryIO

import numpy as np

from zoojax.converters.inert import UnsafePickleError
from zoojax.text import first_line, printable

_MAX_HEADER = 10_000
_MAX_AXES = 8


def read_array(data: io.BytesIO) -> np.ndarray:
    """Reads the next of several arrays that were saved one after the other.

    Args:
        data: The bytes, positioned at the start of the array; afterwards, at its end.

    Returns:
        A contiguous array of numbers, in the byte order of this machine.

    Raises:
        UnsafePickleError: If there is no array, it does not contain numbers, or it is damaged.
    """
    try:
        version = np.lib.format.read_magic(data)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(data, max_header_size=_MAX_HEADER)
    except MemoryError:
        raise
    except Exception as error:
        raise UnsafePickleError(f"damaged, or too few arrays: {first_line(error)}") from error
    if dtype.kind not in "fiu" or dtype.hasobject or len(shape) > _MAX_AXES:
        raise UnsafePickleError(f"an array of {printable(dtype, 40)}, not of numbers")
    size = math.prod(shape) * dtype.itemsize
    content = data.read(size)
    if len(content) != size:
        raise UnsafePickleError(f"truncated: an array of {printable(shape, 60)} is not complete")
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
    return np.ascontiguousarray(array.astype(dtype.newbyteorder("=")))


def write_array(file: BinaryIO, array: np.ndarray) -> None:
    """Appends an array to a file as `np.save` does."""
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)
