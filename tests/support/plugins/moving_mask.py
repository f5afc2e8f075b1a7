"""A sparsifier whose mask moves every epoch, as a user of zoojax would write it."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from zoojax import Sparsifier, register_sparsifier
from zoojax.architectures.parameters import apply_mask, kernels


def highest(scores: jax.Array, count: jax.Array) -> jax.Array:
    """Returns a mask of the `count` highest scores."""
    rank = jnp.argsort(jnp.argsort(-scores.ravel(), stable=True), stable=True)
    return (rank < count).reshape(scores.shape)


@register_sparsifier
@dataclass(frozen=True)
class MovingMask(Sparsifier):
    """Train sparse networks whose masks move at the start of each epoch (Mocanu et al., 2018)."""

    name: ClassVar = "moving_mask"
    label: ClassVar = "moving mask"
    short: ClassVar = "MM"
    color: ClassVar = "#009E73"
    sweep: ClassVar = "ratio"
    default_epochs: ClassVar = 3
    per_member: ClassVar = {"ratios": "ratio"}
    column_ranges: ClassVar = {"ratio": (0, 1)}
    update_every: ClassVar = "epoch"

    ratios: tuple[float, ...] = (0.5, 0.9)
    """Fractions of the weights of each layer that are zero, each in [0, 1)."""

    moved: float = 0.3
    """Fraction of the other weights that are replaced every epoch by random ones."""

    def init(self, params: dict[str, Any], values: dict[str, Any]) -> tuple[dict, dict]:
        remaining = 1 - values["ratio"]
        mask = {p: highest(abs(w), remaining * w.size) for p, w in kernels(params).items()}
        return {"params": apply_mask(params, mask)}, {"mask": mask}

    def project(self, trainable: dict[str, Any], fixed: dict[str, Any]) -> dict[str, Any]:
        return {"params": apply_mask(trainable["params"], fixed["mask"])}

    def update(self, trainable: dict[str, Any], fixed: dict[str, Any], update) -> tuple[dict, dict]:
        mask = {}
        for i, (path, weights) in enumerate(kernels(trainable["params"]).items()):
            count = fixed["mask"][path].sum()
            magnitudes = jnp.where(fixed["mask"][path], abs(weights), -1)
            kept = highest(magnitudes, jnp.ceil((1 - self.moved) * count))
            noise = jax.random.uniform(jax.random.fold_in(update.key, i), weights.shape)
            mask[path] = highest(jnp.where(kept, 1, noise), count)
        return trainable, {"mask": mask}
