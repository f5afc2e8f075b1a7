"""The interfaces of layouts: which tensors torch files store per sparsifier and per network."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from zoojax.architectures.base import Architecture
from zoojax.sparsifiers.base import Sparsifier


@dataclass(frozen=True)
class Layer:
    """A layer of a state dict.

    Attributes:
        name: The Flax name of the layer.
        prefix: Torch's name of the layer, such as "module_list.0"; empty for tensors of the
            network itself.
        shape: Shape of torch's weight: OIHW, [out, in], or [features] of a normalization.
        has_bias: Whether it has a bias.
        tensors: Its tensors if it has no weights that sparsifiers change; otherwise None.
    """

    name: str
    prefix: str
    shape: tuple[int, ...]
    has_bias: bool = True
    tensors: "tuple[TensorLayout, ...] | None" = None

    @property
    def is_conv(self) -> bool:
        """Whether the layer is a convolution."""
        return len(self.shape) == 4

    def key(self, tensor: "TensorLayout") -> str:
        """Returns the name of a tensor in the state dict."""
        return f"{self.prefix}.{tensor.name}" if self.prefix else tensor.name


@dataclass(frozen=True)
class TensorLayout:
    """A tensor of a layer, and where a zoo stores it.

    Attributes:
        name: Torch's name of the tensor within its layer, such as "weight_mask".
        part: Part of a member's state: "params", "mask", ..., "collections/batch_stats".
        leaf: Name of the array in {part: {layer: {leaf: array}}}; None in {part: {layer: array}}.
        is_weight: Whether it has the shape and axes of the layer's weight; otherwise it has one
            value per output, like a bias.
        is_mask: Whether it is 0 or 1 in torch files and bool in a zoo.
        default: Value to export if the state of the member lacks it; None if it never does.
        size: Its shape in torch, if it is not that of a weight or bias.
        is_count: Whether it is an int64 number in torch files, and int32 in a zoo.
    """

    name: str
    part: str
    leaf: str | None
    is_weight: bool = False
    is_mask: bool = False
    default: float | None = None
    size: tuple[int, ...] | None = None
    is_count: bool = False

    def shape(self, layer: Layer) -> tuple[int, ...]:
        """Returns the shape of the tensor in torch."""
        if self.size is not None:
            return self.size
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
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Computes in torch what a layer is evaluated with; by default the stored tensors.

        Args:
            layer: The layer.
            tensors: Its tensors by name.

        Returns:
            (weight, bias); the bias is None if the layer has none.
        """
        return tensors["weight"], tensors.get("bias")


class NetworkLayout(ABC):
    """How torch files store the layers of one kind of networks.

    Attributes:
        model_type: Value of "model::type" in params.json; None for that of the sparsifier.
    """

    model_type: ClassVar[str | None] = None

    @abstractmethod
    def takes(self, architecture: Architecture) -> bool:
        """Whether an architecture is of this kind."""

    @abstractmethod
    def infer(
        self, weights: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]
    ) -> tuple[Architecture, tuple[str, ...]] | None:
        """Infers the network from names and shapes.

        Args:
            weights: Shapes of the weights, by torch's name of the layer, in the file's order.
            shapes: Shapes of all tensors by name.

        Returns:
            (architecture, torch's names of its layers with weights, in torch's order); None if it
            is not a network of this kind.
        """

    def fit(
        self, architecture: Architecture, weights: Mapping[str, tuple[int, ...]]
    ) -> tuple[str, ...] | None:
        """Finds the layers of a known network among the weights of a file.

        Args:
            architecture: The network.
            weights: Shapes of the weights, by torch's name of the layer, in the file's order.

        Returns:
            Torch's names of its layers with weights, in torch's order; None if they are not those
            of the network.
        """
        prefixes = tuple(weights)
        if len(prefixes) != len(architecture.layers):
            return None
        layers = [each for each in self.layers(architecture, prefixes) if each.tensors is None]
        return prefixes if [each.shape for each in layers] == list(weights.values()) else None

    @abstractmethod
    def default_prefixes(self, architecture: Architecture, dropout: bool) -> tuple[str, ...]:
        """Returns torch's names of the layers with weights in the zoos' original code.

        Args:
            architecture: The network.
            dropout: Whether the member was trained with dropout.
        """

    @abstractmethod
    def layers(self, architecture: Architecture, prefixes: Sequence[str]) -> tuple[Layer, ...]:
        """Lists all layers with tensors in torch's order.

        Args:
            architecture: The network.
            prefixes: Torch's names of its layers with weights, in torch's order.
        """

    @abstractmethod
    def torch_module(self, architecture: Architecture, activation: str) -> torch.nn.Module:
        """Creates the network in torch, with the default names.

        Args:
            architecture: The network.
            activation: Name of the activation.
        """

    def kernel_to_flax(
        self, layer: str, weight: np.ndarray, architecture: Architecture
    ) -> np.ndarray:
        """Converts a torch weight, mask or log sigma squared to a Flax kernel.

        Args:
            layer: The Flax name of the layer.
            weight: OIHW, or [out, in].
            architecture: The network.

        Returns:
            HWIO, or [in, out].
        """
        return weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T

    def kernel_to_torch(
        self, layer: str, kernel: np.ndarray, architecture: Architecture
    ) -> np.ndarray:
        """Inverts `kernel_to_flax`."""
        return kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
