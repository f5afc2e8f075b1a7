"""Torch's layout of chains: modules in a list, or a flat vector."""

from collections.abc import Mapping, Sequence

import numpy as np

from zoojax.architectures.base import Architecture
from zoojax.architectures.chain import Chain
from zoojax.converters.layouts import networks
from zoojax.converters.layouts.base import Layer, NetworkLayout
from zoojax.converters.layouts.torch_models import TorchChain


class ChainLayout(NetworkLayout):
    """Weights and biases in the order of the layers, under any names."""

    def takes(self, architecture: Architecture) -> bool:
        """Chains without normalization."""
        return networks.is_known(architecture)

    def infer(
        self, weights: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]
    ) -> tuple[Architecture, tuple[str, ...]] | None:
        """A chain is identified by the shapes alone."""
        prefixes = _ordered(weights)
        network = networks.match_shapes([weights[prefix] for prefix in prefixes])
        return None if network is None else (network, prefixes)

    def fit(
        self, architecture: Architecture, weights: Mapping[str, tuple[int, ...]]
    ) -> tuple[str, ...] | None:
        """As in the interface, for layers in any order."""
        prefixes = _ordered(weights)
        return super().fit(architecture, {prefix: weights[prefix] for prefix in prefixes})

    def default_prefixes(self, architecture: Architecture, dropout: bool) -> tuple[str, ...]:
        """Indices in `module_list`."""
        return networks.default_prefixes(networks.known_network(architecture), dropout)

    def layers(self, architecture: Architecture, prefixes: Sequence[str]) -> tuple[Layer, ...]:
        """The layers with weights."""
        shapes = networks.torch_shapes(networks.known_network(architecture)).items()
        return tuple(
            Layer(name, prefix, shape)
            for (name, shape), prefix in zip(shapes, prefixes, strict=True)
        )

    def torch_module(self, architecture: Architecture, activation: str) -> TorchChain:
        """The modules in a list."""
        return TorchChain(networks.known_network(architecture), activation)

    def kernel_to_flax(
        self, layer: str, weight: np.ndarray, architecture: Architecture
    ) -> np.ndarray:
        """Torch flattens images with their channels first."""
        return networks.kernel_to_flax(layer, weight, _chain(architecture))

    def kernel_to_torch(
        self, layer: str, kernel: np.ndarray, architecture: Architecture
    ) -> np.ndarray:
        """Inverts `kernel_to_flax`."""
        return networks.kernel_to_torch(layer, kernel, _chain(architecture))


def _ordered(weights: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Orders layers: modules such as `module` and `head` as in the file, their layers by number."""
    groups = {name.partition(".")[0]: i for i, name in reversed(list(enumerate(weights)))}
    return tuple(
        sorted(
            weights, key=lambda name: (groups[name.partition(".")[0]], networks.module_order(name))
        )
    )


def _chain(architecture: Architecture) -> Chain:
    assert isinstance(architecture, Chain)
    return architecture
