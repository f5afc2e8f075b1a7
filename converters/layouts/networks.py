"""Maps torch's names, axes and sizes of the layers of chains to Flax's and back.

Works on NumPy arrays, without torch.
"""

import re
from collections.abc import Sequence

import numpy as np

from zoojax.architectures import chain_names, mlp, siren
from zoojax.architectures.base import Architecture
from zoojax.architectures.chain import Chain, Step
from zoojax.architectures.chain_layers import Dropout, Flatten, Normalization
from zoojax.architectures.family import are_widths
from zoojax.architectures.layers import OMEGA
from zoojax.architectures.registry import architecture
from zoojax.errors import ZoojaxError

# Names and numbers of input channels. Shapes alone identify a network: nothing else in a
# torch zoo is reliable.
KNOWN_NETWORKS = tuple(
    (name, channels)
    for name in ("small", "large", "medium", "lenet5", "gap_cnn", "siren")
    for channels in (1, 3)
)
# Networks that a vector without names is split into: those of the published pickled datasets.
_KNOWN_VECTORS = tuple(each for each in KNOWN_NETWORKS if each[0] in ("small", "large"))
_MAX_CLASSES = 10_000
_MAX_CLASSES_OF_VECTOR = 1000
# Networks whose code creates dropout modules also for members without dropout.
_ALWAYS_WITH_DROPOUT = ("large", "lenet5", "gap_cnn", "gap_cnn_32")

_CONV_TO_FLAX = (2, 3, 1, 0)  # OIHW -> HWIO
_CONV_TO_TORCH = (3, 2, 0, 1)


def known_network(architecture: Architecture) -> Chain:
    """Returns the architecture if torch's names, axes and sizes of its layers are known.

    Raises:
        ZoojaxError: If they are not.
    """
    if isinstance(architecture, Chain) and is_known(architecture):
        return architecture
    raise ZoojaxError(f"no torch layout is known for architecture {architecture.name}")


def is_known(architecture: Architecture) -> bool:
    """Whether an architecture is a chain whose layers torch has."""
    return isinstance(architecture, Chain) and not any(
        isinstance(layer, Normalization) for layer in architecture.sequence
    )


def module_order(prefix: str) -> list[int]:
    """Sort key of prefixes: module_list.3 comes before module_list.11."""
    return [int(part) if re.fullmatch("[0-9]{1,9}", part) else -1 for part in prefix.split(".")]


def torch_steps(chain: Chain, dropout: bool) -> list[Step]:
    """Returns the layers that are modules in torch, in the order of their indices.

    Args:
        chain: The network.
        dropout: Whether dropout modules are numbered; in some networks they
            always are.
    """
    steps = list(chain.steps)
    # Networks of fully connected layers take flattened images.
    if isinstance(steps[0].layer, Flatten):
        del steps[0]
    if dropout or chain.name in _ALWAYS_WITH_DROPOUT:
        return steps
    return [step for step in steps if not isinstance(step.layer, Dropout)]


def torch_shapes(chain: Chain) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of torch's weights by layer: OIHW, and [out, in]."""
    shapes = chain.parameter_shapes()
    kernels = {layer: shapes[layer]["kernel"] for layer in chain.layers}
    return {layer: (*kernel[:-3:-1], *kernel[:-2]) for layer, kernel in kernels.items()}


def match_shapes(shapes: Sequence[tuple[int, ...]]) -> Chain | None:
    """Finds the known network whose weights have these shapes.

    Args:
        shapes: Shapes of the weights in torch's order.

    Returns:
        The network; None if there is none.
    """
    classes = shapes[-1][0] if shapes and shapes[-1] else 0
    if not 0 < classes <= _MAX_CLASSES:
        return None
    widths = [shape[0] for shape in shapes[:-1] if len(shape) == 2]
    names = list(KNOWN_NETWORKS)
    if are_widths(widths):
        families = (mlp.FAMILY, siren.FAMILY)
        names += [(each.name_of(widths), channels) for each in families for channels in (1, 3)]
        names.append((_one_coordinate(widths), 1))
    for name, channels in names:
        network = known_network(architecture(name, channels, classes))
        if list(shapes) == list(torch_shapes(network).values()):
            return network
    return None


def _one_coordinate(widths: Sequence[int]) -> str:
    """The name of a SIREN of one coordinate, as in the sine waves of DWSNets."""
    hidden = "-".join(f"d{width}-sine{OMEGA:g}" for width in widths)
    return f"{chain_names.PREFIX}-1-f-{hidden}-d"


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
    for name, channels in _KNOWN_VECTORS:
        *others, last = torch_shapes(known_network(architecture(name, channels, 1))).values()
        size = sum(int(np.prod(shape)) + shape[0] for shape in others)
        classes, remainder = divmod(vector.size - size, last[1] + 1)
        valid = not remainder and 1 < classes <= _MAX_CLASSES_OF_VECTOR
        if not valid or len(modules) not in (0, len(others) + 1):
            continue
        state, start = {}, 0
        network = known_network(architecture(name, channels, classes))
        prefixes = [f"module_list.{module}" for module in modules]
        prefixes = prefixes or default_prefixes(network, dropout=False)
        shapes = torch_shapes(network).values()
        for prefix, shape in zip(prefixes, shapes, strict=True):
            for leaf, leaf_shape in (("weight", shape), ("bias", shape[:1])):
                end = start + int(np.prod(leaf_shape))
                state[f"{prefix}.{leaf}"] = vector[start:end].reshape(leaf_shape)
                start = end
        return state
    return None


def kernel_to_flax(layer: str, weight: np.ndarray, chain: Chain) -> np.ndarray:
    """Converts a torch weight, mask or log sigma squared to a Flax kernel.

    Args:
        layer: The Flax name of the layer.
        weight: OIHW, or [out, in]; torch flattens images with their channels first.
        chain: The network.

    Returns:
        HWIO, or [in, out]; Flax flattens images with their channels last.
    """
    if weight.ndim == 4:
        return weight.transpose(_CONV_TO_FLAX)
    image = chain.flattened_shape(layer)
    if image is None:
        return weight.T
    height, width, channels = image
    unflattened = weight.reshape(-1, channels, height, width)
    return unflattened.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0])


def kernel_to_torch(layer: str, kernel: np.ndarray, chain: Chain) -> np.ndarray:
    """Inverts `kernel_to_flax`.

    Args:
        layer: The Flax name of the layer.
        kernel: HWIO, or [in, out].
        chain: The network.

    Returns:
        OIHW, or [out, in].
    """
    if kernel.ndim == 4:
        return kernel.transpose(_CONV_TO_TORCH)
    image = chain.flattened_shape(layer)
    if image is None:
        return kernel.T
    return kernel.reshape(*image, -1).transpose(3, 2, 0, 1).reshape(kernel.shape[1], -1)


def default_prefixes(chain: Chain, dropout: bool) -> tuple[str, ...]:
    """Returns torch's names of the layers in the zoos' original code.

    Those of SIRENs are the names of DWSNets' zoos, in which a layer includes its sine.

    Args:
        chain: The network.
        dropout: Whether dropout modules are numbered.
    """
    if chain.task.has_own_images:
        return tuple(f"seq.{i}" for i, _ in enumerate(chain.layers))
    steps = enumerate(torch_steps(chain, dropout))
    return tuple(f"module_list.{i}" for i, step in steps if step.layer.has_weights)
