"""A matrix of flattened weights with its tables: the layout of the Small CNN Zoo.

    weights.npy        one state per row
    layout.csv         varname, start_idx, end_idx, shape: the tensors in the columns
    metrics.csv.gz     one row per state: config.*, modeldir, step and metrics

Rows with the same modeldir are a run. Kernels have the axes of Keras: [height, width, in, out], and
[in, out].
"""

import ast
import functools
import math
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from zoojax.converters.dialects.base import DialectOptions, Draft, ReadState
from zoojax.converters.dialects.number_types import NumberTypes
from zoojax.converters.formats.base import Listing, SourceFormat
from zoojax.converters.formats.tables import find_file, read_rows, to_value
from zoojax.converters.inert import UnsafePickleError
from zoojax.converters.ray_trials import unique_name
from zoojax.converters.reported import EPOCH_KEYS, MAX_EPOCH, parse_integer, parse_row
from zoojax.converters.safe_load import guarded
from zoojax.converters.sources import Source
from zoojax.errors import ZoojaxError
from zoojax.text import printable

_MATRIX, _LAYOUT = "weights.npy", "layout.csv"
_METRICS = ("metrics.csv.gz", "metrics.csv")
_MAX_COLUMNS, _MAX_HEADER = 10_000_000, 10_000
_IDS = ("modeldir", "model", "run", "trial", "member")


class _Variable(NamedTuple):
    """Columns of the matrix.

    Attributes:
        name: Name of the tensor in torch.
        begin: The first column.
        end: The column after the last.
        shape: Shape of the tensor in Keras.
    """

    name: str
    begin: int
    end: int
    shape: tuple[int, ...]


class FlatMatrix(SourceFormat):
    """weights.npy with layout.csv and metrics.csv or metrics.csv.gz."""

    name: ClassVar = "matrix"
    label: ClassVar = "a matrix of flat weights with tables"

    def recognize(self, path: Path) -> str | None:
        """A folder with the matrix and its layout."""
        if (path / _MATRIX).is_file() and (path / _LAYOUT).is_file():
            return f"it has {_MATRIX} and {_LAYOUT}"
        return None

    def members(self, path: Path, options: DialectOptions) -> Listing:
        """One member per run; rows are read one by one."""
        matrix = guarded(path / _MATRIX, lambda: _open(path / _MATRIX))
        layout = _layout(path / _LAYOUT, matrix.shape[1])
        file = find_file(path, _METRICS)
        if file is None:
            raise ZoojaxError(f"{printable(path)} has no metrics.csv or metrics.csv.gz")
        rows = read_rows(file)
        if len(rows) != len(matrix):
            raise ZoojaxError(
                f"{printable(file)} has {len(rows)} rows for {len(matrix)} rows of {_MATRIX}"
            )
        key = next((name for name in _IDS if rows and name in rows[0]), None)
        epoch_key = next((name for name in EPOCH_KEYS if rows and name in rows[0]), None)
        sources: dict[str, Source] = {}
        taken: set[str] = set()
        for index, row in enumerate(rows):
            run = row[key] if key else str(index)
            if run not in sources:
                config = {n.removeprefix("config."): to_value(v) for n, v in row.items()}
                sources[run] = Source(unique_name(run, taken), config=config)
            place = f"{_MATRIX}[{index}]"
            epoch = parse_integer(row.get(epoch_key or ""), MAX_EPOCH) if epoch_key else 0
            self._add(sources[run], epoch, place, row)
            if sources[run].places.get(epoch if epoch is not None else -1) == place:
                sources[run].states[epoch or 0] = functools.partial(
                    _row, path / _MATRIX, matrix, index, layout, options
                )
        notes = [f"epochs are the column {epoch_key}" if epoch_key else "it has no epochs: 0"]
        return Listing(list(sources.values()), notes)

    def _add(self, source: Source, epoch: int | None, place: str, row: dict[str, str]) -> None:
        """Adds the place and metrics of a row to its run."""
        if epoch is None:
            source.skipped[place] = f"its epoch is not from 0 to {MAX_EPOCH}"
        elif epoch in source.places:
            source.skipped[place] = f"epoch {epoch} twice"
            source.notes.append(f"epoch {epoch} twice; the later is ignored")
        else:
            source.places[epoch] = place
            source.rows[epoch] = parse_row(row)


def _open(file: Path) -> np.ndarray:
    """Maps the matrix into memory after checking its header and size."""
    try:
        with file.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            if version not in ((1, 0), (2, 0)):
                raise UnsafePickleError(f"a NumPy file of version {version}")
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran, dtype = read(stream, max_header_size=_MAX_HEADER)
            offset = stream.tell()
            size = file.stat().st_size
    except UnsafePickleError:
        raise
    except Exception as error:
        raise UnsafePickleError(f"no NumPy file, or damaged: {printable(error, 100)}") from error
    if dtype.kind != "f" or dtype.hasobject or len(shape) != 2 or dtype.itemsize > 8:
        raise UnsafePickleError(f"{len(shape)} axes of {printable(dtype, 40)}, not rows of numbers")
    if not 0 < shape[1] <= _MAX_COLUMNS or offset + math.prod(shape) * dtype.itemsize != size:
        raise UnsafePickleError(f"{size} bytes do not fit its shape {printable(shape, 60)}")
    if not shape[0]:
        raise UnsafePickleError("no rows")
    return np.memmap(file, dtype, "r", offset, shape, order="F" if fortran else "C")


def _layout(file: Path, columns: int) -> list[_Variable]:
    """Reads the columns of each tensor, which cover the matrix without overlap."""
    variables = []
    for row in read_rows(file):
        try:
            name, begin, end = row["varname"], int(row["start_idx"]), int(row["end_idx"])
            shape = ast.literal_eval(row["shape"]) if len(row["shape"]) < 200 else None
            if not isinstance(shape, tuple) or not all(type(n) is int and n > 0 for n in shape):
                raise ValueError("no shape")
        except (KeyError, ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise ZoojaxError(
                f"{printable(file)} has a row without varname, start_idx, end_idx and shape"
            ) from error
        if math.prod(shape) != end - begin or begin < 0:
            raise ZoojaxError(f"{printable(file)}: {printable(name, 80)} does not fit its shape")
        variables.append(_Variable(_torch_name(name), begin, end, shape))
    ordered = sorted(variables, key=lambda each: each.begin)
    ends = [0, *(each.end for each in ordered)]
    if [each.begin for each in ordered] != ends[:-1] or ends[-1] != columns:
        raise ZoojaxError(f"{printable(file)} does not cover the {columns} columns of {_MATRIX}")
    if len({each.name for each in variables}) < len(variables):
        raise ZoojaxError(f"{printable(file)} names a variable twice")
    return ordered


def _torch_name(name: str) -> str:
    """Returns the torch name of a Keras variable: of "net/conv2d/kernel:0", "conv2d.weight"."""
    parts = printable(name, 200).partition(":")[0].split("/")
    leaf = {"kernel": "weight"}.get(parts[-1], parts[-1])
    return ".".join([*(parts[1:-1] or parts[:-1]), leaf])


def _row(
    file: Path,
    matrix: np.ndarray,
    index: int,
    layout: list[_Variable],
    options: DialectOptions,
) -> ReadState:
    """Reads one state, with weights before biases as in torch."""

    def read() -> ReadState:
        values = np.array(matrix[index])
        values = values.astype(values.dtype.newbyteorder("="))
        arrays: dict[str, Any] = {}
        for each in sorted(layout, key=lambda v: not v.name.endswith(".weight")):
            array = values[each.begin : each.end].reshape(each.shape)
            axes = (3, 2, 0, 1) if array.ndim == 4 else tuple(reversed(range(array.ndim)))
            arrays[each.name] = np.ascontiguousarray(array.transpose(axes))
        draft = Draft(arrays, options)
        NumberTypes().read(draft)
        return draft.finish()

    return guarded(file, read)
