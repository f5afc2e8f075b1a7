"""Torch's layout of dense members: a weight and a bias per layer."""

from collections.abc import Set
from typing import ClassVar

from zoojax.converters.layouts.base import Layer, SparsifierLayout, TensorLayout
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.dense import Dense

WEIGHT = TensorLayout("weight", "params", "kernel", is_weight=True)
BIAS = TensorLayout("bias", "params", "bias")


class DenseLayout(SparsifierLayout):
    """Plain weights and biases."""

    adjective: ClassVar = "dense"

    def infer(self, names: Set[str]) -> Sparsifier | None:
        """Accepts any layer; layouts with further tensors are tried first."""
        return Dense()

    def tensors(self, sparsifier: Sparsifier, layer: Layer) -> tuple[TensorLayout, ...]:
        """Weight and bias."""
        return WEIGHT, BIAS
