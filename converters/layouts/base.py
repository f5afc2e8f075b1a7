"""The interface of sparsifier layouts: which tensors torch files store per layer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import ClassVar

import torch

from zoojax.sparsifiers.base import Sparsifier


@dataclass(frozen=True)
class Layer:
    """A layer of a state dict.

    Attributes:
        name: The Flax name of the layer.
        prefix: Torch's name of the layer, such as "module_list.0".
        shape: Shape of torch's weight: OIHW, or [out, in].
    """

    name: str
    prefix: str
    shape: tuple[int, ...]

    @property
    def is_conv(self) -> bool:
        """Whether the layer is a convolution."""
        return len(self.shape) == 4


@dataclass(frozen=True)
class TensorLayout:
    """A tensor of a layer, and where a zoo stores it.

    Attributes:
        name: Torch's name of the tensor within its layer, such as "weight_mask".
        part: Part of a member's state: "params", "mask", ...
        leaf: Name of the array in {part: {layer: {leaf: array}}}; None in {part: {layer: array}}.
        is_weight: Whether it has the shape and axes of the layer's weight; otherwise it has one
            value per output, like a bias.
        is_mask: Whether it is 0 or 1 in torch files and bool in a zoo.
        default: Value to export if the state of the member lacks it; None if it never does.
    """

    name: str
    part: str
    leaf: str | None
    is_weight: bool = False
    is_mask: bool = False
    default: float | None = None

    def shape(self, layer: Layer) -> tuple[int, ...]:
        """Returns the shape of the tensor in torch."""
        return layer.shape if self.is_weight else layer.shape[:1]


class SparsifierLayout(ABC):
    """How torch files store members that were trained with one sparsifier.

    Attributes:
        adjective: Describes such a member in messages, such as "pruned".
        model_type: Value of "model::type" in params.json.
        weight: Name of the tensor that contains the weight of a layer.
    """

    adjective: ClassVar[str]
    model_type: ClassVar[str] = "CNN"
    weight: ClassVar[str] = "weight"

    @abstractmethod
    def infer(self, names: Set[str]) -> Sparsifier | None:
        """Infers the sparsifier from the names of a layer's tensors.

        Args:
            names: Names of the tensors in the first layer.

        Returns:
            The sparsifier, without per-member options; None if the names are those of another
            sparsifier.
        """

    @abstractmethod
    def tensors(self, sparsifier: Sparsifier, layer: Layer) -> tuple[TensorLayout, ...]:
        """Lists the tensors of a layer, in the order of torch files.

        Args:
            sparsifier: The sparsifier.
            layer: The layer.
        """

    def holds(self, sparsifier: Sparsifier) -> bool:
        """Whether files in this layout hold all options that evaluation depends on.

        Args:
            sparsifier: The sparsifier.
        """
        return True

    def evaluated(
        self, layer: Layer, tensors: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes in torch what a layer is evaluated with; by default the stored tensors.

        Args:
            layer: The layer.
            tensors: Its tensors by name.

        Returns:
            (weight, bias).
        """
        return tensors["weight"], tensors["bias"]
