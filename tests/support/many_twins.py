"""A zoo with four twins: three sparsifiers, one of them a toy, and one used twice."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from tests.support import synthetic_zoos
from zoojax.architectures import parameters
from zoojax.hyperparameters.grid import Grid
from zoojax.sparsifiers import registry
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.storage.parent import parent_of
from zoojax.storage.writer import create_or_resume
from zoojax.storage.zoo import Zoo

# In the order of an analysis: by sparsifier and path, not in that of creation.
KEYS = ("dense", "fade", "mp", "mp-2", "vd")


@dataclass(frozen=True)
class Fading(Sparsifier):
    """Prunes more weights in every epoch, in the color of variational dropout."""

    name: ClassVar = "fading"
    label: ClassVar = "fading"
    short: ClassVar = "Fade"
    color: ClassVar = "#0072b2"
    update_every: ClassVar = "epoch"

    def init(self, params: dict[str, Any], values: dict[str, Any]) -> tuple[dict, dict]:
        """Starts with all weights."""
        mask = {name: jnp.ones(w.shape, bool) for name, w in parameters.kernels(params).items()}
        return {"params": params}, {"mask": mask}


@contextmanager
def registered() -> Iterator[None]:
    """Makes `Fading` known."""
    with patch.dict(registry._registered):
        registry.register_sparsifier(Fading)
        yield


def fading(path: Path, zoo: Zoo, epochs: int) -> Zoo:
    """A twin by `Fading` with all states."""
    table = zoo.members_table.with_columns(pl.col("id").alias("parent_id"))
    config = replace(
        zoo.config,
        name="made-up-fade",
        epochs=epochs,
        sparsifier=Fading(),
        parent=parent_of(zoo, 50, path),
    )
    rng, params = np.random.default_rng(2), zoo.params(50)
    order = {layer: rng.random(w.shape) for layer, w in parameters.kernels(params).items()}
    best = synthetic_zoos.quality(table["seed"].to_numpy())
    with create_or_resume(path, config, table) as writer:
        for epoch in range(epochs + 1):
            sparsity = 0.95 * epoch / epochs
            mask = {layer: jnp.asarray(draw >= sparsity) for layer, draw in order.items()}
            masked = parameters.apply_mask(params, mask)
            state = jax.device_get({"params": masked, "mask": mask})
            acc = best - 0.2 * (epoch / epochs) ** 2 + 0.01 * rng.standard_normal(len(table))
            rows = synthetic_zoos.metrics(config, table, epoch, acc, np.full(len(table), sparsity))
            writer.append(epoch, state, None, rows)
    return writer.zoo


def many_twins(folder: Path, members: int, preset: str | None = None) -> tuple[Zoo, list[Zoo]]:
    """A zoo and its four twins, which share some sparsifiers and colors.

    Args:
        folder: Folder of the zoos.
        members: Members of the dense zoo, half of them with each of two activations.
        preset: Preset that the dense zoo records.
    """
    grid = Grid(activations=("tanh", "relu"))
    zoo = synthetic_zoos.dense(folder / "dense", members // 2, grid, preset=preset)
    layerwise = MagnitudePruning(scope="layer")
    return zoo, [
        synthetic_zoos.variational_dropout(folder / "vd", zoo, 10),
        synthetic_zoos.pruned(folder / "pruned-2", zoo, (0.4, 0.8), layerwise),
        synthetic_zoos.pruned(folder / "pruned-1", zoo, (0.5, 0.9)),
        fading(folder / "fade", zoo, 10),
    ]
