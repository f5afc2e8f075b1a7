"""RigL: weights with large gradients replace the smallest ones.

Evci et al., "Rigging the Lottery: Making All Tickets Winners", 2020, algorithm 1. Every dt steps
before step T_end, the fraction f(t) of each layer's weights is replaced:

    f(t) = alpha / 2 * (1 + cos(t * pi / T_end))                                    (eq. 1)

The weights with the smallest magnitudes leave the mask. Of all weights outside of it, those with
the largest magnitudes of the dense gradient enter it, and start from zero. A weight that has just
left the mask may enter it again; it then keeps its value.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from zoojax.architectures.parameters import apply_mask, kernels
from zoojax.sparsifiers.checks import check_count, check_number
from zoojax.sparsifiers.dynamic import DynamicMask, drop, grow
from zoojax.sparsifiers.steps import Update


def replaced_share(step: Array | int, last: int, alpha: float) -> Array:
    """Computes the fraction of weights to replace (eq. 1).

    Args:
        step: Steps before this update.
        last: Number of steps after which the mask no longer moves (T_end).
        alpha: Fraction at the start.

    Returns:
        Scalar float32; zero after the last step.

    Example:
        >>> round(float(replaced_share(50, 100, 0.3)), 3)
        0.15
    """
    angle = jnp.float32(math.pi / last) * jnp.asarray(step, jnp.float32)
    return jnp.where(jnp.asarray(step) < last, alpha / 2 * (1 + jnp.cos(angle)), 0.0)


@dataclass(frozen=True)
class RigL(DynamicMask):
    """Replaces the smallest weights by those with the largest gradients, during training.

    Evci et al., "Rigging the Lottery: Making All Tickets Winners", 2020, algorithm 1. Unlike there,
    no step of the optimizer is skipped when the mask moves. Start from epoch 0 of the dense zoo to
    train from scratch.

    The mask keeps its number of weights. Weights that have just entered it are zero, and metrics
    count them as pruned until they are trained.

    Attributes:
        ratios: Fractions of weights to prune, each in [0, 1).
        scope: What a ratio applies to: the whole network ("global"), each layer ("layer"), or each
            output unit ("unit"); or how the weights that remain are allocated to layers:
            Erdos-Renyi ("er") or Erdos-Renyi-kernel ("erk").
        start: Which weights the first mask keeps: "random" ones, or the largest ("magnitude").
        replaced: Fraction of each layer's weights in the mask that is replaced at the start
            (alpha); it falls to zero with a cosine.
        frequency: Steps between moves of the mask.
        end: Fraction of all steps after which the mask no longer moves.

    Raises:
        ZoojaxError: If an option is invalid.

    Example:
        >>> method = zoojax.RigL(ratios=(0.5,), frequency=2)
        >>> twin = zoojax.sparsify(zoo, method, epochs=2, members=1, quiet=True)
        >>> twin.metrics["sparsity"].to_list()
        [0.5, 0.5, 0.5]
    """

    name: ClassVar = "rigl"
    label: ClassVar = "RigL"
    short: ClassVar = "RIGL"
    color: ClassVar = "#3355CC"
    source: ClassVar = "Evci et al. 2020, Rigging the Lottery"
    update_every: ClassVar = "step"
    needs_epochs: ClassVar = True

    replaced: float = 0.3
    frequency: int = 100
    end: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("replaced", self.replaced, 0, 1)
        check_number("end", self.end, 0, 1)
        check_count("frequency", self.frequency)

    def update(
        self, trainable: dict[str, Any], fixed: dict[str, Any], update: Update
    ) -> tuple[dict, dict]:
        """Moves the mask at the steps of the schedule."""
        assert update.epochs is not None and update.gradients is not None
        mask = fixed["mask"]
        # The optimizer's step has changed the weights outside of the mask, too.
        params = apply_mask(trainable["params"], mask)
        weights = kernels(params)
        gradients = kernels(update.gradients["params"])
        last = round(self.end * update.epochs * update.steps)
        share = replaced_share(update.done, max(last, 1), self.replaced)

        def move(weights: Array, mask: Array, gradients: Array) -> Array:
            return grow(
                jnp.abs(gradients), drop(weights, mask, share), jnp.sum(mask, dtype=jnp.int32)
            )

        is_due = (update.done % self.frequency == 0) & (update.done < last)
        moved = lax.cond(is_due, lambda: jax.tree.map(move, weights, mask, gradients), lambda: mask)
        return {"params": params}, {**fixed, "mask": moved}
