"""Layer-wise Optimal Brain Surgeon (Hassibi and Stork, "Second order derivatives for network
pruning: Optimal Brain Surgeon", 1993; Frantar and Alistarh, "Optimal Brain Compression", 2022, and
"SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot", 2023).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import cho_factor, cho_solve

from zoojax.architectures.base import Architecture
from zoojax.architectures.layer_inputs import check_layer_inputs
from zoojax.architectures.parameters import apply_mask, kernels, with_kernels
from zoojax.sparsifiers.base import Batch
from zoojax.sparsifiers.context import Context
from zoojax.sparsifiers.score_pruning import DataPruning, Scores, check_positive, pruning_mask


@dataclass(frozen=True)
class OBS(DataPruning):
    """Prunes weights that a layer can compensate, and changes its other weights accordingly.

    For each layer, the squared error of its outputs on `samples` images is minimized. Its Hessian
    is the same for all output units: H = X X^T over the layer's inputs X in the dense network, plus
    `damping` times the mean of its diagonal (Frantar and Alistarh, "SparseGPT", 2023). The score
    is the error that remains if a single weight is removed, w_i^2 / (2 [H^-1]_ii) (Hassibi and
    Stork, 1993, eq. 5). The kept weights of a unit then solve the least-squares problem exactly
    ("SparseGPT", eq. 2): w_K += [H_KK]^-1 H_KP w_P for kept weights K and pruned weights P.

    Unlike "Optimal Brain Compression", which removes one weight at a time, all weights are scored
    once. A unit with n inputs costs O(n^3): the method suits the small layers of zoos.

    Attributes:
        damping: Fraction of the mean diagonal that is added to the Hessian, above 0.

    Raises:
        ZoojaxError: If the damping is not positive and finite.

    Example:
        >>> twin = zoojax.sparsify(zoo, zoojax.OBS(ratios=(0.5,)), epochs=0, quiet=True)
        >>> twin.metrics["sparsity"].to_list()
        [0.5, 0.5, 0.5]
    """

    name: ClassVar = "obs"
    label: ClassVar = "layer-wise OBS"
    short: ClassVar = "OBS"
    color: ClassVar = "#88DDAA"
    source: ClassVar = (
        "Hassibi and Stork 1993, Optimal Brain Surgeon; Frantar and Alistarh 2023, SparseGPT"
    )

    scope: Literal["global", "layer", "unit", "er", "erk"] = "layer"
    damping: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("damping", self.damping)

    def check_architecture(self, architecture: Architecture) -> None:
        """Checks that all layers with weights are convolutions or fully connected."""
        check_layer_inputs(architecture)

    def scores(self, params: dict[str, Any], context: Context | None) -> Scores:
        """w_i^2 / (2 [H^-1]_ii)."""
        assert context is not None
        return _saliencies(params, self._hessians(params, context))

    def init(self, params: dict[str, Any], values: dict[str, Any]) -> tuple[dict, dict]:
        """Prunes the weights with the lowest scores, and compensates for them."""
        hessians = self._hessians(params, values["context"])
        mask = pruning_mask(params, values["num_pruned"], _saliencies(params, hessians))
        weights = {
            path: _compensated(w, mask[path], hessians[path]) for path, w in kernels(params).items()
        }
        return {"params": apply_mask(with_kernels(params, weights), mask)}, {"mask": mask}

    def _hessians(self, params: dict[str, Any], context: Context) -> dict[str, Array]:
        """Damped Hessians of the layers, [fan_in, fan_in] each: means over the images."""

        def products(batch: Batch) -> dict[str, Array]:
            inputs = context.inputs(params, batch.images)
            return {path: rows.T @ rows / len(batch.labels) for path, rows in inputs.items()}

        def damped(hessian: Array) -> Array:
            # Weights whose inputs are all zero have a small positive diagonal, too.
            mean = jnp.maximum(jnp.mean(jnp.diagonal(hessian)), jnp.finfo(jnp.float32).tiny)
            return hessian + self.damping * mean * jnp.eye(len(hessian))

        return {path: damped(hessian) for path, hessian in context.mean(products).items()}


def _saliencies(params: dict[str, Any], hessians: dict[str, Array]) -> Scores:
    scores = {}
    for path, w in kernels(params).items():
        size = len(hessians[path])
        inverse = cho_solve(cho_factor(hessians[path]), jnp.eye(size))
        diagonal = jnp.diagonal(inverse).reshape(*w.shape[:-1], 1)
        scores[path] = w**2 / (2 * diagonal)
    return scores


def _compensated(weights: Array, mask: Array, hessian: Array) -> Array:
    """Changes the kept weights of each unit so that its outputs change least."""
    size = len(hessian)
    columns, kept = weights.reshape(size, -1), mask.reshape(size, -1)

    def change(arguments: tuple[Array, Array]) -> Array:
        w, keep = arguments
        # Rows and columns of pruned weights are those of the identity.
        system = jnp.where(keep[:, None] & keep[None, :], hessian, jnp.eye(size))
        removed = jnp.where(keep, hessian @ jnp.where(keep, 0.0, w), 0.0)
        return jnp.where(keep, w + cho_solve(cho_factor(system), removed), 0.0)

    # One unit after another, so that only one system is in memory.
    return jax.lax.map(change, (columns.T, kept.T)).T.reshape(weights.shape)
