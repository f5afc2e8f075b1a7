"""Mean metrics of populations by epoch, layer and hyperparameter; pruning frequency of weights."""

import math

import jax
import numpy as np
import polars as pl

from zoojax.analysis.pairing import finite as finite_mask
from zoojax.analysis.pairing import hyperparameters, last_epoch, member_metrics, value_groups
from zoojax.architectures import parameters
from zoojax.storage.zoo import Zoo, with_states
from zoojax.tasks import SPARSITY


def summarized_metrics(zoo: Zoo) -> tuple[str, ...]:
    """The metrics of a zoo whose means are reported: accuracies or PSNR, and sparsity."""
    return (*zoo.config.shape.task.summarized, SPARSITY.name)


def summary(zoo: Zoo, metrics: pl.DataFrame | None = None) -> pl.DataFrame:
    """Mean and standard deviation over members, one row per pruning ratio or penalty, and epoch.

    Tables 5 and 6 of "Sparsified Model Zoo Twins" (arXiv 2304.13718).

    Args:
        zoo: the zoo.
        metrics: subset of the rows of its metrics; all if None.

    Returns:
        Columns `ratio` (only if the zoo has pruning ratios; likewise other options of which
        members have different values, such as `penalty`), `epoch`, `members`, `diverged`, and
        for each metric `<metric>_mean` and `<metric>_std` (over members, divisor n): fractions
        in [0, 1], or PSNR in dB. Members with non-finite values are counted in `diverged` and
        excluded from the means.
    """
    metrics = zoo.metrics_history if metrics is None else metrics
    layers = [f"sparsity_{layer}" for layer in zoo.config.shape.layers]
    options = [*zoo.config.sparsifier.per_member.values()]
    if options:
        values = zoo.members_table.select(pl.col("id").alias("member"), *options)
        metrics = metrics.join(values, on="member", maintain_order="left")
    return _statistics(metrics, [*options, "epoch"], (*summarized_metrics(zoo), *layers))


def _statistics(table: pl.DataFrame, keys: list[str], columns: tuple[str, ...]) -> pl.DataFrame:
    finite = pl.col("finite")
    statistics = [
        expression
        for name in columns
        for expression in (
            pl.col(name).filter(finite).mean().alias(f"{name}_mean"),
            pl.col(name).filter(finite).std(ddof=0).alias(f"{name}_std"),
        )
    ]
    counts = (pl.len().alias("members"), (~finite).sum().alias("diverged"))
    # In row order: the order of summation affects rounding.
    return table.group_by(keys, maintain_order=True).agg(*counts, *statistics).sort(keys)


def layer_sparsity(zoo: Zoo) -> pl.DataFrame:
    """Sparsity of each layer, one row per pruning ratio, epoch with states, and layer.

    Tables 7 and 8 and Figure 4 of the paper.

    Args:
        zoo: the zoo.

    Returns:
        `ratio` (null without pruning ratios), `epoch`, `layer`, `weights` (number of weights
        in the layer, without biases), `members`, `diverged`, `mean` and `std` in [0, 1].
    """
    metrics, parts = summary(zoo, with_states(zoo.metrics_history)), []
    if "ratio" not in metrics.columns:
        metrics = metrics.with_columns(pl.lit(None, pl.Float64).alias("ratio"))
    for layer, shape in kernel_shapes(zoo).items():
        parts.append(
            metrics.select(
                "ratio",
                "epoch",
                pl.lit(layer).alias("layer"),
                pl.lit(math.prod(shape), pl.Int64).alias("weights"),
                "members",
                "diverged",
                pl.col(f"sparsity_{layer}_mean").alias("mean"),
                pl.col(f"sparsity_{layer}_std").alias("std"),
            )
        )
    return pl.concat(parts)


def by_hyperparameters(zoo: Zoo, epoch: int | None = None) -> pl.DataFrame:
    """Mean metrics of one epoch, grouped by the values of each hyperparameter that varies.

    Args:
        zoo: the zoo; the table of a seed zoo is empty.
        epoch: the epoch; the last one if None.

    Returns:
        `hyperparameter`, `value` (as text; see `value_groups`), `ratio` (null without pruning
        ratios), `epoch`, `members`, `diverged`, and mean and std of each metric as in `summary`.
    """
    table = member_metrics(zoo)
    epoch = last_epoch(table) if epoch is None else epoch
    table = table.filter(pl.col("epoch") == epoch)
    parts = [
        _statistics(
            table.with_columns(
                pl.lit(name).alias("hyperparameter"), value_groups(table[name]).alias("value")
            ),
            ["hyperparameter", "value", "ratio", "epoch"],
            summarized_metrics(zoo),
        )
        for name in hyperparameters(zoo)
    ]
    if parts:
        return pl.concat(parts)
    text = {"hyperparameter": pl.String, "value": pl.String}
    return pl.DataFrame(schema={**text, "ratio": pl.Float64, "epoch": pl.Int64})


def pruning_frequency(zoo: Zoo, epoch: int, ratio: float | None = None) -> pl.DataFrame:
    """Fraction of members in which each single weight is zero (Figure 3 of the paper).

    Args:
        zoo: a twin.
        epoch: a saved epoch.
        ratio: pruning ratio of the members to include; all members if None.

    Returns:
        `layer`, `weight` (row-major position in the Flax kernel: kernel row, kernel column,
        input channel, feature; or input, output) and `frequency` in [0, 1]. Members that
        are not finite or have no state are excluded; if none is left there are no rows.

    Raises:
        ZoojaxError: the epoch is not on disk.
    """
    params = zoo.sparse_params(epoch)
    chosen = finite_mask(zoo, epoch)
    if ratio is not None:
        chosen &= zoo.members_table["ratio"].to_numpy() == ratio
    for leaf in jax.tree.leaves(params):
        chosen &= np.isfinite(leaf).reshape(len(zoo), -1).all(axis=1)
    parts = []
    for layer, kernel in parameters.kernels(params).items():
        zero = np.asarray(kernel)[chosen] == 0
        frequency = zero.mean(axis=0).ravel() if len(zero) else np.empty(0)
        parts.append(
            pl.DataFrame(
                {"layer": layer, "weight": np.arange(frequency.size), "frequency": frequency}
            )
        )
    return pl.concat(parts)


def kernel_shapes(zoo: Zoo) -> dict[str, tuple[int, ...]]:
    """Shape of each layer's weights, for one member."""
    shapes = zoo.config.shape.parameter_shapes()
    return {layer: shapes[layer]["kernel"] for layer in zoo.config.shape.layers}
