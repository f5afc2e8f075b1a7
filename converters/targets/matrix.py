"""One matrix of flat weights with its tables: the layout of the Small CNN Zoo.

    weights.npy        one state per row, ordered by member, then epoch
    layout.csv         varname, start_idx, end_idx, shape: the tensors in the columns
    metrics.csv.gz     one row per state: config.*, modeldir, step, split and metrics

Kernels have the axes of Keras: [height, width, in, out], and [in, out].
"""

import csv
import gzip
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
import polars as pl

from zoojax.converters import export
from zoojax.converters.stacked_tensors import TensorType, blocks_of, tensor_types
from zoojax.converters.state_dicts import StateDictInfo
from zoojax.converters.targets.base import Request, TargetFormat
from zoojax.converters.zoo_to_torch import (
    member_infos,
    result_names,
    select_epochs,
    states_in_order,
    trial_config,
)
from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import atomic_write
from zoojax.storage.zoo import Zoo

_MATRIX, _LAYOUT, _TABLE = "weights.npy", "layout.csv", "metrics.csv.gz"
# Names in the Small CNN Zoo; other values have the names of params.json.
_NAMES = {
    "model::nlin": "activation",
    "model::init_type": "w_init",
    "model::init_std": "init_std",
    "model::dropout": "dropout",
    "optim::optimizer": "optimizer",
    "optim::lr": "learning_rate",
    "optim::wd": "l2reg",
    "training::epochs_train": "epochs",
    "training::fraction": "train_fraction",
    "seed": "random_seed",
}
_METRICS = {f"{part}_acc": f"{part}_accuracy" for part in ("train", "val", "test")}


class FlatMatrixFolder(TargetFormat):
    """weights.npy, layout.csv and metrics.csv.gz."""

    name: ClassVar = "matrix"
    label: ClassVar = "one matrix of flat weights with tables, as in the Small CNN Zoo"

    def write(self, zoo: Zoo, out: Path, request: Request) -> int:
        """Writes the matrix and its tables."""
        epochs = select_epochs(zoo, request.epochs)
        info = member_infos(zoo)[0]
        types = tensor_types(zoo, info, epochs[0], plain=True)
        _check(zoo, types)
        states = states_in_order(zoo, epochs)
        if len(states) < len(zoo.metrics_history.filter(pl.col("epoch").is_in(epochs))):
            request.note("metrics of epochs without a state are left out")
        if len({each.prefixes for each in member_infos(zoo)}) > 1:
            request.note("layers are named as in the first member")
        with export.claim_folder(zoo, out, self.name, (_MATRIX, _LAYOUT, _TABLE)):
            atomic_write(out / _LAYOUT, lambda file: file.write_text(_layout(types)))
            atomic_write(out / _TABLE, lambda file: _write_table(file, zoo, states))

            def write(file: Path) -> None:
                with file.open("wb") as stream:
                    _write_matrix(stream, zoo, info, types, states, request)

            atomic_write(out / _MATRIX, write)
        return len(states)


def _check(zoo: Zoo, types: dict[str, TensorType]) -> None:
    """Raises an error for tensors that rows of float32 cannot hold."""
    for name, (_, dtype) in types.items():
        if dtype != np.float32:
            raise ZoojaxError(
                f"{zoo.path} has {name} of type {dtype.name}, which a matrix of float32 cannot "
                "hold; give --format trials or safetensors"
            )


def _layout(types: dict[str, TensorType]) -> str:
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(("varname", "start_idx", "end_idx", "shape"))
    begin = 0
    for name, (shape, _) in types.items():
        end = begin + math.prod(shape)
        prefix, _, leaf = name.rpartition(".")
        leaf = "kernel" if leaf == "weight" else leaf
        rows.writerow((f"zoo/{prefix}/{leaf}:0", begin, end, str(_keras_shape(shape))))
        begin = end
    return text.getvalue()


def _keras_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in _keras_axes(len(shape)))


def _keras_axes(ndim: int) -> tuple[int, ...]:
    """Axes of torch in the order of Keras: OIHW -> HWIO; reversed for others."""
    return (2, 3, 1, 0) if ndim == 4 else tuple(reversed(range(ndim)))


def _write_matrix(
    stream: IO[bytes],
    zoo: Zoo,
    info: StateDictInfo,
    types: dict[str, TensorType],
    states: pl.DataFrame,
    request: Request,
) -> None:
    """Writes the rows of each epoch to their places, block by block."""
    columns = sum(math.prod(shape) for shape, _ in types.values())
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(states), columns)}
    np.lib.format.write_array_header_1_0(stream, header)
    start, width, done = stream.tell(), 4 * columns, 0
    for (epoch,), own in states.partition_by("epoch", as_dict=True).items():
        rows, numbers = own["row"].to_numpy(), own["number"].to_numpy()
        for block in blocks_of(zoo, info, epoch, plain=True):
            inside = (rows >= block.rows.start) & (rows < block.rows.stop)
            values = _flat(block.tensors)[rows[inside] - block.rows.start]
            for first, last in _runs(numbers[inside]):
                stream.seek(start + int(numbers[inside][first]) * width)
                stream.write(values[first:last].data)
            done += len(values)
            request.report(done, len(states))


def _flat(tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Stacked tensors as rows in the axes of Keras, little endian."""
    parts = []
    for array in tensors.values():
        axes = (0, *(axis + 1 for axis in _keras_axes(array.ndim - 1)))
        parts.append(array.transpose(axes).reshape(len(array), -1))
    return np.concatenate(parts, axis=1).astype("<f4", copy=False)


def _runs(numbers: np.ndarray) -> Iterator[tuple[int, int]]:
    """Positions of the first and after the last of adjacent numbers."""
    starts = np.flatnonzero(np.diff(numbers.astype(np.int64), prepend=-2) != 1).tolist()
    yield from zip(starts, [*starts[1:], len(numbers)], strict=True)


def _write_table(file: Path, zoo: Zoo, states: pl.DataFrame) -> None:
    """Writes the table, one line per state."""
    names = {name: _METRICS.get(name, name) for name in result_names(states)}
    members = zoo.members_table.with_columns(pl.Series("modeldir", export.member_names(zoo)))
    with gzip.open(file, "wt", compresslevel=6, newline="", encoding="utf-8") as text:
        rows = csv.writer(text)
        position, facts = -1, {}
        for number, state in enumerate(states.iter_rows(named=True)):
            if state["row"] != position:
                position = state["row"]
                facts = _facts(zoo, members.row(position, named=True))
            if number == 0:
                rows.writerow((*facts, "step", *names.values()))
            metrics = (_cell(state[name]) for name in names)
            rows.writerow((*facts.values(), state["epoch"], *metrics))


def _facts(zoo: Zoo, member: dict[str, Any]) -> dict[str, Any]:
    """The cells that the states of a member share."""
    config = trial_config(zoo, member)
    facts = {f"config.{_NAMES.get(k, k)}": _cell(v) for k, v in config.items()}
    split = {"split": _cell(member["split"])} if "split" in member else {}
    return {**facts, **split, "modeldir": member["modeldir"]}


def _cell(value: Any) -> Any:
    """A value as text in CSV: the shortest text that is read as the same number."""
    return "" if value is None or value != value else value
