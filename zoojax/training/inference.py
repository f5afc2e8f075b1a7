"""Evaluation of and prediction with saved members, on any images."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import polars as pl

from zoojax.datasets import specs
from zoojax.errors import ZoojaxError
from zoojax.runtime import distributed, population, signals
from zoojax.sparsifiers.dense import Dense
from zoojax.storage.blocks import read_rows, split_by_block
from zoojax.storage.states import StateParts, split_state
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_config import ZooConfig
from zoojax.training import engine, programs, task_programs
from zoojax.training.blocks import MemberBlock, gather_in_order, make_blocks
from zoojax.training.inputs import check_image_set, checked_images, checked_params
from zoojax.training.programs import ProgramSpec


def evaluate(
    zoo: Zoo,
    images: specs.ImageSet,
    epoch: int | None = None,
    members: Sequence[int] | None = None,
) -> pl.DataFrame:
    """Evaluates the members of a saved epoch on an image set.

    Args:
        zoo: The zoo.
        images: Any image set with the image shape of the members.
        epoch: Epoch to evaluate; None for the newest.
        members: Ids of the members to evaluate, in this order; None for all.

    Returns:
        One row per member, with the columns of `Zoo.metrics`: losses and accuracies on all
        three splits, ggap and sparsities; of members that learn an image of their own, the mean
        squared error, PSNR and sparsities.

    Raises:
        ZoojaxError: If there is no such epoch, it is damaged, or the images do not fit the
            members.
    """
    check_image_set(zoo.config.shape, images)
    epoch = zoo.newest_epoch if epoch is None else epoch
    mesh = population.make_mesh()
    chosen = np.arange(len(zoo)) if members is None else _rows_of(zoo, members)
    chosen = chosen[distributed.local_rows(len(chosen))]
    task = task_programs.task_programs(zoo.config.shape.task)
    shared = population.replicate(task.shared(zoo.config, images), mesh)
    tables = []
    for rows in split_by_block(zoo, epoch, chosen):
        table, state = zoo.members_table[rows], read_rows(zoo, epoch, rows, lambda part: part)
        parts = split_state(zoo.config, state)
        blocks = make_blocks(zoo.config, table, mesh, parts, None, images)
        tables.append(metrics_table(table, epoch, blocks, evaluate_blocks(blocks, shared, mesh)))
    local_table = pl.concat(tables)
    if members is not None:
        order = pl.DataFrame({"member": zoo.members_table["id"][chosen]})
        local_table = order.join(local_table, on="member", maintain_order="left")
    return distributed.all_gather_table(local_table)


def _rows_of(zoo: Zoo, members: Sequence[int]) -> np.ndarray:
    rows = zoo.row_indices(members)
    if not len(rows):
        raise ZoojaxError("members is empty; give the id of at least one member")
    return rows


def predict(
    zoo: Zoo,
    images: np.ndarray,
    epoch: int | None = None,
    members: Sequence[int] | None = None,
) -> np.ndarray:
    """Predicts classes with the members of a saved epoch.

    Args:
        zoo: The zoo.
        images: Images normalized like those of the zoo, [n, H, W, C] floating point.
        epoch: Epoch to predict with; None for the newest.
        members: Ids of the members to use, in this order; None for all.

    Returns:
        Predicted classes, [members, n] uint16.

    Raises:
        ZoojaxError: If there is no such epoch or member, it is damaged, or the images have the
            wrong shape or type.
    """
    images = checked_images(zoo.config.shape, images)
    return _map_images(programs.predictions, *_members(zoo, epoch, members), images)


def logits(
    zoo: Zoo,
    images: np.ndarray,
    epoch: int | None = None,
    members: Sequence[int] | None = None,
) -> np.ndarray:
    """Computes logits with the members of a saved epoch.

    Args:
        zoo: The zoo.
        images: Images normalized like those of the zoo, [n, H, W, C] floating point.
        epoch: Epoch to use; None for the newest.
        members: Ids of the members to use, in this order; None for all.

    Returns:
        Logits, [members, n, classes] float32.

    Raises:
        ZoojaxError: If there is no such epoch or member, it is damaged, or the images have the
            wrong shape or type.
    """
    images = checked_images(zoo.config.shape, images)
    return _map_images(programs.logits, *_members(zoo, epoch, members), images)


def _members(
    zoo: Zoo, epoch: int | None, members: Sequence[int] | None
) -> tuple[ZooConfig, pl.DataFrame, StateParts]:
    """Returns what is needed to run some members of a zoo."""
    if members is None:
        return zoo.config, zoo.members_table, split_state(zoo.config, zoo.state(epoch))
    rows = _rows_of(zoo, members)
    state = read_rows(zoo, epoch, rows, lambda part: part)
    return zoo.config, zoo.members_table[rows], split_state(zoo.config, state)


def predict_params(
    config: ZooConfig, members_table: pl.DataFrame, params: dict[str, Any], images: np.ndarray
) -> np.ndarray:
    """Predicts classes with parameters that are not saved in a zoo.

    Args:
        config: Config of a zoo with the same architecture.
        members_table: One row per member, in the columns of `Zoo.members_table`; of the
            hyperparameters only the activation affects predictions.
        params: Stacked parameters, already masked or thresholded.
        images: Images normalized like those of the zoo, [n, H, W, C] floating point.

    Returns:
        Predicted classes, [members, n] uint16, in the order of the rows.

    Raises:
        ZoojaxError: If the parameters or images have the wrong shape or type, or the architecture
            has collections such as batch statistics.
    """
    if config.shape.collections:
        listed = ", ".join(config.shape.collections)
        raise ZoojaxError(
            f"members of architecture {config.shape.name} also need {listed}: predict with a zoo"
        )
    images = checked_images(config.shape, images)
    params = checked_params(config.shape, params, len(members_table))
    name = engine.engine(config.shape, jax.default_backend())
    chunk = population.default_chunk(len(members_table), population.make_mesh(), name)
    config = replace(config, sparsifier=Dense(), chunk=chunk)
    parts = StateParts({"params": params}, {}, {})
    return _map_images(programs.predictions, config, members_table, parts, images)


# Creates a program: a function (states, images) -> results [members, n, ...].
_MakeProgram = Callable[[ProgramSpec, Any], Callable]


def _map_images(
    make_program: _MakeProgram,
    config: ZooConfig,
    members_table: pl.DataFrame,
    parts: StateParts,
    images: np.ndarray,
) -> np.ndarray:
    """Runs a program of images with all members, block by block."""
    mesh = population.make_mesh()
    replicated = population.replicate(images, mesh)
    blocks = make_blocks(config, members_table, mesh, parts, None)
    compiled = {b.spec: _jitted(make_program, b.spec, mesh) for b in blocks}

    def run_block(block: MemberBlock) -> np.ndarray:
        result = compiled[block.spec](block.state, replicated)
        return signals.run_interruptible(np.asarray, result)

    return gather_in_order(blocks, list(map(run_block, blocks)))


@functools.cache
def _jitted(make_program: _MakeProgram, spec: ProgramSpec, mesh: Any) -> Callable:
    """Cached, because an analysis uses many epochs of a zoo, and an epoch can have many blocks."""
    return jax.jit(make_program(spec, mesh))


def evaluate_blocks(blocks: list[MemberBlock], shared: Any, mesh) -> list[dict[str, jax.Array]]:
    """Dispatches the evaluation of blocks.

    Args:
        blocks: The blocks.
        shared: Arrays that all members share, on the devices; see `TaskPrograms.shared`.
        mesh: The devices.

    Returns:
        Metrics of each block, possibly still being computed.
    """
    compiled = {b.spec: _jitted(task_programs.evaluation, b.spec, mesh) for b in blocks}
    return [compiled[b.spec](b.state, b.hyperparams, shared) for b in blocks]


def metrics_table(
    members_table: pl.DataFrame, epoch: int, blocks: list[MemberBlock], metrics: list[dict]
) -> pl.DataFrame:
    """Creates the metrics rows of one epoch.

    Args:
        members_table: One row per member of the blocks.
        epoch: The epoch.
        blocks: The blocks.
        metrics: Metrics of each block.

    Returns:
        One row per member, with the columns of metrics.parquet.
    """
    arch = blocks[0].spec.architecture
    task = task_programs.task_programs(arch.task)
    measured = task.completed(gather_in_order(blocks, metrics))
    layers = [f"sparsity_{layer}" for layer in arch.layers]
    columns = [*(each.name for each in arch.task.metrics), "sparsity", *layers, "finite"]
    return pl.DataFrame(
        {
            "member": members_table["id"],
            "epoch": pl.Series([epoch] * len(members_table), dtype=pl.Int64),
            **{name: pl.Series(measured[name]) for name in columns},
        }
    )
