"""Torch's names and axes <-> Flax's, in one explicit table.

Works on NumPy arrays alone; whoever reads files brings torch.
"""

import re
from collections.abc import Mapping

import numpy as np

from zoojax.architectures.base import Architecture
from zoojax.errors import ZoojaxError

# Where the zoos' torch modules keep their layers, by architecture and by whether the
# modules of dropout are counted.
MODULES: dict[tuple[str, bool], tuple[str, ...]] = {
    ("small", False): ("0", "3", "6", "9", "11"),
    ("small", True): ("0", "4", "8", "11", "14"),
    ("large", False): ("0", "3", "6", "10", "12"),
    ("large", True): ("0", "4", "8", "13", "16"),
}

_CONV_TO_FLAX = (2, 3, 1, 0)  # OIHW -> HWIO
_CONV_TO_TORCH = (3, 2, 0, 1)


def layer_prefixes(names: Mapping[str, object], architecture: Architecture) -> dict[str, str]:
    """Which torch prefix holds which layer: {"conv1": "module_list.0", ...}, by order.

    Raises:
        ZoojaxError: another number of layers than the architecture has.
    """
    prefixes = {n.rpartition(".")[0] for n in names if n.endswith((".weight", ".weight_orig"))}
    ordered = sorted(prefixes, key=module_order)
    if len(ordered) != len(architecture.layers):
        raise ZoojaxError(
            f"{len(ordered)} layers with weights, and the {architecture.name} CNN has "
            f"{len(architecture.layers)}: {', '.join(architecture.layers)}"
        )
    return dict(zip(architecture.layers, ordered, strict=True))


def module_order(prefix: str) -> list[int]:
    """Sorts prefixes such as module_list.3 and module_list.11 by their numbers."""
    return [int(part) if re.fullmatch("[0-9]{1,9}", part) else -1 for part in prefix.split(".")]


def torch_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """The shapes of torch's weights, by layer: OIHW, and [out, in]."""
    shapes, channels = {}, architecture.channels
    for i, conv in enumerate(architecture.convs, start=1):
        shapes[f"conv{i}"] = (conv.features, channels, conv.kernel, conv.kernel)
        channels = conv.features
    inputs = int(np.prod(_flattened_shape(architecture)))
    shapes["fc1"] = (architecture.hidden, inputs)
    shapes["fc2"] = (architecture.classes, architecture.hidden)
    return shapes


def _flattened_shape(architecture: Architecture) -> tuple[int, int, int]:
    """(channels, height, width) of what is flattened into fc1: torch's channels first."""
    side = architecture.size
    for conv in architecture.convs:
        side = (side - conv.kernel + 1) // conv.pool
    return architecture.convs[-1].features, side, side


def kernel_to_flax(layer: str, weight: np.ndarray, architecture: Architecture) -> np.ndarray:
    """A torch weight, mask or log sigma squared as a Flax kernel.

    Args:
        layer: its Flax name.
        weight: OIHW, or [out, in]; for fc1 the inputs are channels first.
        architecture: the network.

    Returns:
        HWIO, or [in, out]; for fc1 the inputs are channels last.
    """
    if layer.startswith("conv"):
        return weight.transpose(_CONV_TO_FLAX)
    if layer == "fc1":
        unflattened = weight.reshape(-1, *_flattened_shape(architecture))
        return unflattened.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0])
    return weight.T


def kernel_to_torch(layer: str, kernel: np.ndarray, architecture: Architecture) -> np.ndarray:
    """The inverse of `kernel_to_flax`."""
    if layer.startswith("conv"):
        return kernel.transpose(_CONV_TO_TORCH)
    if layer == "fc1":
        channels, height, width = _flattened_shape(architecture)
        unflattened = kernel.reshape(height, width, channels, -1)
        return unflattened.transpose(3, 2, 0, 1).reshape(kernel.shape[1], -1)
    return kernel.T


def params_to_flax(state: Mapping[str, np.ndarray], architecture: Architecture) -> dict:
    """One member's parameters out of a torch state dict.

    A pruned layer (weight_orig and weight_mask) gives the masked weight.

    Raises:
        ZoojaxError: another number of layers than the architecture has.
    """
    params = {}
    for layer, prefix in layer_prefixes(state, architecture).items():
        if f"{prefix}.weight_orig" in state:
            weight = state[f"{prefix}.weight_orig"] * state[f"{prefix}.weight_mask"]
        else:
            weight = state[f"{prefix}.weight"]
        params[layer] = {
            "kernel": kernel_to_flax(layer, weight, architecture),
            "bias": state[f"{prefix}.bias"],
        }
    return params


def params_to_torch(
    params: Mapping[str, Mapping[str, np.ndarray]], architecture: Architecture, dropout: bool
) -> dict[str, np.ndarray]:
    """One member's parameters as a torch state dict, in the zoos' module names.

    Args:
        params: the member.
        architecture: the network.
        dropout: whether the torch module counts dropout layers.
    """
    state = {}
    modules = MODULES[architecture.name, dropout]
    for layer, module in zip(architecture.layers, modules, strict=True):
        kernel = kernel_to_torch(layer, np.asarray(params[layer]["kernel"]), architecture)
        state[f"module_list.{module}.weight"] = np.ascontiguousarray(kernel)
        state[f"module_list.{module}.bias"] = np.asarray(params[layer]["bias"])
    return state


def log_sigma2_to_flax(
    state: Mapping[str, np.ndarray], architecture: Architecture, variant: str
) -> dict:
    """One member's log sigma squared out of a torch state dict of a variational twin.

    The log_sigma2_bias of fully connected layers is uninitialised memory and ignored.
    """
    result = {}
    for layer, prefix in layer_prefixes(state, architecture).items():
        log_sigma2 = state[f"{prefix}.log_sigma2"]
        result[layer] = {"kernel": kernel_to_flax(layer, log_sigma2, architecture)}
        if variant == "released" and layer.startswith("conv"):
            result[layer]["bias"] = state[f"{prefix}.log_sigma2_bias"]
    return result
