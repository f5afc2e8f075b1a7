"""Parameters of Haiku: kernels in the axes of JAX, under names such as cnn/conv2_d_1.

The networks are those of model_zoo_jax/models/cnn.py: blocks of a convolution without padding, the
activation and max pooling; the last block pools with stride 1, with stride 2, or not at all. Images
are flattened with their channels last, as in zoojax.
"""

import re
from typing import Any, ClassVar

import numpy as np

from zoojax.architectures.chain import Chain
from zoojax.architectures.chain_layers import (
    Activation,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
)
from zoojax.architectures.chain_names import with_name
from zoojax.architectures.registry import architecture
from zoojax.converters.dialects.base import Arrays, Dialect, Draft, listed
from zoojax.converters.inert import UnsafePickleError
from zoojax.converters.layouts.networks import (
    default_prefixes,
    kernel_to_flax,
    kernel_to_torch,
    known_network,
)
from zoojax.errors import ZoojaxError
from zoojax.text import printable

NPY = "npy"  # The container: arrays of np.save one after the other.
_KINDS = ("conv2_d", "linear")
_NAME = re.compile(r"(?:.*/)?(conv2_d|linear)(?:_([0-9]{1,4}))?")
_SIDES = {1: (28, 32), 3: (32, 28)}  # By channels of the images, the more likely one first.
_POOLINGS = ((), (MaxPool(2),), (MaxPool(2, 1),))
_KERNEL, _BIAS = "w", "b"


def plain_arrays(draft: Draft, arrays: dict[tuple[str, str], np.ndarray]) -> None:
    """Fills in a state dict in torch's names and axes.

    Args:
        draft: The state dict; its arrays, network and records are set.
        arrays: Arrays by (module, leaf), in the order of the file.

    Raises:
        UnsafePickleError: If they do not belong to a known network.
    """
    modules = sorted({module for module, _ in arrays}, key=_order)
    for module in modules:
        kernel, bias = arrays.get((module, _KERNEL)), arrays.get((module, _BIAS))
        if kernel is None or bias is None or bias.shape != kernel.shape[-1:]:
            raise UnsafePickleError(f"{printable(module, 80)} has no matching w and b")
    if len(arrays) != 2 * len(modules):
        others = [f"{module}/{leaf}" for module, leaf in arrays if leaf not in (_KERNEL, _BIAS)]
        raise UnsafePickleError(f"{listed(others)}: no known Haiku network has such arrays")
    chain = _chain([arrays[module, _KERNEL].shape for module in modules])
    prefixes = default_prefixes(chain, dropout=False)
    for module, prefix, layer in zip(modules, prefixes, chain.layers, strict=True):
        kernel = kernel_to_torch(layer, arrays[module, _KERNEL], chain)
        draft.arrays[f"{prefix}.weight"] = np.ascontiguousarray(kernel)
        draft.arrays[f"{prefix}.bias"] = arrays[module, _BIAS]
    draft.network = chain
    network = [chain.name, chain.channels, chain.classes]
    facts = {"network": network, "modules": dict(zip(prefixes, modules, strict=True))}
    draft.records += [("container", {"format": NPY}), (HaikuNames.name, facts)]


class HaikuNames(Dialect):
    """Haiku's names and axes; `plain_arrays` reads them."""

    name: ClassVar = "haiku"

    def read(self, draft: Draft) -> None:
        """Does nothing: no torch file has this dialect."""

    def undo(self, arrays: Arrays, facts: dict[str, Any], kept: Arrays) -> Arrays:
        """Returns the arrays in the order of the file: by sorted names, "b" before "w"."""
        name, channels, classes = facts["network"]
        chain = known_network(architecture(name, channels, classes))
        found = {}
        for layer, (prefix, module) in zip(chain.layers, facts["modules"].items(), strict=True):
            kernel = kernel_to_flax(layer, arrays[f"{prefix}.weight"], chain)
            found[f"{module}/{_KERNEL}"] = np.ascontiguousarray(kernel)
            found[f"{module}/{_BIAS}"] = arrays[f"{prefix}.bias"]
        order = sorted(facts["modules"].values())
        return {f"{m}/{leaf}": found[f"{m}/{leaf}"] for m in order for leaf in (_BIAS, _KERNEL)}


def _order(module: str) -> tuple[int, int]:
    """Sort key of modules in the order of the layers: convolutions, then linear layers."""
    match = _NAME.fullmatch(module)
    if match is None:
        raise UnsafePickleError(f"no known Haiku network has a {printable(module, 80)}")
    return _KINDS.index(match[1]), int(match[2] or 0)


def _chain(shapes: list[tuple[int, ...]]) -> Chain:
    """Finds the network whose kernels have these shapes.

    Raises:
        UnsafePickleError: If there is none.
    """
    convs = [shape for shape in shapes if len(shape) == 4]
    linear = [shape for shape in shapes if len(shape) == 2]
    if convs and linear and shapes == convs + linear:
        for side in _SIDES.get(convs[0][2], ()):
            for pooling in _POOLINGS:
                layers = _layers(convs, linear, pooling)
                try:
                    chain = Chain("haiku", side, convs[0][2], linear[-1][1], layers)
                except ZoojaxError:
                    continue
                kernels = [chain.parameter_shapes()[name]["kernel"] for name in chain.layers]
                named = with_name(chain) if kernels == shapes else None
                if named is not None:
                    return named
    shown = printable(", ".join(map(str, shapes[:8])), 200)
    raise UnsafePickleError(f"no known Haiku network has weights of these shapes: {shown}")


def _layers(
    convs: list[tuple[int, ...]], linear: list[tuple[int, ...]], last: tuple[Layer, ...]
) -> tuple[Layer, ...]:
    """The layers of the network; dropout is between convolutions and after hidden layers."""
    blocks = [(Conv(shape[3], shape[0]), Activation()) for shape in convs]
    layers: list[Layer] = []
    for block in blocks[:-1]:
        layers += [*block, MaxPool(2), Dropout()]
    layers += [*blocks[-1], *last, Flatten()]
    for shape in linear[:-1]:
        layers += [Dense(shape[1]), Activation(), Dropout()]
    return (*layers, Dense(linear[-1][1]))
