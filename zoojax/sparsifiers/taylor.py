"""First-order Taylor pruning (Molchanov et al., "Pruning Convolutional Neural Networks for Resource
Efficient Inference", 2017, and "Importance Estimation for Neural Network Pruning", 2019).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from zoojax.architectures.parameters import kernels
from zoojax.sparsifiers.context import Context
from zoojax.sparsifiers.score_pruning import DataPruning, Scores
from zoojax.sparsifiers.snip import loss_gradients


@dataclass(frozen=True)
class TaylorPruning(DataPruning):
    """Prunes weights with a small first-order change of the loss: |w dL/dw|.

    Molchanov et al., "Importance Estimation for Neural Network Pruning", 2019: without the
    weight, the loss changes by w dL/dw to first order (the paper squares it, which ranks weights
    the same). L is the mean cross entropy on `samples` images, by default 1,024.

    On the same images, SNIP ranks weights the same: its score is this one divided by its sum over
    the network. SNIP prunes untrained networks on a single batch; Taylor pruning prunes trained
    networks, whose mean gradients are close to zero, so that it needs more images.

    Example:
        >>> twin = zoojax.sparsify(zoo, zoojax.TaylorPruning((0.5,)), epochs=0, quiet=True)
        >>> twin.metrics["sparsity"].to_list()
        [0.5, 0.5, 0.5]
    """

    name: ClassVar = "taylor"
    label: ClassVar = "Taylor pruning"
    short: ClassVar = "TAYLOR"
    color: ClassVar = "#559999"
    source: ClassVar = "Molchanov et al. 2019, Importance Estimation for Neural Network Pruning"

    samples: int = 1024

    def scores(self, params: dict[str, Any], context: Context | None) -> Scores:
        """|w dL/dw|."""
        assert context is not None
        gradients = loss_gradients(params, context)
        return {path: jnp.abs(w * gradients[path]) for path, w in kernels(params).items()}
