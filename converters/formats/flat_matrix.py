"""A matrix of flattened weights with its tables: the layout of the Small CNN Zoo.

    weights.npy        one state per row
    layout.csv         varname, start_idx, end_idx, shape: the tensors in the columns
    metrics.csv.gz     one row per state: config.*, modeldir, step and metrics
    mnist_split.csv    optional: NFN's split (row_splits.py)

Rows with the same modeldir are a run. Kernels have the axes of Keras: [height, width, in, out], and
[in, out].
"""

import ast
import math
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from zoojax.converters.batches import BatchState, StateBatch
from zoojax.converters.config_names import our_key
from zoojax.converters.dialects.base import DialectOptions, Draft, ReadState
from zoojax.converters.dialects.number_types import NumberTypes
from zoojax.converters.formats.base import Listing, SourceFormat
from zoojax.converters.formats.row_splits import add_row_splits
from zoojax.converters.formats.tables import find_file, read_columns, read_rows, to_value
from zoojax.converters.matrix_file import MatrixFile
from zoojax.converters.ray_trials import unique_name
from zoojax.converters.reported import (
    EPOCH_KEYS,
    MAX_EPOCH,
    metric_columns,
    parse_integer,
    row_at,
)
from zoojax.converters.safe_load import guarded
from zoojax.converters.sources import Source
from zoojax.errors import ZoojaxError
from zoojax.text import printable

_MATRIX, _LAYOUT = "weights.npy", "layout.csv"
_METRICS = ("metrics.csv.gz", "metrics.csv")
_SPLITS = ("train", "val", "test")
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
        """One member per run; rows of the matrix are read when they are needed."""
        file = path / _MATRIX
        matrix = guarded(file, lambda: MatrixFile(file))
        batch = _Matrix(matrix, _layout(path / _LAYOUT, matrix.shape[1]), options)
        tables = find_file(path, _METRICS)
        if tables is None:
            raise ZoojaxError(f"{printable(path)} has no metrics.csv or metrics.csv.gz")
        table = read_columns(tables)
        lines = len(next(iter(table.values())))
        if lines != len(matrix):
            raise ZoojaxError(
                f"{printable(tables)} has {lines} rows for {len(matrix)} rows of {_MATRIX}"
            )
        epoch_key = next((name for name in EPOCH_KEYS if name in table), None)
        notes = [f"epochs are the column {epoch_key}" if epoch_key else "it has no epochs: 0"]
        sources = _sources(table, epoch_key, batch)
        images = next(iter(table.get("config.dataset", ())), "")
        notes += add_row_splits(path, sources, len(matrix), images)
        return Listing(sources, notes)


def _sources(table: dict[str, list[str]], epoch_key: str | None, batch: StateBatch) -> list[Source]:
    """One source per run, in the order of their first rows."""
    key = next((name for name in _IDS if name in table), None)
    runs = table[key] if key else map(str, range(len(next(iter(table.values())))))
    metrics, configs = metric_columns(table), _config_columns(table)
    splits = table.get("split")
    sources: dict[str, Source] = {}
    taken: set[str] = set()
    for index, run in enumerate(runs):
        if run not in sources:
            config = {n: to_value(c[index]) for n, c in configs.items() if c[index]}
            split = splits[index] if splits and splits[index] in _SPLITS else None
            sources[run] = Source(unique_name(run, taken), config=config, split=split)
        source, place = sources[run], f"{_MATRIX}[{index}]"
        epoch = parse_integer(table[epoch_key][index], MAX_EPOCH) if epoch_key else 0
        if epoch is None:
            source.skipped[place] = f"its epoch is not from 0 to {MAX_EPOCH}"
        elif epoch in source.places:
            source.skipped[place] = f"epoch {epoch} twice"
            source.notes.append(f"epoch {epoch} twice; the later is ignored")
        else:
            source.places[epoch] = place
            source.rows[epoch] = row_at(metrics, index)
            source.states[epoch] = BatchState(batch, index)
    return list(sources.values())


def _config_columns(table: dict[str, list[str]]) -> dict[str, list[str]]:
    """The columns of hyperparameters, by their keys in the zoos' original code."""
    columns = {name.removeprefix("config."): column for name, column in table.items()}
    known = {name: column for name, column in columns.items() if "::" in name}
    for name, column in columns.items():
        key = our_key(name)
        if key is not None:
            known.setdefault(key, column)
    return known


class _Matrix(StateBatch):
    """The rows of the matrix."""

    def __init__(self, matrix: MatrixFile, variables: list[_Variable], options: DialectOptions):
        self._matrix, self._options = matrix, options
        # Weights before biases, as in torch.
        self._variables = sorted(variables, key=lambda each: not each.name.endswith(".weight"))
        self.columns = matrix.shape[1]
        self.is_float32 = matrix.dtype.newbyteorder("=") == np.float32

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Reads rows."""
        return self._matrix.rows(indices)

    def state(self, values: np.ndarray) -> ReadState:
        """Splits a row into its tensors."""
        arrays: dict[str, Any] = {}
        for each in self._variables:
            array = values[each.begin : each.end].reshape(each.shape)
            axes = (3, 2, 0, 1) if array.ndim == 4 else tuple(reversed(range(array.ndim)))
            arrays[each.name] = np.ascontiguousarray(array.transpose(axes))
        draft = Draft(arrays, self._options)
        NumberTypes().read(draft)
        return draft.finish()

    def read(self, index: int) -> ReadState:
        """Reads one row."""
        row = self._matrix.rows(np.array([index]))[0]
        return guarded(self._matrix.path, lambda: self.state(row))


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
