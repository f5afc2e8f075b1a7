"""Wanda: weights and activations (Sun et al., "A Simple and Effective Pruning Approach for Large
Language Models", 2024).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax.numpy as jnp

from zoojax.architectures.base import Architecture
from zoojax.architectures.layer_inputs import check_layer_inputs
from zoojax.architectures.parameters import kernels
from zoojax.sparsifiers.base import Batch
from zoojax.sparsifiers.context import Context
from zoojax.sparsifiers.score_pruning import DataPruning, Scores


@dataclass(frozen=True)
class Wanda(DataPruning):
    """Prunes weights with a small product of magnitude and input norm: |w| ||x||.

    Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", 2024, eq. 1:
    |W_ij| ||X_j||_2, where X_j are all values of input j on `samples` images; an input of a
    convolution has one value per image and position. By default, as in the paper, only weights of
    the same output unit are compared (scope "unit").

    Example:
        >>> twin = zoojax.sparsify(zoo, zoojax.Wanda(ratios=(0.5,)), epochs=0, quiet=True)
        >>> [round(x, 2) for x in twin.metrics["sparsity"]]
        [0.5, 0.5, 0.5]
    """

    name: ClassVar = "wanda"
    label: ClassVar = "Wanda"
    short: ClassVar = "WANDA"
    color: ClassVar = "#991188"
    source: ClassVar = (
        "Sun et al. 2024, A Simple and Effective Pruning Approach for Large Language Models"
    )

    scope: Literal["global", "layer", "unit", "er", "erk"] = "unit"

    def check_architecture(self, architecture: Architecture) -> None:
        """Checks that all layers with weights are convolutions or fully connected."""
        check_layer_inputs(architecture)

    def scores(self, params: dict[str, Any], context: Context | None) -> Scores:
        """|w| ||x||."""
        assert context is not None and context.data is not None

        def mean_squares(batch: Batch) -> Scores:
            inputs = context.inputs(params, batch.images)
            count = len(batch.labels)
            return {path: jnp.sum(jnp.square(rows), 0) / count for path, rows in inputs.items()}

        squares, samples = context.mean(mean_squares), len(context.data.labels)
        scores = {}
        for path, w in kernels(params).items():
            norm = jnp.sqrt(squares[path] * samples)
            scores[path] = jnp.abs(w) * norm.reshape(*w.shape[:-1], 1)
        return scores
