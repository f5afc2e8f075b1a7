"""Training with a fixed mask, such as that of a random Erdos-Renyi graph."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import polars as pl
from jax import Array

from zoojax import keys
from zoojax.architectures.parameters import apply_mask, kernels
from zoojax.hyperparameters.tables import seeds_of
from zoojax.sparsifiers.checks import check_choice
from zoojax.sparsifiers.score_pruning import ScorePruning, pruning_mask

STARTS = ("random", "magnitude")


def random_scores(weights: dict[str, Array], key: Array) -> dict[str, Array]:
    """Draws scores that are uniformly distributed in [0, 1).

    Args:
        weights: {layer: weights}.
        key: Random key; the scores of layer i are drawn from `jax.random.fold_in(key, i)`.

    Returns:
        {layer: scores of its weights}.
    """
    return {
        layer: jax.random.uniform(jax.random.fold_in(key, i), w.shape)
        for i, (layer, w) in enumerate(weights.items())
    }


@dataclass(frozen=True)
class StaticSparse(ScorePruning):
    """Trains with a random mask that never changes.

    Mocanu et al., "Scalable training of artificial neural networks with adaptive sparse
    connectivity inspired by network science", 2018; Evci et al., "Rigging the Lottery: Making All
    Tickets Winners", 2020, as "static". Start from epoch 0 of the dense zoo to train from scratch.
    Members with the same seed draw the same scores, so that their masks at different ratios are
    nested.

    Attributes:
        ratios: Fractions of weights to prune, each in [0, 1).
        scope: What a ratio applies to: the whole network ("global"), each layer ("layer"), or each
            output unit ("unit"); or how the weights that remain are allocated to layers:
            Erdos-Renyi ("er") or Erdos-Renyi-kernel ("erk").
        start: Which weights the first mask keeps: "random" ones, or the largest ("magnitude").

    Raises:
        ZoojaxError: If there is no such scope or start.

    Example:
        >>> method = zoojax.StaticSparse(ratios=(0.5,))
        >>> twin = zoojax.sparsify(zoo, method, epoch=0, epochs=1, quiet=True)
        >>> twin.metrics["sparsity"].unique().to_list()
        [0.5]
    """

    name: ClassVar = "static_sparse"
    label: ClassVar = "static sparse training"
    short: ClassVar = "STATIC"
    color: ClassVar = "#442255"
    source: ClassVar = (
        "Mocanu et al. 2018, Scalable training of artificial neural networks with adaptive sparse "
        "connectivity; Evci et al. 2020, Rigging the Lottery"
    )
    starts_untrained: ClassVar = True

    scope: Literal["global", "layer", "unit", "er", "erk"] = "erk"
    start: Literal["random", "magnitude"] = "random"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("start", self.start, STARTS)

    def member_values(self, members: pl.DataFrame, params: dict[str, Any]) -> dict[str, Any]:
        """Returns the seed and the exact number of weights to prune of each member."""
        seeds = seeds_of(members)
        return {**super().member_values(members, params), "seed": seeds}

    def init(self, params: dict[str, Any], values: dict[str, Any]) -> tuple[dict, dict]:
        """Draws the mask, or prunes by magnitude."""
        scores = None
        if self.start == "random":
            key = keys.stream_key(values["seed"], "sparsifier")
            scores = random_scores(kernels(params), key)
        mask = pruning_mask(params, values["num_pruned"], scores)
        return {"params": apply_mask(params, mask)}, {"mask": mask}
