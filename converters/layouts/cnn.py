"""Maps the torch names, axes and sizes of the zoos' CNNs to Flax's and back.

Works on NumPy arrays, without torch.
"""

import re
from collections.abc import Sequence

import numpy as np

from zoojax.architectures.base import Architecture
from zoojax.architectures.cnn import CNNArchitecture
from zoojax.architectures.registry import architecture
from zoojax.errors import ZoojaxError

# Names and numbers of input channels. Shapes alone identify a network: nothing else in a
# torch zoo is reliable.
KNOWN_NETWORKS = (("small", 1), ("small", 3), ("large", 1), ("large", 3))
_NAMES = frozenset(name for name, _ in KNOWN_NETWORKS)
_MAX_CLASSES = 10_000
_MAX_CLASSES_OF_VECTOR = 1000

# Indices of the layers in the zoos' `module_list`, by architecture and by whether dropout
# modules take part in the numbering.
MODULES: dict[tuple[str, bool], tuple[str, ...]] = {
    ("small", False): ("0", "3", "6", "9", "11"),
    ("small", True): ("0", "4", "8", "11", "14"),
    ("large", False): ("0", "3", "6", "10", "12"),
    ("large", True): ("0", "4", "8", "13", "16"),
}

_CONV_TO_FLAX = (2, 3, 1, 0)  # OIHW -> HWIO
_CONV_TO_TORCH = (3, 2, 0, 1)


def known_network(architecture: Architecture) -> CNNArchitecture:
    """Returns the architecture if torch's names, axes and sizes of its layers are known.

    Raises:
        ZoojaxError: If they are not.
    """
    if not isinstance(architecture, CNNArchitecture) or architecture.name not in _NAMES:
        raise ZoojaxError(f"no torch layout is known for architecture {architecture.name}")
    return architecture


def module_order(prefix: str) -> list[int]:
    """Sort key of prefixes: module_list.3 comes before module_list.11."""
    return [int(part) if re.fullmatch("[0-9]{1,9}", part) else -1 for part in prefix.split(".")]


def torch_shapes(architecture: CNNArchitecture) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of torch's weights by layer: OIHW, and [out, in]."""
    shapes, channels = {}, architecture.channels
    for i, conv in enumerate(architecture.convs, start=1):
        shapes[f"conv{i}"] = (conv.features, channels, conv.kernel, conv.kernel)
        channels = conv.features
    inputs = int(np.prod(_flattened_shape(architecture)))
    shapes["fc1"] = (architecture.hidden, inputs)
    shapes["fc2"] = (architecture.classes, architecture.hidden)
    return shapes


def match_shapes(shapes: Sequence[tuple[int, ...]]) -> CNNArchitecture | None:
    """Finds the known network whose weights have these shapes.

    Args:
        shapes: Shapes of the weights in torch's order.

    Returns:
        The network; None if there is none.
    """
    classes = shapes[-1][0] if shapes and shapes[-1] else 0
    for name, channels in KNOWN_NETWORKS if 0 < classes <= _MAX_CLASSES else ():
        network = known_network(architecture(name, channels, classes))
        if list(shapes) == list(torch_shapes(network).values()):
            return network
    return None


def unflatten(vector: np.ndarray, modules: Sequence[int]) -> dict[str, np.ndarray] | None:
    """Splits a flat vector (for each layer its weight in torch's order, then its bias).

    The length of the vector identifies the network: what the other layers leave for the last
    one gives the number of classes.

    Args:
        vector: The vector.
        modules: Indices of the layers in `module_list`; empty for those of a network without
            dropout.

    Returns:
        The state dict; None if no known network has so many parameters.
    """
    for name, channels in KNOWN_NETWORKS:
        *others, last = torch_shapes(known_network(architecture(name, channels, 1))).values()
        size = sum(int(np.prod(shape)) + shape[0] for shape in others)
        classes, remainder = divmod(vector.size - size, last[1] + 1)
        valid = not remainder and 1 < classes <= _MAX_CLASSES_OF_VECTOR
        if not valid or len(modules) not in (0, len(others) + 1):
            continue
        state, start = {}, 0
        network = known_network(architecture(name, channels, classes))
        shapes = torch_shapes(network).values()
        for module, shape in zip(modules or MODULES[name, False], shapes, strict=True):
            for leaf, leaf_shape in (("weight", shape), ("bias", shape[:1])):
                end = start + int(np.prod(leaf_shape))
                state[f"module_list.{module}.{leaf}"] = vector[start:end].reshape(leaf_shape)
                start = end
        return state
    return None


def _flattened_shape(architecture: CNNArchitecture) -> tuple[int, int, int]:
    """(channels, height, width) of the input that torch flattens into fc1."""
    side = architecture.size
    for conv in architecture.convs:
        side = (side - conv.kernel + 1) // conv.pool
    return architecture.convs[-1].features, side, side


def kernel_to_flax(layer: str, weight: np.ndarray, architecture: CNNArchitecture) -> np.ndarray:
    """Converts a torch weight, mask or log sigma squared to a Flax kernel.

    Args:
        layer: The Flax name of the layer.
        weight: OIHW, or [out, in]; the inputs of fc1 are channels first.
        architecture: The network.

    Returns:
        HWIO, or [in, out]; the inputs of fc1 are channels last.
    """
    if layer.startswith("conv"):
        return weight.transpose(_CONV_TO_FLAX)
    if layer == "fc1":
        unflattened = weight.reshape(-1, *_flattened_shape(architecture))
        return unflattened.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0])
    return weight.T


def kernel_to_torch(layer: str, kernel: np.ndarray, architecture: CNNArchitecture) -> np.ndarray:
    """Inverts `kernel_to_flax`.

    Args:
        layer: The Flax name of the layer.
        kernel: HWIO, or [in, out].
        architecture: The network.

    Returns:
        OIHW, or [out, in].
    """
    if layer.startswith("conv"):
        return kernel.transpose(_CONV_TO_TORCH)
    if layer == "fc1":
        channels, height, width = _flattened_shape(architecture)
        unflattened = kernel.reshape(height, width, channels, -1)
        return unflattened.transpose(3, 2, 0, 1).reshape(kernel.shape[1], -1)
    return kernel.T


def default_prefixes(architecture: CNNArchitecture, dropout: bool) -> tuple[str, ...]:
    """Returns torch's names of the layers in the zoos' original code.

    Args:
        architecture: The network.
        dropout: Whether dropout modules take part in the numbering.
    """
    return tuple(f"module_list.{module}" for module in MODULES[architecture.name, dropout])
