"""Creates the sparse twins of a dense zoo.

    twin = sparsify(zoo, MagnitudePruning(ratios=(0.5, 0.9)), "zoos/usps-mp")
    twin = sparsify(zoo, VariationalDropout(), "zoos/usps-vd")

Each call resumes the twin in its folder if it was created with the same arguments.
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from zoojax import presets
from zoojax.api.common import (
    check_dense,
    check_training,
    explain_interrupt,
    output_folder_of,
    resolve_chunk,
    versions,
)
from zoojax.api.extension import train_or_extend
from zoojax.api.initial_states import check_needs, initial_states, parent_scores
from zoojax.architectures.base import Architecture
from zoojax.architectures.checks import check_replaceable
from zoojax.datasets import specs
from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.declaration import check_whole
from zoojax.hyperparameters.grid import BY_NAME
from zoojax.hyperparameters.tables import of_twins
from zoojax.progress import progress_callback
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.dense import Dense
from zoojax.sparsifiers.registry import sparsifiers
from zoojax.storage.opening import as_zoo
from zoojax.storage.parent import parent_of
from zoojax.storage.states import StateParts
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_config import ZooConfig
from zoojax.storage.zoo_images import load_images
from zoojax.text import printable
from zoojax.training import trainer
from zoojax.training.callbacks import EpochCallback, checked_callbacks


def sparsify(
    zoo: Zoo | str | Path,
    sparsifier: Sparsifier | str,
    out: str | Path | Zoo | None = None,
    *,
    learning_rate: float | None = None,
    epochs: int | None = None,
    epoch: int | None = None,
    members: int | Sequence[int] | None = None,
    scores: Callable[[dict], dict] | None = None,
    origin: str | None = None,
    chunk: int | None = None,
    data: str | Path | None = None,
    data_dir: str | Path | None = None,
    quiet: bool = False,
    report: trainer.ProgressCallback | None = None,
    callbacks: Sequence[EpochCallback] = (),
) -> Zoo:
    """Sparsifies all members of a dense zoo as one population.

    A twin in a folder is resumed if it was interrupted, and returned unchanged if it is complete.
    With more epochs or members, it is extended as in `train_zoo`.
    Members keep the optimizer and momentum of their parents, but not the schedule: their learning
    rate is constant, unless the sparsifier changes it.

    Args:
        zoo: Dense zoo, or its folder.
        sparsifier: Sparsifier with its options, such as `MagnitudePruning(ratios=(0.5, 0.9))`,
            or the name of one, such as "variational_dropout", for its default options.
        out: Folder of the twin: new, empty, or of the same twin if it was interrupted. None
            trains in memory; `Zoo.save` writes such a twin to a folder.
        learning_rate: Learning rate of the training; None takes that of the parent's preset, or
            keeps each member's own if there is none.
        epochs: Number of epochs; None takes the sparsifier's default.
        epoch: Epoch of the parent to start from; None takes the last one.
        members: Number of parent members to use (the first N), or their ids; None uses all.
        scores: Maps stacked parameters to stacked scores by layer, of the weights' shapes; the
            weights with the lowest scores are pruned. None lets the sparsifier score them.
            The scores are checked before anything is written.
        origin: Name of the scores, recorded in the twin as part of its identity; required
            with `scores`.
        chunk: Members that a device trains at once; None chooses for this machine.
        data: The .npz file with the parent's images, if it was moved.
        data_dir: Folder of image sets; see `zoojax.datasets.loading.data_directory`.
        quiet: Whether to show no progress.
        report: Progress callback, called at the start and after each block of members; replaces
            the progress display.
        callbacks: Functions that receive the metrics of each epoch, such as `TensorBoard()`; see
            `zoojax.training.callbacks`.

    Returns:
        The twin, with all epochs complete: one member per parent member and combination of the
        sparsifier's per-member options, such as ratios.

    Raises:
        ZoojaxError: An argument is invalid, the parent is a twin or incomplete, its images
            are missing, or writing failed.

    Example:
        >>> pruning = zoojax.MagnitudePruning(ratios=(0.5, 0.9))
        >>> twin = zoojax.sparsify(zoo, pruning, epochs=1, quiet=True)
        >>> twin.metrics.filter(epoch=1).select("member", "sparsity").shape
        (6, 2)
    """
    parent = as_zoo(zoo)
    sparsifier = _checked_sparsifier(sparsifier)
    if scores is not None and not sparsifier.takes_scores:
        raise ZoojaxError(f"{sparsifier.label} takes no scores")
    if scores is not None and not callable(scores):
        raise ZoojaxError(f"scores is {printable(scores, 80)}; give a function of the parameters")
    if scores is not None and not origin:
        raise ZoojaxError("scores need a name that identifies them in the twin: give origin")
    out = output_folder_of(out)
    table = sparsifier.members(_parent_rows(parent, learning_rate, sparsifier, members))
    check_applicable(sparsifier, parent.config.shape, str(parent.path))
    check_needs(parent, sparsifier)
    config, images, epoch = _twin_config(
        out, parent, sparsifier, len(table), epochs, epoch, chunk, data or data_dir
    )
    config = replace(config, origin=origin)

    def starting(twins: pl.DataFrame) -> Callable[[slice], StateParts]:
        checked_scores = parent_scores(parent, epoch, twins, scores)
        return lambda rows: initial_states(
            parent, epoch, sparsifier, twins, rows, checked_scores, images.train
        )

    reported = checked_callbacks(callbacks)
    with (
        explain_interrupt(out),
        progress_callback(report, sparsifier.label, quiet) as shown,
    ):
        own = parent.store.has_images
        return train_or_extend(out, config, table, images, own, starting, shown, reported, parent)


def check_applicable(sparsifier: Sparsifier, architecture: Architecture, name: str) -> None:
    """Checks that members with an architecture can be sparsified.

    Args:
        sparsifier: The sparsifier.
        architecture: Architecture of the members.
        name: Name of their zoo in messages.

    Raises:
        ZoojaxError: If they cannot.
    """
    sparsifier.check_architecture(architecture)
    needs = sparsifier.needs
    if needs is not None and needs.images and architecture.task.has_own_images:
        raise ZoojaxError(
            f"{sparsifier.label} scores weights on images that members classify, but members of "
            f"{name} learn one image each; use another sparsifier, such as magnitude pruning"
        )
    if sparsifier.samples_layers:
        check_replaceable(architecture)


def named_sparsifiers(names: Sequence[str]) -> list[type[Sparsifier]]:
    """Looks up sparsifiers by name.

    Args:
        names: Names, with underscores or hyphens.

    Returns:
        The sparsifiers, in this order.

    Raises:
        ZoojaxError: If a name is unknown; the message lists the known ones.
    """
    known = {name: kind for name, kind in sparsifiers().items() if kind is not Dense}
    found = []
    for each in names:
        name = str(each).replace("-", "_")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise ZoojaxError(
                f"no sparsifier named '{printable(each, 60)}'; {hint}there are: {', '.join(known)}"
            )
        found.append(known[name])
    return found


def _checked_sparsifier(sparsifier: Any) -> Sparsifier:
    """Returns a sparsifier, looked up if it is given by name.

    Raises:
        ZoojaxError: It is not a sparsifier, or there is none of that name.
    """
    if isinstance(sparsifier, str):
        return named_sparsifiers([sparsifier])[0]()
    if not isinstance(sparsifier, Sparsifier) or isinstance(sparsifier, Dense):
        raise ZoojaxError(
            f"{printable(sparsifier, 100)} is not a sparsifier; give one such as "
            "MagnitudePruning(ratios=(0.5, 0.9))"
        )
    return sparsifier


def _parent_rows(
    parent: Zoo,
    learning_rate: float | None,
    sparsifier: Sparsifier,
    members: int | Sequence[int] | None,
) -> pl.DataFrame:
    """Returns the parent members to sparsify, with `parent_id` and the twin's learning rate.

    Its learning rate is constant, whatever the schedule of the parent was.

    Raises:
        ZoojaxError: the parent is a twin, has no such members, or the learning rate is invalid.
    """
    learning_rate = presets.resolve_learning_rate(learning_rate, parent, sparsifier)
    check_dense(parent)
    table = of_twins(parent.members_table)
    if isinstance(members, int | float | np.number):
        check_whole("members", members)
        if not 1 <= members <= len(parent):
            raise ZoojaxError(f"{members} members requested; {parent.path} has {len(parent)}")
        members = table["id"].head(int(members)).to_list()
    if members is not None:
        table = table[sorted(set(parent.row_indices(members)))]
    # Torch zoos may lack seeds: then a member's id seeds its noise.
    table = table.with_columns(
        pl.col("id").alias("parent_id"), pl.col("seed").fill_null(pl.col("id"))
    )
    if learning_rate is not None:
        BY_NAME["learning_rate"].check(learning_rate)
        table = table.with_columns(pl.lit(float(learning_rate)).alias("learning_rate"))
    return table


def _twin_config(
    out: Path | None,
    parent: Zoo,
    sparsifier: Sparsifier,
    members: int,
    epochs: int | None,
    epoch: int | None,
    chunk: int | None,
    data_dir: str | Path | None,
) -> tuple[ZooConfig, specs.ImageSet, int]:
    """Returns a twin's config, its images, and the parent's epoch to start from.

    Raises:
        ZoojaxError: an argument is invalid, the parent lacks the epoch or is incomplete, or its
            images are missing.
    """
    base = parent.config
    epochs = sparsifier.default_epochs if epochs is None else epochs
    check_training(epochs, base.batch_size, base.data_order, chunk)
    newest = parent.newest_epoch
    if epoch is None:
        epoch = newest
        if epoch != base.epochs:
            raise ZoojaxError(
                f"{parent.path} is at epoch {epoch} of {base.epochs}; finish its training "
                f"first, or start from epoch {epoch} (--epoch {epoch})"
            )
    check_whole("epoch", epoch)
    if epoch not in parent.epochs:
        raise ZoojaxError(f"{parent.path} has no epoch {epoch}; its last one is {newest}")
    images = load_images(parent, data_dir)
    config = replace(
        base,
        name=f"{base.name}-{sparsifier.method}",
        sparsifier=sparsifier.shared(),
        epochs=int(epochs),
        chunk=resolve_chunk(out, chunk, members, base.shape),
        parent=parent_of(parent, int(epoch), out),
        versions=versions(),
        earlier=None,
    )
    return config, images, epoch
