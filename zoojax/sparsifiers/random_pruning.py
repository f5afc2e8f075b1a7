"""Random pruning, the baseline of all scores."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jax import Array

from zoojax import keys
from zoojax.architectures.parameters import kernels
from zoojax.sparsifiers.base import Needs
from zoojax.sparsifiers.context import Context
from zoojax.sparsifiers.score_pruning import ScorePruning, Scores


def split_by_layer(flat: Array, weights: dict[str, Array]) -> Scores:
    """Splits one value per weight of a network by layer.

    Args:
        flat: Values, [number of weights].
        weights: {layer path: weights}.

    Returns:
        {layer path: values shaped like the weights}.
    """
    ends = np.cumsum([w.size for w in weights.values()])
    return {
        path: flat[end - w.size : end].reshape(w.shape)
        for end, (path, w) in zip(ends, weights.items(), strict=True)
    }


@dataclass(frozen=True)
class RandomPruning(ScorePruning):
    """Prunes random weights and fine-tunes, the baseline of every other sparsifier.

    Liu et al., "The Unreasonable Effectiveness of Random Pruning: Return of the Most Naive Baseline
    for Sparse Training", 2022.

    The scores of a member are a random permutation of its weights, drawn with its seed: the weights
    that are pruned at a ratio are also pruned at all larger ratios. The scope "layer" is
    that of torch.nn.utils.prune.random_unstructured, "global" that of global_unstructured with
    RandomUnstructured.

    Example:
        >>> twin = zoojax.sparsify(zoo, zoojax.RandomPruning((0.5,)), epochs=0, quiet=True)
        >>> twin.metrics["sparsity"].to_list()
        [0.5, 0.5, 0.5]
    """

    name: ClassVar = "random_pruning"
    label: ClassVar = "random pruning"
    short: ClassVar = "RP"
    has_mask_only: ClassVar = True
    color: ClassVar = "#AA9966"
    source: ClassVar = "Liu et al. 2022, The Unreasonable Effectiveness of Random Pruning"

    @property
    def needs(self) -> Needs:
        """The key."""
        return Needs()

    def scores(self, params: dict[str, Any], context: Context | None) -> Scores:
        """A random permutation of the weights."""
        assert context is not None
        weights = kernels(params)
        total = sum(w.size for w in weights.values())
        return split_by_layer(keys.permutation(context.key, total), weights)
