"""Measures saved members, and predicts with them, on any images."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import polars as pl

from zoojax import data, interrupts, network, population, processes, programs
from zoojax.blocks import Block, in_order, lay_out, split_state
from zoojax.inputs import check_image_set, checked_images, checked_params
from zoojax.programs import Recipe, Sets
from zoojax.zoo import Zoo
from zoojax.zoo_config import ZooConfig


def evaluate(zoo: Zoo, images: data.ImageSet, epoch: int | None = None) -> pl.DataFrame:
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
    mesh, rows = population.make_mesh(), processes.share(len(zoo))
    sets = population.replicate(programs.sets(images), mesh)
    state, fixed = split_state(zoo.state(epoch, rows=rows))
    blocks = lay_out(zoo.config, zoo.roster[rows], mesh, state, fixed, None)
    mine = metrics_table(zoo.roster[rows], epoch, blocks, evaluate_blocks(blocks, sets, mesh))
    return processes.together(mine)


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
    return _predict(zoo.config, zoo.roster, state, fixed, images)


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
    engine = network.engine(config.shape, jax.default_backend())
    chunk = population.default_chunk(len(roster), population.make_mesh(), engine)
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
        interrupts.waited(np.asarray, compiled[b.recipe](b.state, placed)).astype(np.uint16)
        for b in blocks
    ]
    return in_order(blocks, found)


@functools.cache
def _predictions(recipe: Recipe, mesh) -> Callable:
    """Kept: an analysis predicts many epochs of a zoo."""
    return jax.jit(programs.predictions(recipe, mesh))


def evaluate_blocks(blocks: list[Block], sets: Sets, mesh) -> list[dict[str, jax.Array]]:
    """Their metrics, still being computed."""
    compiled = {b.recipe: jax.jit(programs.evaluation(b.recipe, mesh)) for b in blocks}
    return [compiled[b.recipe](b.state, sets) for b in blocks]


def metrics_table(
    roster: pl.DataFrame, epoch: int, blocks: list[Block], metrics: list[dict]
) -> pl.DataFrame:
    measured = in_order(blocks, metrics)
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
