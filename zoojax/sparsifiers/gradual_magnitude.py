"""Gradual magnitude pruning: sparsity rises with a cubic schedule while the network trains.

Zhu and Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model
compression", 2017. Eq. 1, with an initial sparsity of zero, for n prunings that are dt steps
apart:

    s_t = s_f * (1 - (1 - (t - t_0) / (n dt))^3)    for t in {t_0, t_0 + dt, ..., t_0 + n dt}
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zoojax.architectures.parameters import apply_mask, kernels
from zoojax.errors import ZoojaxError
from zoojax.sparsifiers.checks import check_count, check_number
from zoojax.sparsifiers.score_pruning import ScorePruning, pruning_mask
from zoojax.sparsifiers.steps import Update


class CubicSchedule(NamedTuple):
    """Steps after which weights are pruned, and how many of them.

    Attributes:
        first: Number of steps after which the schedule starts, with sparsity zero (t_0).
        interval: Steps between prunings (dt).
        shares: Sparsities at the start and after each interval, as fractions of the final one,
            float32; the first is 0 and the last is 1.
    """

    first: int
    interval: int
    shares: np.ndarray


def cubic_schedule(begin: float, end: float, frequency: int, steps: int) -> CubicSchedule:
    """Computes the schedule of a training.

    Args:
        begin: Fraction of all steps after which the schedule starts.
        end: Fraction of all steps after which no weights are pruned.
        frequency: Steps between prunings; the length of the schedule if that is shorter.
        steps: Steps of the whole training.

    Returns:
        The schedule; its last pruning is not after the last step.

    Example:
        >>> schedule = cubic_schedule(0.0, 0.5, 10, steps=40)
        >>> schedule.first, schedule.interval, schedule.shares.tolist()
        (0, 10, [0.0, 0.875, 1.0])
    """
    first, last = round(begin * steps), round(end * steps)
    first = max(min(first, last - 1), 0)
    interval = max(min(frequency, last - first), 1)
    count = max((last - first) // interval, 1)
    shares = 1 - (1 - np.arange(count + 1) / count) ** 3
    return CubicSchedule(first, interval, shares.astype(np.float32))


@dataclass(frozen=True)
class GradualMagnitude(ScorePruning):
    """Prunes by magnitude step by step, with a cubic schedule, during training.

    Zhu and Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model
    compression", 2017, eq. 1. Weights are trained with the mask, as in one-shot pruning. All
    members reach their exact ratio at the end of the schedule.

    Attributes:
        ratios: Fractions of weights to prune in the end, each in [0, 1).
        scope: What a ratio applies to: the whole network ("global"), each layer ("layer"), or each
            output unit ("unit"); or how the weights that remain are allocated to layers:
            Erdos-Renyi ("er") or Erdos-Renyi-kernel ("erk").
        begin: Fraction of all steps after which pruning begins.
        end: Fraction of all steps after which it has ended.
        frequency: Steps between prunings.

    Raises:
        ZoojaxError: If there is no such scope, not 0 <= begin < end <= 1, or the frequency is
            not positive.

    Example:
        >>> zoojax.GradualMagnitude(end=0.5).describe()
        'global pruning, begin 0.0, end 0.5, frequency 100'
    """

    name: ClassVar = "gradual_magnitude"
    label: ClassVar = "gradual magnitude pruning"
    short: ClassVar = "GMP"
    color: ClassVar = "#DD0033"
    source: ClassVar = "Zhu and Gupta 2017, To prune, or not to prune"
    update_every: ClassVar = "step"
    needs_epochs: ClassVar = True

    begin: float = 0.0
    end: float = 0.75
    frequency: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("begin", self.begin, 0, 1)
        check_number("end", self.end, 0, 1)
        check_count("frequency", self.frequency)
        if self.begin >= self.end:
            raise ZoojaxError(f"begin {self.begin:g} is not below end {self.end:g}")

    def init(self, params: dict[str, Any], values: dict[str, Any]) -> tuple[dict, dict]:
        """Starts from the parent's parameters, with a mask that keeps all of them."""
        mask = {layer: jnp.ones(w.shape, bool) for layer, w in kernels(params).items()}
        return {"params": params}, {"mask": mask, "num_pruned": values["num_pruned"]}

    def update(
        self, trainable: dict[str, Any], fixed: dict[str, Any], update: Update
    ) -> tuple[dict, dict]:
        """Prunes the weights with the smallest magnitudes at the steps of the schedule."""
        assert update.epochs is not None
        total = update.epochs * update.steps
        schedule = cubic_schedule(self.begin, self.end, self.frequency, total)
        passed = update.done - schedule.first
        position = passed // schedule.interval
        last = len(schedule.shares) - 1
        is_due = (passed % schedule.interval == 0) & (position >= 0) & (position <= last)
        share = jnp.asarray(schedule.shares)[jnp.clip(position, 0, last)]

        def prune() -> dict:
            counts = jax.tree.map(
                lambda n: jnp.round(n * share).astype(jnp.int32), fixed["num_pruned"]
            )
            # The optimizer's step has changed pruned weights, too.
            params = apply_mask(trainable["params"], fixed["mask"])
            return pruning_mask(params, counts)

        return trainable, {**fixed, "mask": lax.cond(is_due, prune, lambda: fixed["mask"])}
