"""Quadratic Bezier curves of low loss between pairs of members, trained as one population.

Garipov et al., "Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs", 2018, section 3:
the ends are fixed, and the control point in the middle is trained at a random position of the
curve in each step. It starts halfway between the ends, so untrained curves are straight lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
import numpy as np
import polars as pl
from jax import Array

from zoojax.api.common import check_training, resolve_chunk
from zoojax.datasets.specs import Images, ImageSet
from zoojax.errors import ZoojaxError
from zoojax.geometry.lines import chosen_split, points_table
from zoojax.geometry.pairs import Ends, find_ends
from zoojax.geometry.points import Report, curve_coefficients, evaluate_sums
from zoojax.geometry.transforms import Symmetry, checked_symmetries
from zoojax.hyperparameters.declaration import check_whole
from zoojax.hyperparameters.grid import BY_NAME
from zoojax.progress import count_progress
from zoojax.runtime import population, signals
from zoojax.runtime.population import concatenate
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.steps import Loss
from zoojax.storage.opening import as_zoo
from zoojax.storage.states import StateParts
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_config import ZooConfig
from zoojax.storage.zoo_images import load_images
from zoojax.training import task_programs
from zoojax.training.blocks import MemberBlock, gather_in_order, make_blocks


@dataclass(frozen=True)
class Bezier(Sparsifier):
    """The training objective of a curve: the loss at a random position.

    The parameters that are trained are those of the control point.
    """

    name: ClassVar = "bezier"
    label: ClassVar = "Bezier curve"
    short: ClassVar = "BC"
    color: ClassVar = "#999999"
    draws_noise: ClassVar = True

    def objective(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        loss: Loss,
        trainable: dict[str, Any],
        fixed: dict[str, Any],
        epoch: Array,
        key: Array,
    ) -> tuple[Array, Any]:
        """Computes the loss at a random position of the curve."""
        t = jax.random.uniform(key)
        first, control, second = (1 - t) ** 2, 2 * t * (1 - t), t**2

        def point(a: Array, b: Array, c: Array) -> Array:
            return first * a + control * b + second * c

        return loss(jax.tree.map(point, fixed["first"], trainable["params"], fixed["second"]))


@dataclass(frozen=True)
class Curves:
    """Trained curves.

    Attributes:
        points: Loss and accuracy on the curves, in the columns of `lines`; see `barriers`.
        control: Parameters of the control points, stacked in the order of the pairs.
        pairs: Ids of the `first` and the `second` member, one row per pair.

    Example:
        >>> curves = zoojax.geometry.curves(zoo, pairs=[(0, 1)], epochs=1, points=3, quiet=True)
        >>> curves.control["conv1"]["kernel"].shape, curves.pairs.rows()
        ((1, 5, 5, 1, 8), [(0, 1)])
    """

    points: pl.DataFrame
    control: dict[str, Any]
    pairs: pl.DataFrame


def curves(
    zoo: Zoo | str | Path,
    other: Zoo | str | Path | None = None,
    *,
    pairs: Sequence[tuple[int, int]] | None = None,
    epoch: int | None = None,
    other_epoch: int | None = None,
    align: bool = False,
    symmetries: Sequence[Symmetry] = ("permutation", "sign"),
    epochs: int = 10,
    learning_rate: float = 1e-3,
    points: int = 11,
    split: Literal["train", "val", "test"] = "test",
    chunk: int | None = None,
    data_dir: str | Path | None = None,
    quiet: bool = False,
) -> Curves:
    """Trains quadratic Bezier curves between pairs of members, with Adam.

    A curve depends only on its ends and the seed of its first member.

    Args:
        zoo: The zoo, or its folder.
        other: Zoo of the second members, such as a twin; None for the same zoo.
        pairs: Ids of the two members of each pair; None as in `lines`.
        epoch: Epoch of the first members; None for the newest.
        other_epoch: Epoch of the second members; see `lines`.
        align: Whether to align the second member of each pair to the first one by weights.
        symmetries: Changes to search if `align`; see `align`.
        epochs: Epochs of training on the training images.
        learning_rate: Learning rate of Adam.
        points: Number of evenly spaced points to evaluate, with the ends.
        split: Images to evaluate on: "train", "val" or "test".
        chunk: Curves that a device trains at once; None chooses for this machine.
        data_dir: Folder of image sets.
        quiet: Whether to show no progress.

    Returns:
        The curves.

    Raises:
        ZoojaxError: If an argument is invalid, or the images are missing.

    Example:
        >>> curves = zoojax.geometry.curves(zoo, pairs=[(0, 1)], epochs=1, points=3, quiet=True)
        >>> zoojax.geometry.barriers(curves.points).columns
        ['first', 'second', 'loss_barrier', 'acc_barrier']
    """
    zoo = as_zoo(zoo)
    second = None if other is None else as_zoo(other, "other")
    ends = find_ends(zoo, second, pairs, epoch, other_epoch)
    if check_whole("points", points) < 2:
        raise ZoojaxError(f"{points} points; give at least 2")
    check_training(epochs, zoo.config.batch_size, zoo.config.data_order, chunk)
    BY_NAME["learning_rate"].check(learning_rate)
    images = load_images(zoo, data_dir)
    evaluated = chosen_split(images, split)
    aligned = checked_symmetries(symmetries) if align else None
    positions = np.linspace(0, 1, int(points))
    members = _members(ends, float(learning_rate))
    config = _config(zoo, int(epochs), len(ends), chunk)
    controls, tables, order = [], [], []
    with count_progress("epochs of curves", quiet) as report:
        for activation in np.unique(ends.activations):
            rows = np.flatnonzero(ends.activations == activation)
            nodes = ends.variables(rows, aligned)
            control = _trained(config, members[rows], nodes, images, report)
            measured = _evaluated(
                *(zoo, str(activation), nodes, control, positions, evaluated),
                images.train.images,
            )
            controls.append(control)
            tables.append(measured)
            order.append(rows)
    back = np.argsort(np.concatenate(order))
    control, measured = (population.take(concatenate(x), back) for x in (controls, tables))
    return Curves(points_table(ends.pairs, positions, measured), control, ends.pairs)


def _members(ends: Ends, learning_rate: float) -> pl.DataFrame:
    """Returns the rows of the members table with which curves are trained."""
    first = ends.zoo.members_table[ends.zoo.row_indices(ends.pairs["first"])]
    kept = first.select("seed", "activation", "init")
    ids = pl.int_range(pl.len(), dtype=pl.Int64)
    return kept.with_columns(
        pl.col("seed").fill_null(ids),
        id=ids,
        optimizer=pl.lit("adam"),
        learning_rate=pl.lit(learning_rate),
        weight_decay=pl.lit(0.0),
        dropout=pl.lit(0.0),
    )


def _config(zoo: Zoo, epochs: int, pairs: int, chunk: int | None) -> ZooConfig:
    size = resolve_chunk(None, chunk, pairs, zoo.config.shape)
    return replace(zoo.config, sparsifier=Bezier(), parent=None, epochs=epochs, chunk=size)


def _trained(
    config: ZooConfig,
    members: pl.DataFrame,
    nodes: tuple[dict[str, Any], dict[str, Any]],
    images: ImageSet,
    report: Report | None,
) -> dict[str, Any]:
    """Trains the control points of pairs with one activation; returns their parameters."""
    first, second = nodes
    middle = jax.tree.map(lambda a, b: (a + b) / 2, first["params"], second["params"])
    collections = {name: tree for name, tree in first.items() if name != "params"}
    fixed = {"first": first["params"], "second": second["params"]}
    parts = StateParts({"params": middle}, fixed, collections)
    mesh = population.make_mesh()
    task = task_programs.task_programs(config.shape.task)
    shared = population.replicate(task.shared(config, images), mesh)
    blocks = make_blocks(config, members, mesh, parts, None)
    programs = {
        block.spec: jax.jit(task_programs.epoch(block.spec, mesh), donate_argnums=0)
        for block in blocks
    }
    for epoch in range(1, config.epochs + 1):
        for block in blocks:
            _train_epoch(block, programs[block.spec], shared, epoch)
        if report is not None:
            report(epoch, config.epochs)
    return gather_in_order(blocks, [block.state.trainable for block in blocks])["params"]


def _train_epoch(block: MemberBlock, program: Any, shared: Any, epoch: int) -> None:
    block.state, metrics = program(block.state, block.hyperparams, shared, np.int32(epoch))
    signals.run_interruptible(jax.block_until_ready, metrics)


def _evaluated(
    zoo: Zoo,
    activation: str,
    nodes: tuple[dict[str, Any], dict[str, Any]],
    control: dict[str, Any],
    positions: np.ndarray,
    split: Images,
    statistics_images: np.ndarray,
) -> dict[str, np.ndarray]:
    """Evaluates the points of curves with one activation, [pairs, points]."""
    first, second = nodes
    pairs = len(jax.tree.leaves(control)[0])
    middle = {**first, "params": control}
    rows = np.arange(pairs)[:, None, None] + pairs * np.arange(3)
    rows = np.repeat(rows, len(positions), axis=1).reshape(-1, 3)
    weights = np.tile(curve_coefficients(positions, 3), (pairs, 1))
    measured = evaluate_sums(
        *(zoo.config.shape, activation, concatenate([first, middle, second]), rows, weights),
        *(split, statistics_images),
    )
    return {name: values.reshape(pairs, -1) for name, values in measured.items()}
