"""Torch's layout of magnitude-pruned members: that of torch.nn.utils.prune."""

from collections.abc import Mapping, Set
from typing import ClassVar

import torch

from zoojax.converters.layouts.base import Layer, SparsifierLayout, TensorLayout
from zoojax.converters.layouts.dense import BIAS
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.magnitude import MagnitudePruning


class MagnitudePruningLayout(SparsifierLayout):
    """A mask next to the weights, which include those under the mask."""

    adjective: ClassVar = "pruned"
    weight: ClassVar = "weight_orig"

    def infer(self, names: Set[str]) -> Sparsifier | None:
        """Global pruning if there is a mask: the zoos' code prunes globally."""
        return MagnitudePruning(scope="global").shared() if "weight_mask" in names else None

    def tensors(self, sparsifier: Sparsifier, layer: Layer) -> tuple[TensorLayout, ...]:
        """Bias, weight and mask."""
        return (
            BIAS,
            TensorLayout("weight_orig", "params", "kernel", is_weight=True),
            TensorLayout("weight_mask", "mask", None, is_weight=True, is_mask=True),
        )

    def evaluated(
        self, layer: Layer, tensors: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Applies the mask."""
        return tensors["weight_orig"] * tensors["weight_mask"], tensors.get("bias")
