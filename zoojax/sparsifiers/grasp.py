"""GraSP: pruning that preserves gradient flow (Wang et al., "Picking Winning Tickets Before
Training by Preserving Gradient Flow", 2020).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax

from zoojax.architectures.parameters import kernels, with_kernels
from zoojax.sparsifiers.base import Batch
from zoojax.sparsifiers.context import Context
from zoojax.sparsifiers.score_pruning import DataPruning, Scores, check_positive


@dataclass(frozen=True)
class GraSP(DataPruning):
    """Prunes weights whose removal keeps the gradient flow: w H g (Wang et al., 2020).

    Wang et al., "Picking Winning Tickets Before Training by Preserving Gradient Flow", 2020:
    S(-w) = -w H g, where g is the gradient and H the Hessian of the loss with respect to the
    weights. Removing a weight with a large S(-w) raises the gradient norm, so the largest are
    pruned (algorithm 1). Here the lowest scores are pruned, so the score is w H g. As in the
    authors' code, logits are divided by a temperature of 200, and H and g leave out biases.

    The paper prunes untrained networks: start from epoch 0 of the dense zoo. In a trained network,
    removing important weights raises the gradient norm as well, so that accuracy is low until the
    network is fine-tuned.

    Attributes:
        temperature: Divisor of the logits, above 0.

    Raises:
        ZoojaxError: If the temperature is not positive and finite.

    Example:
        >>> pruning = zoojax.GraSP(ratios=(0.5,))
        >>> twin = zoojax.sparsify(zoo, pruning, epoch=0, epochs=0, quiet=True)
        >>> twin.metrics["sparsity"].to_list()
        [0.5, 0.5, 0.5]
    """

    name: ClassVar = "grasp"
    label: ClassVar = "GraSP"
    short: ClassVar = "GRASP"
    color: ClassVar = "#FF77FF"
    source: ClassVar = (
        "Wang et al. 2020, Picking Winning Tickets Before Training by Preserving Gradient Flow"
    )

    temperature: float = 200.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("temperature", self.temperature)

    def scores(self, params: dict[str, Any], context: Context | None) -> Scores:
        """w H g."""
        assert context is not None
        weights = kernels(params)

        def gradient(weights: Scores, batch: Batch) -> Scores:
            def loss(weights: Scores) -> jax.Array:
                replaced = with_kernels(params, weights)
                return context.loss(replaced, batch, self.temperature)

            return jax.grad(loss)(weights)

        g = context.mean(lambda batch: gradient(weights, batch))

        def product(batch: Batch) -> Scores:
            return jax.jvp(lambda w: gradient(w, batch), (weights,), (g,))[1]

        hessian_gradient = context.mean(product)
        return {path: w * hessian_gradient[path] for path, w in weights.items()}
