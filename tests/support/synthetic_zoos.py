"""Zoos with plausible metrics and random weights, made without training, of any size."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import polars as pl

from zoojax.architectures import parameters
from zoojax.architectures.base import variable_shapes
from zoojax.datasets import loading
from zoojax.datasets.specs import DataSpec
from zoojax.hyperparameters.grid import Grid
from zoojax.runtime import population
from zoojax.sparsifiers import score_pruning
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.variational_dropout import VariationalDropout
from zoojax.storage.parent import parent_of
from zoojax.storage.writer import create_or_resume
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_config import ZooConfig

SPEC = DataSpec("digits", 28, 1, 0.5, 0.5)
RATIOS = (0.5, 0.6, 0.7, 0.8, 0.9)
# Layers of the made-up evaluation of a hyper-representation.
REPRESENTED = ("conv1", "fc1", "fc2")


def metrics(config: ZooConfig, members: pl.DataFrame, epoch: int, acc, sparsity) -> pl.DataFrame:
    count = len(members)
    rng = np.random.default_rng(epoch)
    layers = config.shape.layers
    gap = 0.05 + 0.005 * rng.standard_normal(count)
    return pl.DataFrame(
        {
            "member": members["id"],
            "epoch": pl.Series([epoch] * count, dtype=pl.Int64),
            **{
                f"{split}_{what}": np.float32(acc + gap if what == "acc" else 1 - acc)
                for split in ("train", "val", "test")
                for what in ("loss", "acc")
            },
            "test_acc": np.float32(acc),
            "ggap": np.float32(gap),
            "sparsity": np.float32(sparsity),
            **{
                f"sparsity_{layer}": np.float32(np.clip(sparsity * (0.7 + 0.1 * i), 0, 1))
                for i, layer in enumerate(layers)
            },
            "finite": [True] * count,
        }
    )


def _params(config: ZooConfig, seeds: list[int]) -> dict:
    """Of a spread as untrained weights have; a member's from its seed alone."""
    shapes = variable_shapes(config.shape)["params"]

    def one(seed: int) -> dict:
        rng = np.random.default_rng(seed)

        def drawn(leaf) -> np.ndarray:
            width = 1 / np.sqrt(max(np.prod(leaf.shape[:-1]), 1))
            return rng.uniform(-width, width, leaf.shape).astype(np.float32)

        return jax.tree.map(drawn, shapes)

    return population.stack([one(seed) for seed in seeds])


def quality(seeds: np.ndarray) -> np.ndarray:
    """What a member's accuracies have in common: 0.84 to 0.92."""
    return np.array([0.88 + 0.02 * np.random.default_rng(s).standard_normal() for s in seeds])


def dense(
    path: Path,
    members: int,
    grid: Grid | None = None,
    preset: str | None = None,
    spec: DataSpec = SPEC,
) -> Zoo:
    """A dense zoo of 51 measured epochs, of which the states of 0 and 50 are kept."""
    table = replace(grid or Grid(), seeds=members).members(1)
    images = loading.load(spec, None)
    config = ZooConfig(
        *("made-up", "small", 1, 10, spec, images.hash),
        epochs=50,
        batch_size=10,
        data_order="member",
        chunk=16,
        preset=preset,
    )
    best = quality(table["seed"].to_numpy())
    rows = [
        metrics(config, table, e, 0.1 + (best - 0.1) * (1 - np.exp(-e / 8)), 0.0) for e in range(51)
    ]
    params = _params(config, table["seed"].to_list())
    with create_or_resume(path, config, table) as writer:
        writer.append(0, {"params": params}, None, rows[0])
        writer.append(50, {"params": params}, None, pl.concat(rows[1:]))
    return writer.zoo


def pruned(
    path: Path,
    zoo: Zoo,
    ratios: tuple[float, ...] = RATIOS,
    sparsifier: MagnitudePruning | None = None,
) -> Zoo:
    """A pruned twin of 16 measured epochs, states of 0 and 15 kept."""
    table = zoo.members_table.with_columns(pl.col("id").alias("parent_id"))
    table = table.join(pl.DataFrame({"ratio": list(ratios)}), how="cross")
    table = table.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("id"))
    config = replace(
        zoo.config,
        name="made-up-mp",
        epochs=15,
        sparsifier=(sparsifier or MagnitudePruning()).shared(),
        parent=parent_of(zoo, 50, path),
    )
    ratio = table["ratio"].to_numpy()
    rng = np.random.default_rng(0)
    best = quality(table["seed"].to_numpy()) + 0.005 * rng.standard_normal(len(table))
    kept = best - 0.6 * np.clip(ratio - 0.7, 0, 1)
    rows = [
        metrics(config, table, e, kept * (1 - (0.5 * ratio) * np.exp(-e / 2)), ratio)
        for e in range(16)
    ]
    parents = population.take(zoo.params(50), np.repeat(np.arange(len(zoo)), len(ratios)))
    total = sum(w[0].size for w in parameters.kernels(parents).values())
    counts = {"all": np.round(ratio * total).astype(np.int32)}
    trainable, fixed = jax.device_get(jax.jit(jax.vmap(score_pruning.init_pruned))(parents, counts))
    with create_or_resume(path, config, table) as writer:
        writer.append(0, {**trainable, **fixed}, None, rows[0])
        writer.append(15, {**trainable, **fixed}, None, pl.concat(rows[1:]))
    return writer.zoo


def variational_dropout(path: Path, zoo: Zoo, epochs: int = 25) -> Zoo:
    """A variational-dropout twin with all states."""
    table = zoo.members_table.with_columns(pl.col("id").alias("parent_id"))
    config = replace(
        zoo.config,
        name="made-up-vd",
        epochs=epochs,
        sparsifier=VariationalDropout(),
        parent=parent_of(zoo, 50, path),
    )
    params = zoo.params(50)
    rng = np.random.default_rng(1)
    best = quality(table["seed"].to_numpy()) + 0.01 * rng.standard_normal(len(table))
    order = jax.tree.map(lambda w: rng.standard_normal(w.shape).astype(np.float32), params)
    with create_or_resume(path, config, table) as writer:
        for epoch in range(epochs + 1):
            sparsity = 0.95 * (1 - np.exp(-epoch / 5)) + 0.01 * rng.random(len(table))
            log_sigma2 = {
                layer: {
                    name: (2 * np.log(np.abs(w) + 1e-12) + 2 + 0.3 * epoch + order[layer][name])
                    for name, w in leaves.items()
                    if name == "kernel" or layer.startswith("conv")
                }
                for layer, leaves in params.items()
            }
            state = {"params": params, "log_sigma2": log_sigma2}
            acc = best - 0.25 * (epoch / epochs) ** 2
            writer.append(epoch, state, None, metrics(config, table, epoch, acc, sparsity))
    return writer.zoo


def representation_tables(states: int = 300) -> dict[str, pl.DataFrame]:
    """As an analysis has those of a hyper-representation's evaluation."""
    rng = np.random.default_rng(0)
    embeddings = pl.DataFrame(
        {
            "zoo": ["usps-vd"] * states,
            "member": np.arange(states) % 20,
            "epoch": np.arange(states) // 20,
            **{name: rng.random(states) for name in ("test_acc", "sparsity", "ggap", "x", "y")},
            "part": [("train", "val", "test")[i % 3] for i in range(states)],
        }
    )
    pairs = pl.DataFrame(
        {
            "quantity": np.repeat(["weights", "log alphas"], 300),
            "layer": list(REPRESENTED) * 200,
            "true": rng.standard_normal(600),
            "reconstructed": rng.standard_normal(600),
        }
    )
    fit = [
        ("usps-vd", "test", quantity, layer, 100, 0.7 - 0.1 * i, 0.6 - 0.1 * i, 0.8 - 0.1 * i)
        for quantity in ("weights", "alphas", "log alphas")
        for i, layer in enumerate(("all", *REPRESENTED))
    ]
    columns = ["zoo", "part", "quantity", "layer", "count", "r2", "r2_low", "r2_high"]
    r2 = {"test_acc": 0.9, "sparsity": 0.8, "epoch": 0.7, "ggap": None}
    probed = [
        {"zoo": "usps-vd", "features": "embedding", "scope": scope, "property": name}
        | {"r2": value and value - shift}
        for scope, shift in (("all states", 0.0), ("within epochs", 0.5))
        for name, value in r2.items()
    ]
    scores = pl.DataFrame(probed).with_columns(
        pl.col("r2").sub(0.1).alias("r2_low"), pl.col("r2").add(0.05).alias("r2_high")
    )
    losses = {
        f"{part}_{name}": [1.0, 0.5] for part in ("train", "val") for name in ("loss", "alphas")
    }
    summary = {"zoo": ["usps"], "features": ["embedding"], "weights": [0.7], "epoch": [None]}
    found = {
        "embeddings": embeddings,
        "scatter": pairs,
        "reconstruction": pl.DataFrame(fit, schema=columns, orient="row"),
        "properties": scores,
        "losses": pl.DataFrame({"epoch": [1, 2], **losses}),
        "summary": pl.DataFrame(summary, schema_overrides={"epoch": pl.Float64}),
    }
    return {f"representation_{name}": table for name, table in found.items()}
