"""Stacked safetensors files with tables, as `convert to --format safetensors` writes them.

epoch_000025.safetensors    tensors with the members along the first axis
members.parquet             one row per member, in this order
metrics.parquet             one row per member and epoch
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from zoojax.converters import export
from zoojax.converters.batches import BatchState, StateBatch
from zoojax.converters.dialects.base import DialectOptions, ReadState
from zoojax.converters.formats.base import Listing, SourceFormat
from zoojax.converters.inert import STORAGES, TensorRef, UnsafePickleError
from zoojax.converters.ray_trials import unique_name
from zoojax.converters.reported import MAX_EPOCH, MEASURED, Row, parse_row
from zoojax.converters.safe_load import UnreadableFileError, guarded
from zoojax.converters.safe_tensors import Header, header_size, parse_header
from zoojax.converters.sources import Source
from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import entries, opened, read_table
from zoojax.hyperparameters.grid import COLUMNS
from zoojax.storage.schema import with_states
from zoojax.storage.zoo import MEMBERS, METRICS
from zoojax.text import printable

_FILE = re.compile(r"epoch_([0-9]{6,8})\.safetensors")
_MAX_BYTES = 2**44
_KEYS = {each.name: each.torch for each in COLUMNS if each.torch}
_KEYS |= {"seed": "seed", "ratio": "prune::amount", "batch_size": "training::batchsize"}
_SPLITS = ("train", "val", "test")


class StackedTensors(SourceFormat):
    """A folder with epoch_*.safetensors, members.parquet and metrics.parquet."""

    name: ClassVar = "safetensors"
    label: ClassVar = "stacked safetensors files with tables"

    def recognize(self, path: Path) -> str | None:
        """A folder with the tables and at least one file of an epoch."""
        if not path.is_dir() or not (path / MEMBERS).is_file() or not (path / METRICS).is_file():
            return None
        files = _epoch_files(path)
        return f"it has {files[min(files)].name} and {MEMBERS}" if files else None

    def members(self, path: Path, options: DialectOptions) -> Listing:
        """One member per row of the members table."""
        del options  # The files, written by zoojax, have no dialects.
        members, metrics = read_table(path / MEMBERS), read_table(path / METRICS)
        files = _epoch_files(path)
        for table, name, keys in (
            (members, MEMBERS, ("id",)),
            (metrics, METRICS, ("member", "epoch")),
        ):
            for key in keys:
                if table.schema.get(key) != pl.Int64 or table[key].has_nulls():
                    raise ZoojaxError(f"{printable(path / name)} has no column of integers {key}")
        if not len(members):
            raise ZoojaxError(f"{printable(path / MEMBERS)} has no members")
        if not files:
            raise ZoojaxError(f"{printable(path)} has no epoch_<epoch>.safetensors")
        batches = {
            epoch: guarded(file, lambda file=file: _StackedFile(file, len(members)))
            for epoch, file in files.items()
        }
        sources = _sources(members, batches)
        by_id = dict(zip(members["id"].to_list(), range(len(members)), strict=True))
        if len(by_id) < len(members):
            raise ZoojaxError(f"{printable(path / MEMBERS)} has duplicate ids")
        for row in metrics.iter_rows(named=True):
            if row["member"] in by_id and 0 <= row["epoch"] <= MAX_EPOCH:
                sources[by_id[row["member"]]].rows[row["epoch"]] = _report(row)
        for member, epoch in with_states(metrics).select("member", "epoch").iter_rows():
            if member in by_id and epoch in batches:
                index, source = by_id[member], sources[by_id[member]]
                source.states[epoch] = BatchState(batches[epoch], index)
                source.places[epoch] = f"{files[epoch].name}[{index}]"
        return Listing(sources)


def _epoch_files(path: Path) -> dict[int, Path]:
    matches = [(name, _FILE.fullmatch(name)) for name in entries(path)]
    return {int(match[1]): path / name for name, match in matches if match}


def _sources(members: pl.DataFrame, batches: Mapping[int, "_StackedFile"]) -> list[Source]:
    """The members with their hyperparameters, without states."""
    taken: set[str] = set()
    shared = next(iter(batches.values())).about.get("batch_size", "")
    sources = []
    for row in members.iter_rows(named=True):
        config = {key: row[name] for name, key in _KEYS.items() if row.get(name) is not None}
        config.setdefault("training::batchsize", shared)
        trial, split = row.get("trial"), row.get("split")
        facts = {"id": row["id"], "seed": row.get("seed")}
        facts |= {"ratio": row["ratio"]} if isinstance(row.get("ratio"), float) else {}
        name = trial if isinstance(trial, str) else export.default_name(facts)
        sources.append(
            Source(
                unique_name(name, taken),
                config=config,
                split=split if split in _SPLITS else None,
            )
        )
    return sources


def _report(row: dict[str, Any]) -> Row:
    names = {name: row.get(name) for name in (*MEASURED, "ggap")}
    return parse_row({**names, "sparsity_ratio": row.get("sparsity")})


class _StackedFile(StateBatch):
    """The states of one epoch."""

    def __init__(self, path: Path, members: int):
        """Reads the header.

        Raises:
            UnsafePickleError: If it is damaged, or a tensor has another number of members.
        """
        self._path = path
        header = _header(path)
        self.about, self._start = header.about, header.start
        self._places = {name: (ref, begin) for name, (ref, begin, _) in header.places.items()}
        for name, (ref, _) in self._places.items():
            if not ref.shape or ref.shape[0] != members:
                shown = printable(name, 80)
                raise UnsafePickleError(f"{shown} is not stacked over the {members} members")
        tensors = [ref for ref, _ in self._places.values()]
        self.is_float32 = all(ref.storage.kind == "FloatStorage" for ref in tensors)
        self.columns = sum(_size(ref) for ref in tensors)

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Reads the values of all tensors, one after the other."""
        arrays = self._read(indices)
        return np.concatenate([x.reshape(len(indices), -1) for x in arrays.values()], axis=1)

    def state(self, values: np.ndarray) -> ReadState:
        """Splits the values into tensors."""
        state, begin = {}, 0
        for name, (ref, _) in self._places.items():
            end = begin + _size(ref)
            state[name] = values[begin:end].reshape(ref.shape[1:])
            begin = end
        return ReadState(state)

    def read(self, index: int) -> ReadState:
        """Reads one state."""
        return ReadState({n: x[0] for n, x in self._read(np.array([index])).items()})

    def _read(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Reads some rows of all tensors."""
        low, high = int(indices.min()), int(indices.max()) + 1
        arrays = {}
        try:
            with self._path.open("rb", buffering=0) as file:
                for name, (ref, begin) in self._places.items():
                    dtype = np.dtype(STORAGES[ref.storage.kind])
                    width = _size(ref) * dtype.itemsize
                    data = os.pread(
                        file.fileno(), (high - low) * width, self._start + begin + low * width
                    )
                    if len(data) < (high - low) * width:
                        raise UnreadableFileError(self._path, "it is truncated")
                    stacked = np.frombuffer(data, dtype).reshape(high - low, *ref.shape[1:])
                    arrays[name] = stacked[indices - low]
        except OSError as error:
            raise UnreadableFileError(self._path, error.strerror or str(error)) from error
        return arrays


def _size(ref: TensorRef) -> int:
    return int(np.prod(ref.shape[1:], dtype=np.int64))


def _header(path: Path) -> Header:
    with opened(path, _MAX_BYTES) as file:
        size = os.fstat(file.fileno()).st_size
        start = header_size(file.read(8).ljust(8, b"\0"), size)
        file.seek(0)
        return parse_header(file.read(start), size)
