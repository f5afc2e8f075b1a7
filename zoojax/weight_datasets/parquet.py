"""Datasets as Parquet files."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import atomic_write, make_folder
from zoojax.filesystem.paths import user_path
from zoojax.filesystem.reading import exists

if TYPE_CHECKING:
    import pyarrow as pa

    from zoojax.weight_datasets.dataset import WeightDataset

# Bytes of a group of rows, which readers hold in memory at once.
_GROUP_BYTES = 64 * 2**20


def write(dataset: "WeightDataset", folder: str | Path, name: str) -> Path:
    """Writes the items of a dataset; see `WeightDataset.to_parquet`.

    Args:
        dataset: The dataset.
        folder: The folder.
        name: Name of the file.
    """
    # Slow to import, and not needed by workers.
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = user_path(folder, "folder")
    make_folder(path)
    file, table = path / f"{name}.parquet", dataset.table
    if exists(file):
        raise ZoojaxError(f"{file} exists; give another folder")
    first = _arrays(dataset, slice(0, 1))
    size = max(1, _GROUP_BYTES // max(1, sum(array.nbytes for array in first.values())))

    def save(temporary: Path) -> None:
        writer = None
        try:
            for start in range(0, len(dataset), size):
                rows = slice(start, start + size)
                arrays = _arrays(dataset, rows)
                columns = {name: _nested(array) for name, array in arrays.items()}
                shown = table[rows].to_arrow()
                group = pa.table({**{name: shown[name] for name in shown.column_names}, **columns})
                writer = writer or pq.ParquetWriter(temporary, group.schema)
                writer.write_table(group)
        finally:
            if writer is not None:
                writer.close()

    atomic_write(file, save, durable=False)
    return file


def _arrays(dataset: "WeightDataset", rows: slice) -> dict[str, np.ndarray]:
    """The arrays of items by column name."""
    batch = dataset[rows]
    items = batch[0] if isinstance(batch, tuple) else batch
    return dict(_named(items, "weights")) if not isinstance(items, dict) else dict(_named(items))


def _named(items: Any, name: str = "") -> Iterator[tuple[str, np.ndarray]]:
    if not isinstance(items, dict):
        yield name, items
        return
    for key, value in items.items():
        yield from _named(value, f"{name}/{key}" if name else key)


def _nested(array: np.ndarray) -> "pa.Array":
    """Converts [rows, ...] to nested lists of fixed sizes."""
    import pyarrow as pa

    values = pa.array(np.ascontiguousarray(array).ravel())
    for size in reversed(array.shape[1:]):
        values = pa.FixedSizeListArray.from_arrays(values, size)
    return values
