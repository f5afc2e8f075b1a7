"""Maps torch's names and axes to Flax's and back, in one explicit table.

Works on NumPy arrays, without torch.
"""

import re
from collections.abc import Mapping

import numpy as np

from zoojax.architectures.base import Architecture
from zoojax.errors import ZoojaxError

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


def layer_prefixes(names: Mapping[str, object], architecture: Architecture) -> dict[str, str]:
    """Maps layers to torch prefixes by their order: {"conv1": "module_list.0", ...}.

    Args:
        names: A state dict.
        architecture: The network.

    Raises:
        ZoojaxError: If the number of layers is not that of the architecture.
    """
    prefixes = {n.rpartition(".")[0] for n in names if n.endswith((".weight", ".weight_orig"))}
    ordered = sorted(prefixes, key=module_order)
    if len(ordered) != len(architecture.layers):
        raise ZoojaxError(
            f"{len(ordered)} layers with weights, but the {architecture.name} CNN has "
            f"{len(architecture.layers)}: {', '.join(architecture.layers)}"
        )
    return dict(zip(architecture.layers, ordered, strict=True))


def module_order(prefix: str) -> list[int]:
    """Sort key of prefixes: module_list.3 comes before module_list.11."""
    return [int(part) if re.fullmatch("[0-9]{1,9}", part) else -1 for part in prefix.split(".")]


def torch_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Shapes of torch's weights by layer: OIHW, and [out, in]."""
    shapes, channels = {}, architecture.channels
    for i, conv in enumerate(architecture.convs, start=1):
        shapes[f"conv{i}"] = (conv.features, channels, conv.kernel, conv.kernel)
        channels = conv.features
    inputs = int(np.prod(_flattened_shape(architecture)))
    shapes["fc1"] = (architecture.hidden, inputs)
    shapes["fc2"] = (architecture.classes, architecture.hidden)
    return shapes


def _flattened_shape(architecture: Architecture) -> tuple[int, int, int]:
    """(channels, height, width) of the input that torch flattens into fc1."""
    side = architecture.size
    for conv in architecture.convs:
        side = (side - conv.kernel + 1) // conv.pool
    return architecture.convs[-1].features, side, side


def kernel_to_flax(layer: str, weight: np.ndarray, architecture: Architecture) -> np.ndarray:
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


def kernel_to_torch(layer: str, kernel: np.ndarray, architecture: Architecture) -> np.ndarray:
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


def params_to_flax(state: Mapping[str, np.ndarray], architecture: Architecture) -> dict:
    """Converts a torch state dict to the parameters of one member.

    A pruned layer (weight_orig and weight_mask) yields the masked weight.

    Args:
        state: The state dict.
        architecture: The network.

    Raises:
        ZoojaxError: If the number of layers is not that of the architecture.
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
    """Converts the parameters of one member to a torch state dict with the zoos' module names.

    Args:
        params: The parameters of the member.
        architecture: The network.
        dropout: Whether dropout modules take part in the numbering.
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
    """Extracts log sigma squared of one member from the state dict of a variational twin.

    The log_sigma2_bias of fully connected layers is uninitialized memory and ignored.

    Args:
        state: The state dict.
        architecture: The network.
        variant: "released" (variational biases in convolutions) or "corrected".

    Raises:
        ZoojaxError: If the number of layers is not that of the architecture.
    """
    log_sigma2 = {}
    for layer, prefix in layer_prefixes(state, architecture).items():
        weight = state[f"{prefix}.log_sigma2"]
        log_sigma2[layer] = {"kernel": kernel_to_flax(layer, weight, architecture)}
        if variant == "released" and layer.startswith("conv"):
            log_sigma2[layer]["bias"] = state[f"{prefix}.log_sigma2_bias"]
    return log_sigma2
