"""SNIP: connection sensitivity (Lee et al., "SNIP: Single-shot Network Pruning based on Connection
Sensitivity", 2019).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from zoojax.architectures.parameters import kernels
from zoojax.sparsifiers.context import Context
from zoojax.sparsifiers.score_pruning import DataPruning, Scores


def loss_gradients(params: dict[str, Any], context: Context) -> Scores:
    """Computes gradients of the mean cross entropy over the drawn images.

    Args:
        params: Parameters of the member.
        context: Its network and images.

    Returns:
        {layer path: gradients shaped like the weights}.
    """
    return kernels(context.mean(lambda batch: jax.grad(context.loss)(params, batch)))


@dataclass(frozen=True)
class SNIP(DataPruning):
    """Prunes weights whose removal changes the loss least: |w dL/dw| (Lee et al., 2019).

    Lee et al., "SNIP: Single-shot Network Pruning based on Connection Sensitivity", 2019: the
    score is |dL/dc_j| / sum_k |dL/dc_k| for gates c = 1 that multiply the weights, and dL/dc is
    w dL/dw. L is the mean cross entropy on `samples` images, by default one batch of 128. Batch
    normalization uses its running statistics. The paper prunes untrained networks: start from
    epoch 0 of the dense zoo.

    Example:
        >>> pruning = zoojax.SNIP(ratios=(0.9,))
        >>> twin = zoojax.sparsify(zoo, pruning, epoch=0, epochs=1, quiet=True)
        >>> [round(x, 3) for x in twin.metrics.filter(epoch=1)["sparsity"]]
        [0.9, 0.9, 0.9]
    """

    name: ClassVar = "snip"
    label: ClassVar = "SNIP"
    short: ClassVar = "SNIP"
    color: ClassVar = "#005500"
    source: ClassVar = (
        "Lee et al. 2019, SNIP: Single-shot Network Pruning based on Connection Sensitivity"
    )

    samples: int = 128

    def scores(self, params: dict[str, Any], context: Context | None) -> Scores:
        """|w dL/dw|, divided by its sum over the network."""
        assert context is not None
        weights, gradients = kernels(params), loss_gradients(params, context)
        sensitivity = {path: jnp.abs(w * gradients[path]) for path, w in weights.items()}
        total = sum((jnp.sum(x) for x in sensitivity.values()), jnp.float32(0))
        # A loss of exactly zero has no gradient: then magnitude decides.
        total = jnp.where(total > 0, total, 1.0)
        return {path: x / total for path, x in sensitivity.items()}
