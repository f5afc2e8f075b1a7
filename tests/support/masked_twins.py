"""Twins with given masks and accuracies, made without training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from tests.support import synthetic_zoos
from zoojax.architectures.parameters import apply_mask, kernels
from zoojax.runtime import population
from zoojax.sparsifiers.base import Sparsifier
from zoojax.storage.parent import parent_of
from zoojax.storage.writer import create_or_resume
from zoojax.storage.zoo import Zoo


def random_twin(
    path: Path, zoo: Zoo, sparsifier: Sparsifier, accuracy: Any, seed: int, epochs: int = 1
) -> Zoo:
    """A twin by a sparsifier with ratios and a mask, in which random weights are kept.

    Args:
        path: Its folder.
        zoo: The dense zoo, with a state of epoch 50.
        sparsifier: The sparsifier.
        accuracy: Function of the members table that returns the test accuracy of each.
        seed: Seed of the masks.
        epochs: Epochs, of which only the first and the last are stored.
    """
    parents = zoo.members_table.with_columns(pl.col("id").alias("parent_id"))
    table = sparsifier.members(parents)
    config = replace(
        zoo.config,
        name=f"made-up-{sparsifier.method}",
        epochs=epochs,
        sparsifier=sparsifier.shared(),
        parent=parent_of(zoo, 50, path),
    )
    rows = np.repeat(np.arange(len(zoo)), len(table) // len(zoo))
    params, ratio = population.take(zoo.params(50), rows), table["ratio"].to_numpy()
    rng = np.random.default_rng(seed)

    def mask(weights: Any) -> Any:
        count, size = len(weights), weights[0].size
        order = rng.random((count, size)).argsort(1).argsort(1)
        kept = order >= np.round(ratio * size)[:, None]
        return jnp.asarray(kept.reshape(weights.shape))

    masks = {layer: mask(w) for layer, w in kernels(params).items()}
    state = jax.device_get({"params": apply_mask(params, masks), "mask": masks})
    flat = np.concatenate([np.asarray(m).reshape(len(table), -1) for m in masks.values()], 1)
    measured = 1 - flat.mean(1)
    with create_or_resume(path, config, table) as writer:
        for epoch in (0, epochs):
            metrics = synthetic_zoos.metrics(config, table, epoch, accuracy(table), measured)
            writer.append(epoch, state, None, metrics)
    return writer.zoo
