"""Trains the sparse twins of a dense zoo.

    twin = prune_zoo(path, zoo, ratios=[0.5, 0.9])
    twin = train_variational_dropout(path, zoo)

Each call resumes the twin at `path` if it was created with the same arguments.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from zoojax import presets
from zoojax.api.common import (
    check_dense,
    check_training,
    embedded_images,
    resolve_chunk,
    versions,
)
from zoojax.architectures import cnn, parameters
from zoojax.datasets import specs
from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import expand_user
from zoojax.presets import MP_EPOCHS, VD_EPOCHS
from zoojax.runtime import population
from zoojax.sparsifiers import magnitude, variational_dropout
from zoojax.storage.writer import create_or_resume
from zoojax.storage.zoo import Zoo, parent_of
from zoojax.storage.zoo_config import ZooConfig
from zoojax.storage.zoo_images import load_images
from zoojax.training import trainer
from zoojax.training.hyperparameters import check_learning_rate


def prune_zoo(
    out: str | Path,
    parent: Zoo,
    ratios: Sequence[float],
    *,
    scope: str = "global",
    learning_rate: float | None = None,
    epochs: int = MP_EPOCHS,
    epoch: int | None = None,
    members: int | Sequence[int] | None = None,
    scores: Callable[[dict], dict] | None = None,
    origin: str | None = None,
    chunk: int | None = None,
    data_dir: str | Path | None = None,
    report: trainer.ProgressCallback | None = None,
) -> Zoo:
    """Prunes each member at each ratio and fine-tunes them all as one population.

    Args:
        out: folder of the twin.
        parent: dense zoo.
        ratios: fractions of weights to prune, each in [0, 1); 0 only fine-tunes.
        scope: "global" (the smallest weights of the network) or "layer" (of each layer).
        learning_rate: learning rate of fine-tuning; None takes that of the parent's preset, or
            keeps each member's own if there is none.
        epochs: number of fine-tuning epochs.
        epoch: epoch of the parent to start from; None takes the last one.
        members: number of parent members to use (the first N), or their ids; None uses all.
        scores: maps stacked parameters to stacked scores by layer, of the weights' shapes; the
            weights with the lowest scores are pruned. None prunes by magnitude. The scores
            are checked before anything is written.
        origin: name of the scores, recorded in the twin as part of its identity; required
            with `scores`.
        chunk: members that a device trains at once; None chooses for this machine.
        data_dir: folder of image sets, or an .npz file with the parent's images.
        report: progress callback, called at the start and after each block of members.

    Returns:
        The twin: one member per parent member and ratio, with all epochs complete.

    Raises:
        ZoojaxError: an argument is invalid, the parent is a twin or incomplete, its images
            are missing, or writing failed.

    Example:
        >>> twin = prune_zoo("zoos/usps-mp", zoo, ratios=[0.5, 0.9])
        >>> twin.metrics.filter(epoch=15).select("member", "test_acc", "sparsity")
    """
    if scores is not None and not origin:
        raise ZoojaxError("scores need a name that identifies them in the twin: give origin")
    out = expand_user(out)
    counts = _num_pruned(parent, ratios, scope)
    table = _twin_members(parent, learning_rate, "mp", members).join(
        pl.DataFrame({"ratio": list(ratios)}, schema={"ratio": pl.Float64}), how="cross"
    )
    table = table.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("id"))
    config, images, epoch = _twin_config(
        out, parent, "mp", len(table), epochs, epoch, chunk, data_dir
    )
    config = replace(config, scope=scope, origin=origin)
    checked_scores = _parent_scores(parent, epoch, table, scores)

    def initial(rows: slice) -> tuple[dict, dict]:
        return _init_pruned(parent, epoch, table, rows, counts, checked_scores)

    with create_or_resume(out, config, table, embedded_images(parent, images)) as writer:
        return trainer.train(writer, initial, images, report)


def train_variational_dropout(
    out: str | Path,
    parent: Zoo,
    *,
    variant: str = "released",
    learning_rate: float | None = None,
    epochs: int = VD_EPOCHS,
    epoch: int | None = None,
    members: int | None = None,
    chunk: int | None = None,
    data_dir: str | Path | None = None,
    report: trainer.ProgressCallback | None = None,
) -> Zoo:
    """Sparsifies each member with variational dropout.

    Args:
        out: folder of the twin.
        parent: dense zoo.
        variant: "released" (convolution biases are variational, as in the paper's results) or
            "corrected" (no bias is).
        learning_rate: learning rate of the training; None takes that of the parent's preset, or
            keeps each member's own if there is none.
        epochs: number of epochs. The weight of the KL term grows by 0.01/25 per epoch,
            independent of this number.
        epoch: epoch of the parent to start from; None takes the last one.
        members: number of parent members to use (the first N); None uses all.
        chunk: members that a device trains at once; None chooses for this machine.
        data_dir: folder of image sets, or an .npz file with the parent's images.
        report: progress callback, called at the start and after each block of members.

    Returns:
        The twin: one member per parent member, with all epochs complete.

    Raises:
        ZoojaxError: an argument is invalid, the parent is a twin or incomplete, its images
            are missing, or writing failed.

    Example:
        >>> twin = train_variational_dropout("zoos/usps-vd", zoo)
        >>> twin.sparse_params()["fc1"]["kernel"]  # Zero if pruned.
    """
    out = expand_user(out)
    if variant not in variational_dropout.VARIANTS:
        known = ", ".join(variational_dropout.VARIANTS)
        raise ZoojaxError(f"no variant named '{variant}'; there are: {known}")
    table = _twin_members(parent, learning_rate, "vd", members)
    config, images, epoch = _twin_config(
        out, parent, "vd", len(table), epochs, epoch, chunk, data_dir
    )
    config = replace(config, variant=variant)

    def initial(rows: slice) -> tuple[dict, dict]:
        params = population.take(parent.params(epoch), parent.row_indices(table["parent_id"][rows]))
        log_sigma2 = variational_dropout.init_log_sigma2(params, variant)
        return {"params": params, "log_sigma2": jax.device_get(log_sigma2)}, {}

    with create_or_resume(out, config, table, embedded_images(parent, images)) as writer:
        return trainer.train(writer, initial, images, report)


def _num_pruned(parent: Zoo, ratios: Sequence[float], scope: str) -> list[dict[str, int]]:
    """Returns for each ratio the number of weights to prune by layer.

    Raises:
        ZoojaxError: a ratio is out of range or repeated, there is none, or no such scope.
    """
    shape = parent.config.shape
    params = jax.eval_shape(lambda: cnn.init_params(shape, "uniform", 0))
    sizes = {layer: int(w.size) for layer, w in parameters.kernels(params).items()}
    counts = [magnitude.num_pruned(ratio, sizes, scope) for ratio in ratios]
    if not ratios or len(set(ratios)) != len(ratios):
        raise ZoojaxError("give one or more pruning ratios, each once")
    return counts


def _parent_scores(
    parent: Zoo, epoch: int, table: pl.DataFrame, scores: Callable[[dict], dict] | None
) -> dict[str, np.ndarray] | None:
    """Returns the checked scores of the parent members of a table, in its order."""
    if scores is None:
        return None
    rows = parent.row_indices(table["parent_id"].unique(maintain_order=True))
    params = population.take(parent.params(epoch), rows)
    return _checked_scores(scores(params), params)


def _checked_scores(scores: Any, params: dict) -> dict[str, np.ndarray]:
    """Returns scores as arrays [members, ...] by layer.

    Raises:
        ZoojaxError: layers are missing or unknown, or an array has another shape than the
            layer's weights, or holds NaN.
    """
    expected = {name: np.shape(kernel) for name, kernel in parameters.kernels(params).items()}
    if not isinstance(scores, dict) or scores.keys() != expected.keys():
        given = ", ".join(map(str, scores)) if isinstance(scores, dict) else type(scores).__name__
        raise ZoojaxError(f"scores are of {given}; give one array per layer: {', '.join(expected)}")
    checked = {}
    for name, shape in expected.items():
        values = np.asarray(scores[name])
        if values.shape != shape:
            raise ZoojaxError(f"scores of {name} have shape {values.shape}, not {shape}")
        if values.dtype.kind not in "fiub" or np.isnan(values).any():
            raise ZoojaxError(f"scores of {name} are not all numbers")
        checked[name] = values
    return checked


def _init_pruned(
    parent: Zoo,
    epoch: int,
    table: pl.DataFrame,
    rows: slice,
    counts: list[dict[str, int]],
    scores: dict[str, np.ndarray] | None,
) -> tuple[dict, dict]:
    """Prunes the members in some rows of a twin's members table.

    Args:
        parent: dense zoo.
        epoch: epoch of the parent to prune.
        table: members table of the twin: parent member by parent member, then by ratio.
        rows: rows to prune.
        counts: number of weights to prune by layer, for each ratio.
        scores: scores of the parent members; None prunes by magnitude.

    Returns:
        Trainable and fixed states, stacked.
    """
    ratio_indices = np.arange(len(table))[rows] % len(counts)
    num_pruned = {
        layer: jnp.asarray([counts[i][layer] for i in ratio_indices], jnp.int32)
        for layer in counts[0]
    }
    # Read each parent member once, however many ratios it is pruned at.
    parent_ids = table[rows]["parent_id"]
    ids = parent_ids.unique(maintain_order=True)
    params = population.take(parent.params(epoch), parent.row_indices(ids))
    first = rows.start // len(counts)
    scores = population.take(scores, slice(first, first + len(ids)))
    positions = {parent_id: position for position, parent_id in enumerate(ids)}
    params, scores = population.take((params, scores), np.array([positions[i] for i in parent_ids]))
    return jax.device_get(jax.jit(magnitude.prune_population)(params, num_pruned, scores))


def _twin_members(
    parent: Zoo, learning_rate: float | None, kind: str, members: int | Sequence[int] | None
) -> pl.DataFrame:
    """Returns the members table of a twin: one row per parent member in use.

    Raises:
        ZoojaxError: the parent is a twin, has no such members, or the learning rate is invalid.
    """
    learning_rate = presets.resolve_learning_rate(learning_rate, parent, kind)
    check_dense(parent)
    table = parent.members_table
    if isinstance(members, int):
        if not 1 <= members <= len(parent):
            raise ZoojaxError(f"{members} members requested; {parent.path} has {len(parent)}")
        members = table["id"].head(members).to_list()
    if members is not None:
        parent.row_indices(members)
        table = table.filter(pl.col("id").is_in(members))
    # Torch zoos may lack seeds: then a member's id seeds its noise.
    table = table.with_columns(
        pl.col("id").alias("parent_id"), pl.col("seed").fill_null(pl.col("id"))
    )
    if learning_rate is not None:
        check_learning_rate(learning_rate)
        table = table.with_columns(pl.lit(float(learning_rate)).alias("learning_rate"))
    return table


def _twin_config(
    out: Path,
    parent: Zoo,
    kind: str,
    members: int,
    epochs: int,
    epoch: int | None,
    chunk: int | None,
    data_dir: str | Path | None,
) -> tuple[ZooConfig, specs.ImageSet, int]:
    """Returns a twin's config without its sparsifier's options, its images, and the start epoch.

    Raises:
        ZoojaxError: an argument is invalid, the parent lacks the epoch or is incomplete, or its
            images are missing.
    """
    base = parent.config
    check_training(epochs, base.batch_size, base.data_order, chunk)
    newest = parent.newest_epoch
    if epoch is None:
        epoch = newest
        if epoch != base.epochs:
            raise ZoojaxError(
                f"{parent.path} is at epoch {epoch} of {base.epochs}; finish its training "
                f"first, or start from --epoch {epoch}"
            )
    elif epoch not in parent.epochs:
        raise ZoojaxError(f"{parent.path} has no epoch {epoch}; its last one is {newest}")
    images = load_images(parent, data_dir)
    config = replace(
        base,
        name=f"{base.name}-{kind}",
        kind=kind,
        epochs=epochs,
        chunk=resolve_chunk(out, chunk, members, base.shape),
        parent=parent_of(parent, epoch, out),
        versions=versions(),
    )
    return config, images, epoch
