"""Copies of zoos with other metrics."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from tests.support import zoo_fixtures
from zoojax.storage.zoo import METRICS, Zoo, open_zoo


def with_metrics(zoo: Zoo, to: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Zoo:
    """A copy of a zoo with changed metrics."""
    copy = zoo_fixtures.copied(zoo, to)
    change(zoo.metrics_history).write_parquet(copy / METRICS)
    return open_zoo(copy)


def with_diverged_member(zoo: Zoo, to: Path, member: int, epoch: int = 0) -> Zoo:
    """A copy of a zoo in which one member diverges at an epoch."""
    diverged = (pl.col("member") == member) & (pl.col("epoch") >= epoch)
    return with_metrics(
        zoo,
        to,
        lambda table: table.with_columns(
            pl.when(diverged).then(np.nan).otherwise(pl.col("test_acc")).alias("test_acc"),
            pl.col("finite") & ~diverged,
        ),
    )
