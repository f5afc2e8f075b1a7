"""The order of parameters in PyTorch's state dicts."""

import functools
from importlib.util import find_spec

import numpy as np

from zoojax.architectures.base import Architecture, vector_layout
from zoojax.errors import ZoojaxError
from zoojax.sparsifiers.dense import Dense


@functools.cache
def torch_order(arch: Architecture) -> np.ndarray:
    """Returns the positions in Flax's vector of the parameters in the order of a state dict.

    Args:
        arch: The architecture.

    Returns:
        [parameters] int64.

    Raises:
        ZoojaxError: If PyTorch is not installed, or its layout of the architecture is unknown.
    """
    if find_spec("torch") is None:
        raise ZoojaxError("PyTorch's layout needs torch: pip install 'zoojax[torch]'")
    from zoojax.converters.layouts.network_registry import network_layout
    from zoojax.converters.state_dicts import StateDictInfo

    network = network_layout(arch)
    info = StateDictInfo(arch, Dense(), network.default_prefixes(arch, dropout=False))
    layout = vector_layout(arch)
    index = {leaf.path: layout.index(leaf) for leaf in layout.params}
    order: list[np.ndarray] = []
    for layer, tensors in info.tensors:
        for tensor in tensors:
            if tensor.part != "params":
                continue  # Running statistics are not parameters.
            values = index[f"{layer.name}/{tensor.leaf}"]
            if tensor.is_weight:
                values = network.kernel_to_torch(layer.name, values, arch)
            order.append(values.ravel())
    return np.concatenate(order)
