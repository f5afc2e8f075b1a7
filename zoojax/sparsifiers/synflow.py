"""SynFlow: iterative pruning without data (Tanaka et al., "Pruning neural networks without any data
by iteratively conserving synaptic flow", 2020).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
from jax import Array

from zoojax.architectures.parameters import apply_mask, kernels, with_kernels
from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.declaration import check_whole
from zoojax.sparsifiers.base import Needs
from zoojax.sparsifiers.context import Context
from zoojax.sparsifiers.score_pruning import ScorePruning, Scores, pruning_mask


@dataclass(frozen=True)
class SynFlow(ScorePruning):
    """Prunes weights that carry little flow from inputs to outputs, in many small steps.

    Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic
    flow", 2020, algorithm 1. R = 1^T (prod_l |W_l|) 1 is the sum of the logits for an image of
    ones, computed with absolute weights and without offsets and activations. The score is
    |w| dR/d|w|. Step k of n prunes to the density (1 - ratio)^(k / n), with the scores of the
    network pruned so far.

    Batch normalization multiplies by |scale| / sqrt(running variance + epsilon), without its
    offsets. Fixed activations of layers, such as sines, remain. The paper prunes untrained
    networks: start from epoch 0 of the dense zoo.

    Attributes:
        iterations: Number of steps; 100 in the paper.

    Raises:
        ZoojaxError: If `iterations` is not a whole number of 1 or more.

    Example:
        >>> pruning = zoojax.SynFlow(ratios=(0.99,))
        >>> twin = zoojax.sparsify(zoo, pruning, epoch=0, epochs=0, quiet=True)
        >>> bool(twin.metrics.select("^sparsity_.*$").max_horizontal().max() < 1)
        True
    """

    name: ClassVar = "synflow"
    label: ClassVar = "SynFlow"
    short: ClassVar = "SYNFLOW"
    has_mask_only: ClassVar = True
    color: ClassVar = "#DDCC00"
    source: ClassVar = (
        "Tanaka et al. 2020, Pruning neural networks without any data by iteratively conserving "
        "synaptic flow"
    )

    iterations: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("iterations", self.iterations)
        if self.iterations < 1:
            raise ZoojaxError(f"{self.iterations} iterations; give at least 1")

    @property
    def needs(self) -> Needs:
        """The network."""
        return Needs()

    def member_values(self, members: pl.DataFrame, params: dict[str, Any]) -> dict[str, Any]:
        """Computes the number of weights that are pruned after each step, [members, steps]."""
        each = [self._counts(self._schedule(ratio), params) for ratio in members["ratio"]]
        return {
            "schedule": {layer: np.stack([counts[layer] for counts in each]) for layer in each[0]}
        }

    def _schedule(self, ratio: float) -> list[float]:
        """Returns the ratio after each step; the last one is exact."""
        steps = range(1, self.iterations)
        return [*(1 - (1 - ratio) ** (k / self.iterations) for k in steps), ratio]

    def scores(self, params: dict[str, Any], context: Context | None) -> Scores:
        """|w| dR/d|w|."""
        assert context is not None
        weights = kernels(params)
        multiplied = _without_offsets(params, "bias")
        collections = _without_offsets(context.collections, "mean")
        flow = Context(context.architecture, "relu", collections, context.key)
        ones = jnp.ones((1, *context.architecture.image_shape), jnp.float32)

        def total(absolute: Scores) -> Array:
            # All values are positive, so that ReLU is the identity.
            return jnp.sum(flow.logits(with_kernels(multiplied, absolute), ones))

        absolute = {path: jnp.abs(w) for path, w in weights.items()}
        gradients = jax.grad(total)(absolute)
        return {path: w * gradients[path] for path, w in absolute.items()}

    def init(self, params: dict[str, Any], values: dict[str, Any]) -> tuple[dict, dict]:
        """Prunes step by step."""

        def step(mask: Scores, pruned: dict[str, Array]) -> tuple[Scores, None]:
            scores = self.scores(apply_mask(params, mask), values["context"])
            # Pruned weights stay pruned; weights without flow are pruned next.
            ranked = {path: jnp.where(mask[path], x, -1.0) for path, x in scores.items()}
            return pruning_mask(params, pruned, ranked), None

        everything = {path: jnp.ones(w.shape, bool) for path, w in kernels(params).items()}
        mask, _ = jax.lax.scan(step, everything, values["schedule"])
        return {"params": apply_mask(params, mask)}, {"mask": mask}


def _without_offsets(tree: dict[str, Any], offset: str) -> dict[str, Any]:
    """Returns absolute values of the arrays in nested dicts, and zeros for those named `offset`."""
    return {
        name: _without_offsets(x, offset)
        if isinstance(x, dict)
        else (jnp.zeros_like(x) if name == offset else jnp.abs(x))
        for name, x in tree.items()
    }
