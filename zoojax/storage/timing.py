"""The time that each epoch of a zoo took: `timing.parquet` in its folder.

The times describe a run, not the zoo: they are not part of its identity, and a zoo without them is
complete.
"""

import time
from pathlib import Path
from typing import NamedTuple

import polars as pl

from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import write_table
from zoojax.filesystem.reading import exists, read_table

TIMING = "timing.parquet"
_SCHEMA = {"epoch": pl.Int64(), "seconds": pl.Float64(), "cpu_seconds": pl.Float64()}


class Duration(NamedTuple):
    """How long something took.

    Attributes:
        seconds: Elapsed time.
        cpu_seconds: CPU time of this process, summed over all cores.
    """

    seconds: float
    cpu_seconds: float


class Stopwatch:
    """Measures the time of one epoch after another."""

    def __init__(self) -> None:
        self._last = _now()

    def lap(self) -> Duration:
        """Returns the time since the last call, or since the start."""
        now, last = _now(), self._last
        self._last = now
        return Duration(now.seconds - last.seconds, now.cpu_seconds - last.cpu_seconds)


def _now() -> Duration:
    return Duration(time.perf_counter(), time.process_time())


def record(folder: Path, epoch: int, duration: Duration) -> None:
    """Adds the time of an epoch; those of this and later epochs are replaced.

    Args:
        folder: Folder of the zoo.
        epoch: The epoch; the time of epoch 0 is that of creating the initial states.
        duration: How long it took.

    Raises:
        ZoojaxError: If the file cannot be written.
    """
    try:
        earlier = read_timing(folder).filter(pl.col("epoch") < epoch)
    except ZoojaxError:
        # Damaged times must not prevent training.
        earlier = pl.DataFrame(schema=_SCHEMA)
    row = pl.DataFrame([(epoch, *duration)], schema=_SCHEMA, orient="row")
    write_table(folder / TIMING, pl.concat([earlier, row]), durable=False)


def read_timing(folder: Path) -> pl.DataFrame:
    """Reads how long the epochs of a zoo took.

    Args:
        folder: Folder of the zoo.

    Returns:
        One row per epoch: `epoch`, `seconds` and `cpu_seconds`; empty if they are unknown, as
        for converted zoos and zoos in memory.

    Raises:
        ZoojaxError: If the file is damaged.
    """
    path = folder / TIMING
    if not exists(path):
        return pl.DataFrame(schema=_SCHEMA)
    table = read_table(path)
    if dict(table.schema) != _SCHEMA:
        raise ZoojaxError(f"{path} is not a table of times; delete it (it is not needed)")
    valid = pl.all_horizontal(pl.col("seconds", "cpu_seconds").is_finite() & (pl.nth(1, 2) >= 0))
    if table.null_count().row(0) != (0, 0, 0) or not table.select(valid.all()).item():
        raise ZoojaxError(f"{path} has invalid times; delete it (it is not needed)")
    return table
