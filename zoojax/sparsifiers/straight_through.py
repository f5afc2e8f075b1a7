"""Magnitude masks in the forward pass, and dense gradients by the straight-through estimator.

The network is trained with w' = w * m(w), where m keeps the weights with the largest magnitudes,
and the gradient of w' is that of w: all weights are trained, and pruned ones may return (Bengio et
al., "Estimating or Propagating Gradients Through Stochastic Neurons for Conditional Computation",
2013; for masks by magnitude: Lin et al., "Dynamic Model Pruning with Feedback", 2020, eq. 2).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from jax import Array, lax

from zoojax.architectures.parameters import apply_mask, map_kernels
from zoojax.sparsifiers.score_pruning import ScorePruning, pruning_mask
from zoojax.sparsifiers.steps import Loss


def straight_through(
    params: dict[str, Any], forward: dict[str, Array], backward: dict[str, Array] | None = None
) -> dict[str, Any]:
    """Masks the weights of the forward pass, but not their gradients.

    w' = w * forward in value, with the derivative dw'/dw = backward.

    Args:
        params: Parameters of one member.
        forward: {layer: array of 0 and 1, or bools}: weights that the forward pass uses.
        backward: The same for the weights that have a gradient; None for all.

    Returns:
        The parameters of the forward pass.
    """

    def pass_through(layer: str, weights: Array) -> Array:
        moving = weights if backward is None else weights * backward[layer]
        # Computed in this order, pruned weights are exactly zero.
        return moving + lax.stop_gradient(weights * forward[layer] - moving)

    return map_kernels(params, pass_through)


@dataclass(frozen=True)
class StraightThrough(ScorePruning):
    """Trains all weights, but uses only the largest ones in each forward pass.

    Lin et al., "Dynamic Model Pruning with Feedback", 2020, eq. 2, with a mask by magnitude in
    every step. The weights of the twin are dense; it is evaluated with the masked ones.

    Attributes:
        ratios: Fractions of weights that the forward pass sets to zero, each in [0, 1).
        scope: What a ratio applies to: the whole network ("global"), each layer ("layer"), or each
            output unit ("unit"); or how the weights that remain are allocated to layers:
            Erdos-Renyi ("er") or Erdos-Renyi-kernel ("erk").

    Example:
        >>> method = zoojax.StraightThrough(ratios=(0.5,))
        >>> member = zoojax.functional.sparsify(zoojax.functional.init("small", seed=1), method)
        >>> weights = member.params["fc1"]["kernel"], member.sparse_params["fc1"]["kernel"]
        >>> [float((w == 0).mean()) > 0.2 for w in weights]
        [False, True]
    """

    name: ClassVar = "straight_through"
    label: ClassVar = "straight-through magnitude pruning"
    short: ClassVar = "STE"
    color: ClassVar = "#FF0088"
    source: ClassVar = (
        "Bengio et al. 2013, Estimating Gradients Through Stochastic Neurons; Lin et al. 2020"
    )

    def init(self, params: dict[str, Any], values: dict[str, Any]) -> tuple[dict, dict]:
        """Starts from the parent's parameters."""
        return {"params": params}, {"num_pruned": values["num_pruned"]}

    def objective(
        self, loss: Loss, trainable: dict[str, Any], fixed: dict[str, Any], epoch: Array
    ) -> tuple[Array, Any]:
        """Loss of the masked network."""
        params = trainable["params"]
        mask = pruning_mask(params, fixed["num_pruned"])
        return loss(straight_through(params, mask))

    def project(self, trainable: dict[str, Any], fixed: dict[str, Any]) -> dict[str, Any]:
        """Keeps all weights."""
        return trainable

    def effective(self, trainable: dict[str, Any], fixed: dict[str, Any]) -> dict[str, Any]:
        """Sets the weights with the smallest magnitudes to zero."""
        params = trainable["params"]
        return apply_mask(params, pruning_mask(params, fixed["num_pruned"]))
