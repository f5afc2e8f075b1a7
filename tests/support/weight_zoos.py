"""Zoos of random weights, written without training."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import polars as pl

from tests.support import synthetic_zoos
from zoojax import Grid, Zoo
from zoojax.architectures.base import variable_shapes
from zoojax.architectures.registry import architecture
from zoojax.storage.parent import parent_of
from zoojax.storage.writer import create_or_resume
from zoojax.storage.zoo_config import ZooConfig


def random_zoo(
    path: Path,
    name: str = "small",
    members: int = 12,
    epochs: int = 2,
    split: list[str | None] | None = None,
    diverged: tuple[int, int] | None = None,
    grid: Grid | None = None,
    **changes: Any,
) -> Zoo:
    """A dense zoo: epochs 0 to `epochs`, random weights, and a linear function of them as accuracy.

    Args:
        path: Its folder.
        name: Its architecture.
        members: Number of members, which differ in their seeds.
        epochs: Number of its last epoch.
        split: Column `split` of its members table.
        diverged: A member and an epoch that are marked as not finite.
        grid: Its members, instead of `members`.
        **changes: Other fields of the config.
    """
    arch = architecture(name, 1)
    options = {"epochs": epochs, "batch_size": 10, "data_order": "member", "chunk": 4, **changes}
    config = ZooConfig("random", name, 1, 10, None, None, **options)
    table = (grid or Grid(seeds=members)).members()
    members = len(table)
    if split is not None:
        table = table.with_columns(pl.Series("split", split, dtype=pl.String))
    shapes, rng = dict(variable_shapes(arch)), np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if leaf.dtype == np.int32:
            return rng.integers(0, 9, (members, *leaf.shape), np.int32)
        return rng.standard_normal((members, *leaf.shape), np.float32)

    with create_or_resume(path, config, table) as writer:
        for epoch in range(epochs + 1):
            params = jax.tree.map(draw, shapes["params"])
            collections = {n: jax.tree.map(draw, t) for n, t in shapes.items() if n != "params"}
            state = {"params": params, **({"collections": collections} if collections else {})}
            first = np.asarray(jax.tree.leaves(params)[-1]).reshape(members, -1)
            acc = 0.5 + 0.1 * np.tanh(first.mean(1))
            metrics = synthetic_zoos.metrics(config, table, epoch, acc, 0.0)
            if diverged is not None:
                finite = ~((pl.col("member") == diverged[0]) & (pl.col("epoch") == diverged[1]))
                metrics = metrics.with_columns(finite.alias("finite"))
            writer.append(epoch, state, None, metrics)
    return writer.zoo


def twin_of(path: Path, zoo: Zoo, epoch: int = 1) -> Zoo:
    """A zoo with two members per member of another zoo, and its states; marked as its twin."""
    from dataclasses import replace

    from zoojax import MagnitudePruning

    table = zoo.members_table.drop("split", strict=False).with_columns(parent_id=pl.col("id"))
    table = table.join(pl.DataFrame({"ratio": [0.0, 0.0]}), how="cross")
    table = table.with_columns(id=pl.int_range(pl.len(), dtype=pl.Int64))
    sparsifier = MagnitudePruning().shared()
    config = replace(zoo.config, sparsifier=sparsifier, parent=parent_of(zoo, epoch, path))
    params = jax.tree.map(lambda x: np.repeat(x, 2, axis=0), zoo.params(epoch))
    mask = {
        layer: np.ones(leaves["kernel"].shape, bool)
        for layer, leaves in params.items()
        if "kernel" in leaves
    }
    metrics = synthetic_zoos.metrics(config, table, 0, np.full(len(table), 0.5), 0.0)
    with create_or_resume(path, config, table) as writer:
        writer.append(0, {"params": params, "mask": mask}, None, metrics)
    return writer.zoo
