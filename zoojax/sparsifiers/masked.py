"""Base class of methods that choose masks of exact size while they train."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl

from zoojax.architectures.parameters import apply_mask, kernels
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.checks import check_choice
from zoojax.sparsifiers.magnitude import SCOPES, num_pruned


def pruned_counts(ratios: list[float], params: dict[str, Any], scope: str) -> dict[str, np.ndarray]:
    """Computes exact numbers of weights to prune.

    Args:
        ratios: Fractions of weights to prune.
        params: Parameters of one member, or their shapes.
        scope: A name of SCOPES.

    Returns:
        {"all": [ratios]} or {layer: [ratios]}, int32.
    """
    sizes = {layer: math.prod(w.shape) for layer, w in kernels(params).items()}
    counts = [num_pruned(ratio, sizes, scope) for ratio in ratios]
    names = num_pruned(0.0, sizes, scope)
    return {name: np.array([count[name] for count in counts], np.int32) for name in names}


@dataclass(frozen=True)
class MaskedTraining(Sparsifier):
    """Trains with masks; subclasses choose them.

    Attributes:
        ratios: Fractions of weights to prune, each in [0, 1).
        scope: Whether a ratio is that of the whole network ("global") or of each layer
            ("layer").

    Raises:
        ZoojaxError: If there is no such scope.
    """

    sweep: ClassVar = "ratio"
    per_member: ClassVar = {"ratios": "ratio"}
    column_ranges: ClassVar = {"ratio": (0, 1)}

    ratios: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    scope: Literal["global", "layer"] = "global"

    def __post_init__(self) -> None:
        check_choice("pruning scope", self.scope, SCOPES)

    def member_values(self, members: pl.DataFrame, params: dict[str, Any]) -> dict[str, Any]:
        """Returns the seed, and the exact number of weights to prune of each member."""
        seeds = members["seed"].to_numpy().astype(np.uint32)
        counts = pruned_counts(members["ratio"].to_list(), params, self.scope)
        return {"seed": seeds, "num_pruned": counts}

    def project(self, trainable: dict[str, Any], fixed: dict[str, Any]) -> dict[str, Any]:
        """Sets pruned weights to zero."""
        return {"params": apply_mask(trainable["params"], fixed["mask"])}
