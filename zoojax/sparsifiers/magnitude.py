"""One-shot magnitude pruning with masked fine-tuning.

Prunes the round(ratio * count) weights with the smallest absolute values and keeps them at zero
during fine-tuning (Han et al., "Learning both Weights and Connections for Efficient Neural
Networks", 2015). Biases are neither counted nor pruned. The scope is "global" (all weights of
the network together, as torch.nn.utils.prune.global_unstructured with L1Unstructured) or "layer"
(each layer separately, as torch.nn.utils.prune.l1_unstructured).
"""

import math
import numbers
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
import polars as pl
from jax import Array

from zoojax.architectures.parameters import apply_mask, kernels
from zoojax.errors import ZoojaxError
from zoojax.sparsifiers.base import Sparsifier
from zoojax.text import printable

SCOPES = ("global", "layer")


def num_pruned(ratio: float, sizes: dict[str, int], scope: str) -> dict[str, int]:
    """Computes how many weights to prune.

    Rounds half to even, like torch.nn.utils.prune.

    Args:
        ratio: Fraction of weights to prune, in [0, 1).
        sizes: Number of weights by layer.
        scope: "global" or "layer".

    Returns:
        {"all": count} for scope "global", or {layer: count} for scope "layer".

    Raises:
        ZoojaxError: If the ratio is not in [0, 1), or the scope is not one of SCOPES.

    Example:
        >>> num_pruned(0.5, {"first": 200, "second": 100}, "layer")
        {'first': 100, 'second': 50}
    """
    check_ratio(ratio)
    if scope not in SCOPES:
        raise ZoojaxError(f"no pruning scope named '{scope}'; there are: {', '.join(SCOPES)}")
    if scope == "global":
        return {"all": round(ratio * sum(sizes.values()))}
    return {layer: round(ratio * size) for layer, size in sizes.items()}


def check_ratio(ratio: float) -> None:
    """Checks a pruning ratio.

    Args:
        ratio: Fraction of weights to prune.

    Raises:
        ZoojaxError: If the ratio is no number in [0, 1).
    """
    if not isinstance(ratio, numbers.Real):
        raise ZoojaxError(f"pruning ratio is {printable(ratio, 60)}; give a number")
    if not (math.isfinite(ratio) and 0 <= ratio < 1):
        raise ZoojaxError(f"pruning ratio {ratio:g} is not in [0, 1)")


def _topk_mask(scores: list[Array], pruned: Array) -> Array:
    """Mask that is False for exactly the `pruned` lowest scores, however many are tied.

    Args:
        scores: Flat arrays in lexsort order: the last is the primary key, earlier ones break
            ties.
        pruned: Number of weights to prune.

    Returns:
        Flat bool array, True where the weight is kept.
    """
    rank = jnp.argsort(jnp.lexsort(scores), stable=True)
    return rank >= pruned


def pruning_mask(
    params: dict, pruned: dict[str, Array], scores: dict[str, Array] | None = None
) -> dict[str, Array]:
    """Computes the pruning mask of one member.

    Args:
        params: Parameters of the member.
        pruned: Number of weights to prune, {"all": count} or {layer: count}, int32 scalars.
        scores: {layer: scores shaped like its weights}; the lowest scores are pruned first,
            and ties are broken by magnitude. None prunes by magnitude alone.

    Returns:
        {layer: bool array shaped like its weights}, True where the weight is kept.
    """
    weights = {layer: jnp.abs(w) for layer, w in kernels(params).items()}
    ranked = [weights] if scores is None else [weights, scores]
    if "all" not in pruned:
        return {
            layer: _topk_mask([r[layer].ravel() for r in ranked], pruned[layer]).reshape(w.shape)
            for layer, w in weights.items()
        }
    flat = [jnp.concatenate([r[layer].ravel() for layer in weights]) for r in ranked]
    keep = _topk_mask(flat, pruned["all"])
    pieces = jnp.split(keep, np.cumsum([w.size for w in weights.values()])[:-1])
    return {
        layer: piece.reshape(w.shape)
        for piece, (layer, w) in zip(pieces, weights.items(), strict=True)
    }


def init_pruned(
    params: dict, pruned: dict[str, Array], scores: dict[str, Array] | None = None
) -> tuple[dict, dict]:
    """Prunes one member.

    Args:
        params: Parameters of the member.
        pruned: Number of weights to prune; see `pruning_mask`.
        scores: Scores by layer; see `pruning_mask`.

    Returns:
        The (trainable, fixed) parts of the member's state before fine-tuning; see
        `zoojax.training.loop.TrainState`.
    """
    mask = pruning_mask(params, pruned, scores)
    return {"params": apply_mask(params, mask)}, {"mask": mask}


@dataclass(frozen=True)
class MagnitudePruning(Sparsifier):
    """Prunes by magnitude and fine-tunes, all members at all ratios as one population.

    Han et al., "Learning both Weights and Connections for Efficient Neural Networks", 2015.

    Masking the weights after each step is sufficient. The optimizers work elementwise, so the
    moments of pruned weights, weight decay included, never influence other weights.

    Attributes:
        ratios: Fractions of weights to prune, each in [0, 1); 0 only fine-tunes.
        scope: Whether a ratio is that of the whole network ("global") or of each layer
            ("layer").

    Raises:
        ZoojaxError: If there is no such scope.

    Example:
        >>> pruning = zoojax.MagnitudePruning(ratios=(0.5, 0.9), scope="layer")
        >>> pruning.describe(), pruning.method
        ('layer pruning', 'mp')
    """

    name: ClassVar = "magnitude_pruning"
    label: ClassVar = "magnitude pruning"
    short: ClassVar = "MP"
    color: ClassVar = "#D55E00"
    source: ClassVar = (
        "Han et al. 2015, Learning both Weights and Connections for Efficient Neural Networks"
    )
    sweep: ClassVar = "ratio"
    per_member: ClassVar = {"ratios": "ratio"}
    column_ranges: ClassVar = {"ratio": (0, 1)}
    takes_scores: ClassVar = True

    ratios: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    scope: Literal["global", "layer"] = "global"

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise ZoojaxError(
                f"no pruning scope named '{self.scope}'; there are: {', '.join(SCOPES)}"
            )

    def describe(self) -> str:
        """Describes the scope."""
        return f"{self.scope} pruning"

    def member_values(self, members: pl.DataFrame, params: dict[str, Any]) -> dict[str, Any]:
        """Computes the exact number of weights to prune of each member."""
        sizes = {layer: math.prod(w.shape) for layer, w in kernels(params).items()}
        counts = [num_pruned(ratio, sizes, self.scope) for ratio in members["ratio"]]
        return {
            "num_pruned": {
                layer: np.array([count[layer] for count in counts], np.int32)
                for layer in num_pruned(0.0, sizes, self.scope)
            }
        }

    def init(self, params: dict[str, Any], values: dict[str, Any]) -> tuple[dict, dict]:
        """Prunes the weights with the smallest magnitudes, or the lowest scores."""
        return init_pruned(params, values["num_pruned"], values.get("scores"))

    def project(self, trainable: dict[str, Any], fixed: dict[str, Any]) -> dict[str, Any]:
        """Sets pruned weights to zero."""
        return {"params": apply_mask(trainable["params"], fixed["mask"])}
