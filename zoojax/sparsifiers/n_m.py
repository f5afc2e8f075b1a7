"""N:M pruning: of every M consecutive inputs of an output unit, the N largest weights remain.

Zhou et al., "Learning N:M Fine-grained Structured Sparse Neural Networks From Scratch", 2021;
Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021, for 2:4.

The inputs of a unit are its weights in Flax's order, kernel[..., unit] flattened: those of a
convolution by row, column and channel; channels vary fastest. If the number of inputs is not a
multiple of M, the last group is smaller: of r inputs, it keeps min(r, N) weights. A layer of f
inputs and u units therefore keeps exactly u * (floor(f / M) * N + min(f mod M, N)) weights. Biases
are neither counted nor pruned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np
import polars as pl
from jax import Array

from zoojax.architectures.parameters import apply_mask, kernels
from zoojax.errors import ZoojaxError
from zoojax.sparsifiers.base import Sparsifier
from zoojax.text import printable

MAX_M = 64


def n_m_mask(weights: Array, n: Array | int, m: int) -> Array:
    """Computes the N:M mask of one layer.

    Args:
        weights: The layer's weights, [..., units]; all axes but the last are inputs.
        n: Number of weights to keep in each group, an int32 scalar.
        m: Size of a group (static).

    Returns:
        Bool array of the same shape, True for the `n` largest magnitudes of each group. Of equal
        magnitudes, the first are pruned first.
    """
    units = weights.shape[-1]
    magnitudes = jnp.abs(weights).reshape(-1, units)
    padding = -len(magnitudes) % m
    # Below all magnitudes: padding is pruned first.
    padded = jnp.pad(magnitudes, ((0, padding), (0, 0)), constant_values=-1)
    groups = padded.reshape(-1, m, units)
    rank = jnp.argsort(jnp.argsort(groups, axis=1, stable=True), axis=1, stable=True)
    return (rank >= m - n).reshape(-1, units)[: len(magnitudes)].reshape(weights.shape)


@dataclass(frozen=True)
class NMPruning(Sparsifier):
    """Keeps the N largest of every M consecutive weights of a unit (N:M), and fine-tunes.

    Zhou et al., "Learning N:M Fine-grained Structured Sparse Neural Networks From Scratch", 2021.

    N is (1 - ratio) * M: 2:4 is ratio 0.5 with m=4, 1:4 is 0.75 with m=4, and 4:8 is 0.5 with m=8.

    Attributes:
        ratios: Fractions of the weights of each group to prune, multiples of 1/m in [0, 1).
        m: Number of consecutive inputs in a group, M: 2 to 64.

    Raises:
        ZoojaxError: If M is out of range.

    Example:
        >>> params = {"fc": {"kernel": jnp.array([[1.0], [-4.0], [2.0], [3.0]])}}
        >>> _, fixed = zoojax.NMPruning(m=4).init(params, {"n": 2})
        >>> fixed["mask"]["fc"].ravel().tolist()
        [False, True, False, True]
    """

    name: ClassVar = "n_m"
    label: ClassVar = "N:M pruning"
    short: ClassVar = "NM"
    color: ClassVar = "#EEBBEE"
    source: ClassVar = (
        "Zhou et al. 2021, Learning N:M Fine-grained Structured Sparse Neural Networks"
    )
    sweep: ClassVar = "ratio"
    per_member: ClassVar = {"ratios": "ratio"}
    column_ranges: ClassVar = {"ratio": (0, 1)}

    ratios: tuple[float, ...] = (0.5, 0.75)
    m: int = 4

    def __post_init__(self) -> None:
        if type(self.m) is not int or not 2 <= self.m <= MAX_M:
            raise ZoojaxError(
                f"m of {self.label} is {printable(self.m, 60)}; give a whole number from 2 to "
                f"{MAX_M}"
            )

    @classmethod
    def at_ratios(cls, ratios: Sequence[float]) -> tuple[Self, ...]:
        """Returns 1:4, 2:4 and 4:8 pruning, whatever the ratios."""
        del ratios
        return cls((0.5, 0.75), 4), cls((0.5,), 8)

    def describe(self) -> str:
        """Describes the groups."""
        return f"groups of {self.m} inputs"

    def members(self, parents: pl.DataFrame) -> pl.DataFrame:
        """Creates the members table.

        Raises:
            ZoojaxError: If a ratio is not a multiple of 1/M; and as in `Sparsifier.members`.
        """
        table = super().members(parents)
        for ratio in table["ratio"].unique():
            if abs(ratio * self.m - round(ratio * self.m)) > 1e-6:
                raise ZoojaxError(
                    f"{self.label} ratio {ratio:g} is not a multiple of 1/{self.m}; a group of "
                    f"{self.m} weights keeps a whole number of them"
                )
        return table

    def member_values(self, members: pl.DataFrame, params: dict[str, Any]) -> dict[str, Any]:
        """Computes N of each member."""
        return {"n": np.array([round((1 - r) * self.m) for r in members["ratio"]], np.int32)}

    def init(self, params: dict[str, Any], values: dict[str, Any]) -> tuple[dict, dict]:
        """Prunes the weights with the smallest magnitudes of each group."""
        mask = {layer: n_m_mask(w, values["n"], self.m) for layer, w in kernels(params).items()}
        return {"params": apply_mask(params, mask)}, {"mask": mask}

    def project(self, trainable: dict[str, Any], fixed: dict[str, Any]) -> dict[str, Any]:
        """Sets pruned weights to zero."""
        return {"params": apply_mask(trainable["params"], fixed["mask"])}
