"""Populations over epochs: accuracy, gap, and sparsity, whole and by layer."""

import math

import jax
import numpy as np
import polars as pl

from zoojax.analysis.pairing import finite, hyperparameters, last_epoch, member_metrics
from zoojax.architectures import cnn, parameters
from zoojax.storage.zoo import Zoo, with_states

METRICS = ("train_acc", "val_acc", "test_acc", "ggap", "sparsity")


def summary(zoo: Zoo, metrics: pl.DataFrame | None = None) -> pl.DataFrame:
    """Mean and standard deviation over members, a row a pruning ratio and epoch.

    Tables 5 and 6 of "Sparsified Model Zoo Twins" (arXiv 2304.13718).

    Args:
        zoo: the zoo.
        metrics: rows of its metrics; all if None.

    Returns:
        Columns `ratio` (magnitude-pruned twins only), `epoch`, `members`, `diverged`, and
        for each metric `<metric>_mean` and `<metric>_std` (over all members, divisor n),
        shares in [0, 1]. Members with numbers that are not finite are counted in
        `diverged` and left out of the rest.
    """
    metrics = zoo.metrics_history if metrics is None else metrics
    layers = [f"sparsity_{layer}" for layer in zoo.config.shape.layers]
    keys = ["epoch"]
    if zoo.config.kind == "mp":
        ratios = zoo.members_table.select(pl.col("id").alias("member"), "ratio")
        metrics, keys = metrics.join(ratios, on="member", maintain_order="left"), ["ratio", "epoch"]
    return _statistics(metrics, keys, (*METRICS, *layers))


def _statistics(table: pl.DataFrame, keys: list[str], columns: tuple[str, ...]) -> pl.DataFrame:
    sound = pl.col("finite")
    statistics = [
        expression
        for name in columns
        for expression in (
            pl.col(name).filter(sound).mean().alias(f"{name}_mean"),
            pl.col(name).filter(sound).std(ddof=0).alias(f"{name}_std"),
        )
    ]
    counts = (pl.len().alias("members"), (~sound).sum().alias("diverged"))
    # In the order of the rows, which decides how sums are rounded.
    return table.group_by(keys, maintain_order=True).agg(*counts, *statistics).sort(keys)


def layer_sparsity(zoo: Zoo) -> pl.DataFrame:
    """Sparsity of every layer, one row per pruning ratio, epoch with states, and layer.

    Tables 7 and 8 and Figure 4 of the paper.

    Returns:
        `ratio` (null but for magnitude-pruned twins), `epoch`, `layer`, `weights` (how many
        the layer has, biases aside), `members`, `diverged`, `mean` and `std` in [0, 1].
    """
    whole, parts = summary(zoo, with_states(zoo.metrics_history)), []
    if "ratio" not in whole.columns:
        whole = whole.with_columns(pl.lit(None, pl.Float64).alias("ratio"))
    for layer, shape in kernel_shapes(zoo).items():
        parts.append(
            whole.select(
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
    """The members of one epoch by the value of each hyper-parameter that varies.

    Args:
        zoo: the zoo; of a seed zoo the table is empty.
        epoch: which; the newest measured if None.

    Returns:
        `hyperparameter`, `value` (as text), `ratio` (null but for magnitude-pruned twins),
        `epoch`, `members`, `diverged`, and mean and std of each metric as `summary` has them.
    """
    table = member_metrics(zoo)
    epoch = last_epoch(table) if epoch is None else epoch
    table = table.filter(pl.col("epoch") == epoch)
    parts = [
        _statistics(
            table.with_columns(
                pl.lit(name).alias("hyperparameter"), pl.col(name).cast(pl.String).alias("value")
            ),
            ["hyperparameter", "value", "ratio", "epoch"],
            METRICS,
        )
        for name in hyperparameters(zoo)
    ]
    if parts:
        return pl.concat(parts)
    text = {"hyperparameter": pl.String, "value": pl.String}
    return pl.DataFrame(schema={**text, "ratio": pl.Float64, "epoch": pl.Int64})


def pruning_frequency(zoo: Zoo, epoch: int, ratio: float | None = None) -> pl.DataFrame:
    """How often each single weight is zero over the members (Figure 3 of the paper).

    Args:
        zoo: a twin.
        epoch: a saved epoch.
        ratio: of magnitude-pruned twins: which members.

    Returns:
        `layer`, `weight` (position in the Flax kernel, row-major: kernel row, kernel
        column, input channel, feature; or input, output) and `frequency` in [0, 1].
        Members that are not finite, or have no state, are left out; without any left there
        are no rows.

    Raises:
        ZoojaxError: the epoch is not on disk.
    """
    params = zoo.sparse_params(epoch)
    chosen = finite(zoo, epoch)
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
    """Shapes of the kernels of one member, by layer."""
    params = jax.eval_shape(lambda: cnn.init_params(zoo.config.shape, "uniform", 0))
    return {layer: params[layer]["kernel"].shape for layer in zoo.config.shape.layers}
