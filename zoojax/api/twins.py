"""Makes the sparse twins of a dense zoo: what each kind begins with.

    twin = make_pruned(path, zoo, ratios=[0.5, 0.9])
    twin = make_dropped_out(path, zoo)

Each call resumes the zoo at `path` if it was begun with the same arguments.
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
from zoojax.api.common import check_training, embedded_images, resolve_chunk, versions
from zoojax.architectures import cnn, parameters
from zoojax.architectures.base import Architecture
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
    """Prunes every member at every ratio, and fine-tunes all of them as one population.

    Args:
        out: the twin's folder.
        parent: a dense zoo.
        ratios: shares of weights to prune, each in [0, 1); 0 is fine-tuning alone.
        scope: "global" or "layer".
        learning_rate: of fine-tuning; None takes the one of the preset that the parent
            records, or else keeps each member's own.
        epochs: of fine-tuning.
        epoch: of the parent to start from; the newest if None.
        members: twins of the parent's first so many alone, or of those with these ids; of
            all if None.
        scores: from stacked parameters to stacked scores by layer, shaped like the kernels,
            of which the lowest are pruned first; None prunes by magnitude. Checked before
            anything is written.
        origin: the name of those scores, which becomes part of the twin's identity; needed
            with `scores`.
        chunk: as in `make_dense`.
        data_dir: as in `make_dense`.
        report: as in `make_dense`.

    Raises:
        ZoojaxError: bad input, or the disk refused.
    """
    if scores is not None and not origin:
        raise ZoojaxError(
            "scores need a name, by which their twins are told from others: give origin"
        )
    out, shape = expand_user(out), parent.config.shape
    sizes = {k: int(w.size) for k, w in parameters.kernels(_param_shapes(shape)).items()}
    counts = [magnitude.num_pruned(r, sizes, scope) for r in ratios]
    if not ratios or len(set(ratios)) != len(ratios):
        raise ZoojaxError("give one or more pruning ratios, each once")
    table = _twin_members(parent, presets.rate(learning_rate, parent, "mp"), members).join(
        pl.DataFrame({"ratio": list(ratios)}, schema={"ratio": pl.Float64}), how="cross"
    )
    table = table.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("id"))
    config, images, epoch = _twin_config(
        out, parent, "mp", len(table), epochs, epoch, chunk, data_dir
    )
    config = replace(config, scope=scope, origin=origin)

    scored = None
    if scores is not None:
        everyone = parent.row_indices(table["parent_id"].unique(maintain_order=True))
        params = population.take(parent.params(epoch), everyone)
        scored = _checked_scores(scores(params), params)

    def initial(rows: slice) -> tuple[dict, dict]:
        mine, which = table[rows], np.arange(len(table))[rows] % len(ratios)
        ids = mine["parent_id"].unique(maintain_order=True)
        params = population.take(parent.params(epoch), parent.row_indices(ids))
        pruned = {k: jnp.asarray([counts[i][k] for i in which], jnp.int32) for k in counts[0]}
        first = rows.start // len(ratios)
        mine_scored = population.take(scored, slice(first, first + len(ids)))
        each = (params, mine_scored)
        of_each = {parent_id: row for row, parent_id in enumerate(ids)}
        params, ranked = population.take(each, np.array([of_each[i] for i in mine["parent_id"]]))
        return jax.device_get(jax.jit(magnitude.prune_population)(params, pruned, ranked))

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
    """Trains the variational-dropout twin of every member.

    Args:
        out: the twin's folder.
        parent: a dense zoo.
        variant: "released" (convolution biases are variational, as in the paper's
            numbers) or "corrected" (no bias is).
        learning_rate: of training; None as in `make_pruned`.
        epochs: of training; the KL's weight grows by 0.01/25 an epoch whatever their number.
        epoch: of the parent to start from; the newest if None.
        members: twins of the parent's first so many alone; of all if None.
        chunk: as in `make_dense`.
        data_dir: as in `make_dense`.
        report: as in `make_dense`.

    Raises:
        ZoojaxError: bad input, or the disk refused.
    """
    out = expand_user(out)
    if variant not in variational_dropout.VARIANTS:
        known = ", ".join(variational_dropout.VARIANTS)
        raise ZoojaxError(f"no variant named '{variant}'; there are: {known}")
    table = _twin_members(parent, presets.rate(learning_rate, parent, "vd"), members)
    config, images, epoch = _twin_config(
        out, parent, "vd", len(table), epochs, epoch, chunk, data_dir
    )
    config, kept = replace(config, variant=variant), embedded_images(parent, images)

    def initial(rows: slice) -> tuple[dict, dict]:
        params = population.take(parent.params(epoch), parent.row_indices(table["parent_id"][rows]))
        log_sigma2 = variational_dropout.init_log_sigma2(params, variant)
        return {"params": params, "log_sigma2": jax.device_get(log_sigma2)}, {}

    with create_or_resume(out, config, table, kept) as writer:
        return trainer.train(writer, initial, images, report)


def _param_shapes(shape: Architecture) -> dict:
    return jax.eval_shape(lambda: cnn.init_params(shape, "uniform", 0))


def _twin_members(
    parent: Zoo, learning_rate: float | None, members: int | Sequence[int] | None
) -> pl.DataFrame:
    if parent.config.kind != "dense":
        raise ZoojaxError(f"{parent.path} is itself a twin; give the dense zoo it was made from")
    if isinstance(members, int):
        if not 1 <= members <= len(parent):
            raise ZoojaxError(f"{members} members asked for; {parent.path} has {len(parent)}")
        members = parent.members_table["id"].head(members).to_list()
    if members is not None:
        parent.row_indices(members)
    chosen = (
        parent.members_table
        if members is None
        else parent.members_table.filter(pl.col("id").is_in(members))
    )
    # Torch zoos need not say their seeds: then a member's id decides its draws.
    table = chosen.with_columns(
        pl.col("id").alias("parent_id"), pl.col("seed").fill_null(pl.col("id"))
    )
    if learning_rate is not None:
        check_learning_rate(learning_rate)
        table = table.with_columns(pl.lit(float(learning_rate)).alias("learning_rate"))
    return table


def _checked_scores(scores: Any, params: dict) -> dict[str, np.ndarray]:
    """Scores [members, ...] by layer as float arrays.

    Raises:
        ZoojaxError: layers are missing or unknown, or an array has another shape than its
            kernel, or holds NaN.
    """
    expected = {name: np.shape(kernel) for name, kernel in parameters.kernels(params).items()}
    if not isinstance(scores, dict) or scores.keys() != expected.keys():
        found = ", ".join(map(str, scores)) if isinstance(scores, dict) else type(scores).__name__
        raise ZoojaxError(f"scores are of {found}; give one array per layer: {', '.join(expected)}")
    checked = {}
    for name, shape in expected.items():
        values = np.asarray(scores[name])
        if values.shape != shape:
            raise ZoojaxError(f"scores of {name} have shape {values.shape}, not {shape}")
        if values.dtype.kind not in "fiub" or np.isnan(values).any():
            raise ZoojaxError(f"scores of {name} are not all numbers")
        checked[name] = values
    return checked


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
    base = parent.config
    check_training(epochs, base.batch_size, base.data_order, chunk)
    newest = parent.newest_epoch
    if epoch is None:
        epoch = newest
        if epoch != base.epochs:
            raise ZoojaxError(
                f"{parent.path} is at epoch {epoch} of {base.epochs}; finish its training "
                f"first, or ask for --epoch {epoch}"
            )
    elif epoch not in parent.epochs:
        raise ZoojaxError(f"{parent.path} has no epoch {epoch}; it has up to {newest}")
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
