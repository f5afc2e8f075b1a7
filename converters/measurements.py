"""Metrics of converted members: reported values, and sparsities computed from the states."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import polars as pl

from zoojax.architectures.parameters import masked
from zoojax.converters.reported import MetricUnits, Row, is_finite
from zoojax.converters.sources import Source
from zoojax.storage.states import effective_params
from zoojax.storage.zoo_config import ZooConfig
from zoojax.tasks import Task
from zoojax.training import metrics

_sparsity = jax.jit(jax.vmap(metrics.sparsity))


def state_metrics(
    sources: Sequence[Source],
    members: pl.Series,
    units: MetricUnits,
    epoch: int,
    config: ZooConfig,
    state: dict[str, Any],
) -> pl.DataFrame:
    """Metrics of one epoch: reported accuracies and losses, and the sparsities of the states.

    Args:
        sources: The sources of the members.
        members: The ids of the members.
        units: The units of the reported metrics.
        epoch: The epoch.
        config: The config of the zoo.
        state: The states of all members, stacked, as a zoo stores them.

    Returns:
        A table with one row per member.
    """
    rows = [source.rows.get(epoch, {}) for source in sources]
    table = _reported_values(rows, units, config.shape.task)
    if "mask" in state:
        # Converted states include the weights under the mask.
        state = {**state, "params": masked(state["params"], state["mask"])}
    table |= jax.device_get(_sparsity(effective_params(config, state)))
    return pl.DataFrame(
        {
            "member": members,
            "epoch": pl.Series([epoch] * len(members), dtype=pl.Int64),
            **{name: pl.Series(values).fill_nan(None) for name, values in table.items()},
            "finite": pl.Series([True] * len(members)),
        }
    )


def reported_metrics(
    sources: Sequence[Source],
    members: pl.Series,
    units: MetricUnits,
    is_selected: Callable[[Source, int], bool],
    schema: pl.Schema,
    task: Task,
) -> pl.DataFrame:
    """Metrics of all reported epochs, with or without a state.

    Args:
        sources: The sources of the members.
        members: The ids of the members.
        units: The units of the reported metrics.
        is_selected: Decides whether the row of a source and an epoch is included.
        schema: The schema of the zoo's metrics.
        task: What the members learn.

    Returns:
        A table with one row per member and epoch. Sparsities of layers are null, because only
        states show them; `finite` is false if a reported value is not finite.
    """
    selected = [
        (member, epoch, row)
        for source, member in zip(sources, members.to_list(), strict=True)
        for epoch, row in source.rows.items()
        if is_selected(source, epoch)
    ]
    rows = [row for _, _, row in selected]
    table = _reported_values(rows, units, task)
    table["sparsity"] = np.array([units.value(row, "sparsity_ratio") for row in rows], float)
    columns = {
        "member": pl.Series([member for member, _, _ in selected], dtype=pl.Int64),
        "epoch": pl.Series([epoch for _, epoch, _ in selected], dtype=pl.Int64),
        **{name: pl.Series(values).fill_nan(None) for name, values in table.items()},
        "finite": pl.Series([is_finite(row) for row in rows], dtype=pl.Boolean),
    }
    nulls = pl.Series([None] * len(rows), dtype=pl.Null)
    return pl.DataFrame(
        {name: columns.get(name, nulls).cast(kind) for name, kind in schema.items()}
    )


def _reported_values(rows: Sequence[Row], units: MetricUnits, task: Task) -> dict[str, np.ndarray]:
    """Reported metrics of a task, float32 [rows]; NaN if unknown."""
    table = {
        each.name: np.array([units.value(row, each.name) for row in rows], np.float32)
        for each in task.metrics
    }
    if "ggap" not in table:
        return table
    computed = table["train_acc"] - table["test_acc"]
    return table | {"ggap": np.where(np.isnan(computed), table["ggap"], computed)}
