"""The metrics of converted members: what trials report, and sparsities counted from states."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import polars as pl

from zoojax.architectures.parameters import masked
from zoojax.converters.reported import MEASURED, Reports, Row, is_finite
from zoojax.converters.sources import Source
from zoojax.sparsifiers.variational_dropout import apply_threshold
from zoojax.training import metrics

_sparsity = jax.jit(jax.vmap(metrics.sparsity))


def of_states(
    sources: Sequence[Source],
    members: pl.Series,
    reports: Reports,
    epoch: int,
    state: dict[str, Any],
) -> pl.DataFrame:
    """Metrics of an epoch: reported accuracies and losses, and sparsities of the states.

    Args:
        sources: what the members come from.
        members: their ids.
        reports: how their rows are to be read.
        epoch: which.
        state: of all members, stacked, as a zoo holds it.

    Returns:
        One row per member.
    """
    table = _measured([source.rows.get(epoch, {}) for source in sources], reports)
    params = state["params"]
    if "mask" in state:
        params = masked(params, state["mask"])
    if "log_sigma2" in state:
        params = apply_threshold(params, state["log_sigma2"])
    table |= jax.device_get(_sparsity(params))
    return pl.DataFrame(
        {
            "member": members,
            "epoch": pl.Series([epoch] * len(members), dtype=pl.Int64),
            **{name: pl.Series(values).fill_nan(None) for name, values in table.items()},
            "finite": pl.Series([True] * len(members)),
        }
    )


def reported(
    sources: Sequence[Source],
    members: pl.Series,
    reports: Reports,
    is_wanted: Callable[[Source, int], bool],
    schema: pl.Schema,
) -> pl.DataFrame:
    """Metrics of all epochs that were reported, with a state or without.

    Args:
        sources: what the members come from.
        members: their ids.
        reports: how their rows are to be read.
        is_wanted: whether to take a source's row of an epoch.
        schema: of the zoo's metrics.

    Returns:
        One row per member and epoch. Sparsities of layers, which only a state tells, are null;
        `finite` is false where a reported number is not finite.
    """
    chosen = [
        (member, epoch, row)
        for source, member in zip(sources, members.to_list(), strict=True)
        for epoch, row in source.rows.items()
        if is_wanted(source, epoch)
    ]
    rows = [row for _, _, row in chosen]
    table = _measured(rows, reports)
    table["sparsity"] = np.array([reports.value(row, "sparsity_ratio") for row in rows], float)
    columns = {
        "member": pl.Series([member for member, _, _ in chosen], dtype=pl.Int64),
        "epoch": pl.Series([epoch for _, epoch, _ in chosen], dtype=pl.Int64),
        **{name: pl.Series(values).fill_nan(None) for name, values in table.items()},
        "finite": pl.Series([is_finite(row) for row in rows], dtype=pl.Boolean),
    }
    unknown = pl.Series([None] * len(rows), dtype=pl.Null)
    return pl.DataFrame(
        {name: columns.get(name, unknown).cast(kind) for name, kind in schema.items()}
    )


def _measured(rows: Sequence[Row], reports: Reports) -> dict[str, np.ndarray]:
    """Reported losses, accuracies and gaps, float32 [rows]; NaN where unknown."""
    table = {
        name: np.array([reports.value(row, name) for row in rows], np.float32) for name in MEASURED
    }
    given = np.array([reports.value(row, "ggap") for row in rows], np.float32)
    own = table["train_acc"] - table["test_acc"]
    return table | {"ggap": np.where(np.isnan(own), given, own)}
