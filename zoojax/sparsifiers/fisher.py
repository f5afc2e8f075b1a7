"""Fisher pruning: Optimal Brain Damage with the diagonal of the empirical Fisher information."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from zoojax.architectures.parameters import kernels
from zoojax.sparsifiers.base import Batch
from zoojax.sparsifiers.context import Context
from zoojax.sparsifiers.score_pruning import DataPruning, Scores


@dataclass(frozen=True)
class FisherPruning(DataPruning):
    """Prunes weights with a small second-order change of the loss: w^2 E[g^2] / 2.

    LeCun et al., "Optimal Brain Damage", 1990: without the weight, the loss of a trained network
    changes by h w^2 / 2, where h is the diagonal of its Hessian. h is replaced by the empirical
    Fisher information E[g^2], the mean over images of the squared gradient of the image's cross
    entropy (Theis et al., "Faster gaze prediction with dense networks and Fisher pruning", 2018).

    Example:
        >>> twin = zoojax.sparsify(zoo, zoojax.FisherPruning((0.5,)), epochs=0, quiet=True)
        >>> twin.metrics["sparsity"].to_list()
        [0.5, 0.5, 0.5]
    """

    name: ClassVar = "fisher"
    label: ClassVar = "Fisher pruning"
    short: ClassVar = "FISHER"
    color: ClassVar = "#552222"
    source: ClassVar = (
        "LeCun et al. 1990, Optimal Brain Damage; Theis et al. 2018, Faster gaze prediction with "
        "dense networks and Fisher pruning"
    )

    samples: int = 1024

    def scores(self, params: dict[str, Any], context: Context | None) -> Scores:
        """w^2 E[g^2] / 2."""
        assert context is not None

        def gradients(image: Array, label: Array) -> Scores:
            alone = Batch(image[None], label[None], jnp.ones(1, jnp.float32))
            return kernels(jax.grad(context.loss)(params, alone))

        def mean_squares(batch: Batch) -> Scores:
            each = jax.vmap(gradients)(batch.images, batch.labels)
            return jax.tree.map(lambda g: jnp.mean(jnp.square(g), 0), each)

        information = context.mean(mean_squares)
        return {path: 0.5 * w**2 * information[path] for path, w in kernels(params).items()}
