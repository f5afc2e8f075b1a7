"""Iterative magnitude pruning with rewinding: rounds of pruning, rewinding and training.

Round r of R sets the weights with the smallest magnitudes to zero until the fraction of `ratios[r]`
is pruned, rewinds, and trains the remaining weights. There are two ways to rewind:

    weights        All parameters return to those of an earlier epoch of the parent (Frankle and
                   Carbin, "The Lottery Ticket Hypothesis", 2019, for epoch 0; Frankle et al.,
                   "Linear Mode Connectivity and the Lottery Ticket Hypothesis", 2020, for later
                   ones).
    learning_rate  The parameters stay; the schedule of the learning rate restarts (Renda et al.,
                   "Comparing Rewinding and Fine-tuning in Neural Network Pruning", 2020).

The optimizer starts with zero moments in every round. The first round prunes the trained parent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from zoojax import schedules
from zoojax.architectures.parameters import apply_mask, kernels
from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.grid import NUMBER_DEFAULTS
from zoojax.sparsifiers.allocation import check_ratio, check_scope, stacked_counts
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.checks import check_choice, check_number
from zoojax.sparsifiers.score_pruning import pruning_mask
from zoojax.sparsifiers.steps import Needs, Update

REWINDS = ("weights", "learning_rate")
ROUND_SCHEDULES = ("constant", "cosine", "one_cycle")


def round_starts(epochs: int, rounds: int) -> np.ndarray:
    """Computes the number of epochs before each round: floor(r * epochs / rounds).

    Args:
        epochs: Epochs of the whole training.
        rounds: Number of rounds. With more rounds than epochs, some rounds have no epoch.

    Returns:
        [rounds] int32, ascending from 0.

    Example:
        >>> round_starts(10, 4).tolist()
        [0, 2, 5, 7]
    """
    return (np.arange(rounds) * epochs // rounds).astype(np.int32)


@dataclass(frozen=True)
class IterativeMagnitude(Sparsifier):
    """Prunes by magnitude in rounds, rewinds after each pruning, and trains again.

    Frankle and Carbin, "The Lottery Ticket Hypothesis", 2019; Renda et al., "Comparing Rewinding
    and Fine-tuning in Neural Network Pruning", 2020. One member per parent member passes through
    all ratios: the epochs are divided into one round per ratio, and the last epoch of a round is
    the trained network of that sparsity. Batch statistics are not rewound.

    Attributes:
        ratios: Fraction of weights that is pruned in each round, ascending; by default 20 % of
            the remaining weights in each of ten rounds.
        scope: What a ratio applies to: the whole network ("global"), each layer ("layer"), or each
            output unit ("unit"); or how the weights that remain are allocated to layers:
            Erdos-Renyi ("er") or Erdos-Renyi-kernel ("erk").
        rewind: What returns to an earlier state: "weights" or "learning_rate".
        rewind_epoch: Saved epoch of the parent to whose weights each round returns; without
            effect if the learning rate is rewound.
        schedule: Schedule of the learning rate in each round: "constant", "cosine" or
            "one_cycle".

    Raises:
        ZoojaxError: If ratios do not ascend in [0, 1), or another option is invalid.

    Example:
        >>> method = zoojax.IterativeMagnitude(ratios=(0.5, 0.9))
        >>> twin = zoojax.sparsify(zoo, method, epochs=2, members=1, quiet=True)
        >>> [round(sparsity, 3) for sparsity in twin.metrics["sparsity"]]
        [0.5, 0.5, 0.9]
    """

    name: ClassVar = "iterative_magnitude"
    label: ClassVar = "iterative magnitude pruning"
    short: ClassVar = "IMP"
    color: ClassVar = "#AA2255"
    source: ClassVar = (
        "Frankle and Carbin 2019, The Lottery Ticket Hypothesis; Renda et al. 2020, "
        "Comparing Rewinding and Fine-tuning"
    )
    default_epochs: ClassVar = 50
    update_every: ClassVar = "epoch"
    needs_epochs: ClassVar = True

    ratios: tuple[float, ...] = (0.2, 0.36, 0.488, 0.59, 0.672, 0.738, 0.79, 0.832, 0.866, 0.893)
    scope: Literal["global", "layer", "unit", "er", "erk"] = "global"
    rewind: Literal["weights", "learning_rate"] = "weights"
    rewind_epoch: int = 0
    schedule: Literal["constant", "cosine", "one_cycle"] = "constant"

    def __post_init__(self) -> None:
        check_scope(self.scope)
        for ratio in self.ratios:
            check_ratio(ratio)
        if not self.ratios or list(self.ratios) != sorted(set(self.ratios)):
            raise ZoojaxError(f"{self.label}: give ratios that ascend, each once")
        for option, known in (("rewind", REWINDS), ("schedule", ROUND_SCHEDULES)):
            check_choice(option, getattr(self, option), known)
        check_number("rewind_epoch", self.rewind_epoch, 0)

    @property
    def needs(self) -> Needs | None:
        """The parent's weights at the epoch to rewind to."""
        return Needs(rewind_epoch=self.rewind_epoch) if self.rewind == "weights" else None

    @classmethod
    def at_ratios(cls, ratios: Sequence[float]) -> tuple[Self, ...]:
        """Returns a chain through all ratios for each kind of rewinding; none without a ratio."""
        ascending = tuple(sorted({ratio for ratio in ratios if ratio > 0}))
        return tuple(cls(ascending, rewind=each) for each in REWINDS) if ascending else ()

    def comparison_epochs(self, parent_epochs: int) -> int:
        """Trains every round as long as the parents, as in the papers."""
        return max(parent_epochs, 1) * len(self.ratios)

    def measured_epochs(self, epochs: int) -> list[int]:
        """Returns the last epoch of each round that has one."""
        starts = round_starts(epochs, len(self.ratios)).tolist()
        return sorted(
            {end for start, end in zip(starts, [*starts[1:], epochs], strict=True) if end > start}
        )

    def describe(self) -> str:
        """Describes the rounds, the scope and what is rewound."""
        which = "learning rate rewound"
        if self.rewind == "weights":
            which = f"weights rewound to epoch {self.rewind_epoch}"
        return f"{len(self.ratios)} rounds, {self.scope} pruning, {which}"

    def init(self, params: dict[str, Any], values: dict[str, Any]) -> tuple[dict, dict]:
        """Prunes the trained parent for the first round, and rewinds."""
        mask = pruning_mask(params, self._pruned(params, 0))
        if self.rewind != "weights":
            return {"params": apply_mask(params, mask)}, {"mask": mask}
        start = values["context"].rewind
        return {"params": apply_mask(start, mask)}, {"mask": mask, "rewind": start}

    def update(
        self, trainable: dict[str, Any], fixed: dict[str, Any], update: Update
    ) -> tuple[dict, dict]:
        """Prunes more weights and rewinds, at the start of a round."""
        params = trainable["params"]
        current = self._round(update.epoch, update.epochs)

        def prune() -> dict[str, Array]:
            return pruning_mask(params, self._pruned(params, current))

        starts = self._starts_round(update)
        mask = lax.cond(starts, prune, lambda: fixed["mask"])
        if self.rewind == "weights":
            params = jax.tree.map(lambda w, old: jnp.where(starts, old, w), params, fixed["rewind"])
        return {"params": params}, {**fixed, "mask": mask}

    def update_moments(
        self, moments: Any, before: dict[str, Any], after: dict[str, Any], update: Update
    ) -> Any:
        """Restarts the optimizer at the start of a round."""
        starts = self._starts_round(update)
        return jax.tree.map(lambda m: jnp.where(starts, jnp.zeros_like(m), m), moments)

    def learning_rate(
        self, rate: Any, epoch: Array, step: Array, steps: int, epochs: int | None
    ) -> Any:
        """Restarts the schedule in every round."""
        assert epochs is not None
        starts = jnp.asarray(np.append(round_starts(epochs, len(self.ratios)), epochs))
        current = self._round(epoch, epochs)
        first, length = starts[current], starts[current + 1] - starts[current]
        return schedules.learning_rate(
            self.schedule, rate, NUMBER_DEFAULTS, epoch - first, step, steps, length
        )

    def project(self, trainable: dict[str, Any], fixed: dict[str, Any]) -> dict[str, Any]:
        """Sets pruned weights to zero."""
        return {"params": apply_mask(trainable["params"], fixed["mask"])}

    def _pruned(self, params: dict[str, Any], current: Array | int) -> dict[str, Array]:
        shapes = {layer: w.shape for layer, w in kernels(params).items()}
        counts = stacked_counts(self.ratios, shapes, self.scope)
        return {name: jnp.asarray(each)[current] for name, each in counts.items()}

    def _round(self, epoch: Array, epochs: int | None) -> Array:
        assert epochs is not None
        starts = round_starts(epochs, len(self.ratios))
        return jnp.sum(jnp.asarray(starts) < epoch, dtype=jnp.int32) - 1

    def _starts_round(self, update: Update) -> Array:
        assert update.epochs is not None
        starts = round_starts(update.epochs, len(self.ratios))[1:]
        return jnp.any(jnp.asarray(starts) == update.epoch - 1)
