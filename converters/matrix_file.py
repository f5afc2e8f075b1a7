"""Reads rows of a two-dimensional array in a .npy file; memory is bounded by those rows."""

import math
import os
from pathlib import Path

import numpy as np

from zoojax.converters.inert import UnsafePickleError
from zoojax.converters.safe_load import UnreadableFileError
from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import opened
from zoojax.text import printable

_MAX_COLUMNS, _MAX_HEADER, _MAX_BYTES = 10_000_000, 10_000, 2**44
# Rows that are read by one call.
_READ_BYTES = 32 * 2**20


class MatrixFile:
    """A matrix of floating-point numbers in a .npy file.

    Attributes:
        path: The file.
        shape: Rows and columns.
        dtype: Type of the numbers.
    """

    def __init__(self, path: Path):
        """Checks the header and the size of the file.

        Raises:
            UnsafePickleError: If the file has no matrix of numbers, or has another size.
        """
        self.path = path
        self.shape, self._is_fortran, self.dtype, self._offset = _header(path)

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Reads rows.

        Args:
            indices: Their numbers, [n].

        Returns:
            [n, columns], in the machine's byte order.

        Raises:
            UnreadableFileError: If the file has changed, or cannot be read.
        """
        result = np.empty((len(indices), self.shape[1]), self.dtype)
        try:
            with self.path.open("rb", buffering=0) as file:
                read = self._read_columns if self._is_fortran else self._read_rows
                read(file.fileno(), np.asarray(indices), result)
        except OSError as error:
            raise UnreadableFileError(self.path, error.strerror or str(error)) from error
        return result.astype(self.dtype.newbyteorder("="), copy=False)

    def _read_rows(self, file: int, indices: np.ndarray, result: np.ndarray) -> None:
        """Reads runs of adjacent rows at once."""
        width = self.shape[1] * self.dtype.itemsize
        limit = max(1, _READ_BYTES // width)
        starts = np.flatnonzero(np.diff(indices, prepend=-2) != 1)
        for start, stop in zip(starts, [*starts[1:], len(indices)], strict=True):
            for first in range(start, stop, limit):
                last = min(stop, first + limit)
                self._fill(file, result[first:last], int(indices[first]) * width)

    def _read_columns(self, file: int, indices: np.ndarray, result: np.ndarray) -> None:
        """Reads a range of each column, and takes the rows from it."""
        low, high = int(indices.min()), int(indices.max()) + 1
        column = np.empty(high - low, self.dtype)
        for number in range(self.shape[1]):
            self._fill(file, column, (number * self.shape[0] + low) * self.dtype.itemsize)
            result[:, number] = column[indices - low]

    def _fill(self, file: int, target: np.ndarray, offset: int) -> None:
        """Reads bytes into an array."""
        rest = target.reshape(-1).view(np.uint8).data
        while rest:
            count = os.preadv(file, [rest], self._offset + offset)
            if not count:
                raise UnreadableFileError(self.path, "it is truncated")
            rest, offset = rest[count:], offset + count


def _header(file: Path) -> tuple[tuple[int, int], bool, np.dtype, int]:
    """Shape, order, type and position of the numbers of a matrix."""
    try:
        with opened(file, _MAX_BYTES) as stream:
            version = np.lib.format.read_magic(stream)
            if version not in ((1, 0), (2, 0)):
                raise UnsafePickleError(f"a NumPy file of version {version}")
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, is_fortran, dtype = read(stream, max_header_size=_MAX_HEADER)
            offset = stream.tell()
            size = os.fstat(stream.fileno()).st_size
    except (UnsafePickleError, ZoojaxError):
        raise
    except Exception as error:
        raise UnsafePickleError(f"not a NumPy file, or damaged: {printable(error, 100)}") from error
    if dtype.kind != "f" or dtype.hasobject or len(shape) != 2 or dtype.itemsize > 8:
        raise UnsafePickleError(f"{len(shape)} axes of {printable(dtype, 40)}, not rows of numbers")
    if not 0 < shape[1] <= _MAX_COLUMNS or offset + math.prod(shape) * dtype.itemsize != size:
        raise UnsafePickleError(f"{size} bytes do not fit its shape {printable(shape, 60)}")
    if not shape[0]:
        raise UnsafePickleError("no rows")
    return shape, is_fortran, dtype, offset
