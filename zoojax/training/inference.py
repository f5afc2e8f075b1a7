"""Measures saved members, and predicts with them, on any images."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import polars as pl

from zoojax.datasets import specs
from zoojax.runtime import distributed, population, signals
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_config import ZooConfig
from zoojax.training import engine, programs
from zoojax.training.blocks import MemberBlock, gather_in_order, lay_out, split_state
from zoojax.training.inputs import check_image_set, checked_images, checked_params
from zoojax.training.programs import ProgramSpec, Splits


def evaluate(zoo: Zoo, images: specs.ImageSet, epoch: int | None = None) -> pl.DataFrame:
    """Measures the members of a saved epoch on a set of images, as epoch 0 of a zoo is.

    Args:
        zoo: the zoo.
        images: any image set of the shape that the members take.
        epoch: which; the newest if None.

    Returns:
        A row a member: losses and accuracies on all three sets, ggap, sparsities.

    Raises:
        ZoojaxError: the epoch is not there or is damaged, or the members cannot be measured
            on these images.
    """
    check_image_set(zoo.config.shape, images)
    epoch = zoo.newest_epoch if epoch is None else epoch
    mesh, rows = population.make_mesh(), distributed.local_rows(len(zoo))
    sets = population.replicate(programs.splits(images), mesh)
    state, fixed = split_state(zoo.state(epoch, rows=rows))
    blocks = lay_out(zoo.config, zoo.members_table[rows], mesh, state, fixed, None)
    mine = metrics_table(
        zoo.members_table[rows], epoch, blocks, evaluate_blocks(blocks, sets, mesh)
    )
    return distributed.all_gather_table(mine)


def predict(zoo: Zoo, images: np.ndarray, epoch: int | None = None) -> np.ndarray:
    """The classes that the members of a saved epoch take images for.

    Args:
        zoo: the zoo.
        images: normalised as the zoo's were, [n, H, W, C] of a floating type.
        epoch: which; the newest if None.

    Returns:
        [members, n] uint16, in the order of the members table.

    Raises:
        ZoojaxError: the epoch is not there or is damaged, or the images have another shape or
            type.
    """
    images = checked_images(zoo.config.shape, images)
    state, fixed = split_state(zoo.state(epoch))
    return _predict(zoo.config, zoo.members_table, state, fixed, images)


def predict_params(
    config: ZooConfig, roster: pl.DataFrame, params: dict[str, Any], images: np.ndarray
) -> np.ndarray:
    """As `predict`, of parameters that no zoo on disk has.

    Args:
        config: of the zoo that the members are like.
        roster: a row a member; what matters is its activation.
        params: stacked parameters, thresholds and masks already in them.
        images: normalised, [n, H, W, C] of a floating type.

    Raises:
        ZoojaxError: the parameters or images have another shape or type.
    """
    images = checked_images(config.shape, images)
    params = checked_params(config.shape, params, len(roster))
    name = engine.engine(config.shape, jax.default_backend())
    chunk = population.default_chunk(len(roster), population.make_mesh(), name)
    config = replace(config, kind="dense", chunk=chunk)
    return _predict(config, roster, {"params": params}, {}, images)


def _predict(
    config: ZooConfig, roster: pl.DataFrame, trainable: dict, fixed: dict, images: np.ndarray
) -> np.ndarray:
    mesh = population.make_mesh()
    placed = population.replicate(images, mesh)
    blocks = lay_out(config, roster, mesh, trainable, fixed, None)
    compiled = {b.recipe: _predictions(b.recipe, mesh) for b in blocks}
    found = [
        signals.run_interruptible(np.asarray, compiled[b.recipe](b.state, placed)).astype(np.uint16)
        for b in blocks
    ]
    return gather_in_order(blocks, found)


@functools.cache
def _predictions(recipe: ProgramSpec, mesh) -> Callable:
    """Kept: an analysis predicts many epochs of a zoo."""
    return jax.jit(programs.predictions(recipe, mesh))


def evaluate_blocks(blocks: list[MemberBlock], sets: Splits, mesh) -> list[dict[str, jax.Array]]:
    """Their metrics, still being computed."""
    compiled = {b.recipe: jax.jit(programs.evaluation(b.recipe, mesh)) for b in blocks}
    return [compiled[b.recipe](b.state, sets) for b in blocks]


def metrics_table(
    roster: pl.DataFrame, epoch: int, blocks: list[MemberBlock], metrics: list[dict]
) -> pl.DataFrame:
    measured = gather_in_order(blocks, metrics)
    layers = [f"sparsity_{layer}" for layer in blocks[0].recipe.architecture.layers]
    measured["ggap"] = measured["train_acc"] - measured["test_acc"]
    columns = [
        *(f"{split}_{what}" for split in ("train", "val", "test") for what in ("loss", "acc")),
        "ggap",
        "sparsity",
        *layers,
        "finite",
    ]
    return pl.DataFrame(
        {
            "member": roster["id"],
            "epoch": pl.Series([epoch] * len(roster), dtype=pl.Int64),
            **{name: pl.Series(measured[name]) for name in columns},
        }
    )
