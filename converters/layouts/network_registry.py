"""The torch layouts of networks, in the order in which they are tried."""

from collections.abc import Mapping

from zoojax.architectures.base import Architecture
from zoojax.converters.layouts.base import NetworkLayout
from zoojax.converters.layouts.chains import ChainLayout
from zoojax.converters.layouts.resnets import ResNet18Layout, ResNet50Layout
from zoojax.converters.layouts.vit import ViTLayout
from zoojax.errors import ZoojaxError

NETWORKS: tuple[NetworkLayout, ...] = (
    *(ChainLayout(), ResNet18Layout(), ResNet50Layout(), ViTLayout()),
)


def network_layout(architecture: Architecture) -> NetworkLayout:
    """Returns the torch layout of a network.

    Args:
        architecture: The network.

    Raises:
        ZoojaxError: If no torch layout is known for it.
    """
    for layout in NETWORKS:
        if layout.takes(architecture):
            return layout
    raise ZoojaxError(f"no torch layout is known for architecture {architecture.name}")


def infer(
    weights: Mapping[str, tuple[int, ...]],
    shapes: Mapping[str, tuple[int, ...]],
    network: Architecture | None = None,
) -> tuple[Architecture, tuple[str, ...]] | None:
    """Infers the network from names and shapes; see `NetworkLayout.infer`.

    Args:
        weights: As in `NetworkLayout.infer`.
        shapes: As in `NetworkLayout.infer`.
        network: The network if it is known, for example from a config; otherwise None.
    """
    if network is not None:
        prefixes = network_layout(network).fit(network, weights)
        return None if prefixes is None else (network, prefixes)
    inferred = (layout.infer(weights, shapes) for layout in NETWORKS)
    return next((each for each in inferred if each is not None), None)
