"""What a network computes, beyond its name and the shapes of its parameters.

A zoo names its architecture. A user may register another network under that name, whose parameters
happen to have the same shapes: one with another activation or stride. So zoo.json also holds the
definition of a network that zoojax does not define itself (`definition`), and `difference` compares
it with the network that is registered when the zoo is used.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoojax.architectures.base import Architecture, logits, variable_shapes
from zoojax.architectures.chain import Chain
from zoojax.architectures.chain_names import chain_name
from zoojax.json_fields import ArchitectureName, Logits
from zoojax.runtime.population import jit_fast_compile

# Activations of the members that logits are computed for; networks may ignore them.
ACTIVATIONS = ("tanh", "relu")
_IMAGES, _CLASSES = 2, 4
_DIGITS = 5
# Of differences relative to the largest logit; machines sum in different orders.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Definition:
    """What a network computes; one of the two is given.

    Attributes:
        layers: The name that describes a chain of layers.
        logits: Logits of fixed weights and images, of any other network.
    """

    layers: ArchitectureName | None = None
    logits: Logits | None = None


def definition(arch: Architecture) -> Definition | None:
    """Describes what a network computes in evaluation.

    Args:
        arch: The network.

    Returns:
        Its definition; None if it has none, because its logits are not finite.

    Example:
        >>> from zoojax.architectures import Chain, Dense, Flatten
        >>> definition(Chain("mine", 28, 1, 10, (Flatten(), Dense(10)))).layers
        'chain-28-f-d'
    """
    name = _layers(arch)
    if name is not None:
        return Definition(layers=name)
    values = fixed_logits(arch).ravel()
    if not np.isfinite(values).all():
        return None
    return Definition(logits=tuple(float(f"{value:.{_DIGITS}g}") for value in values))


@functools.cache
def difference(arch: Architecture, recorded: Definition) -> str | None:
    """Describes how a network differs from a definition.

    Args:
        arch: The network.
        recorded: Definition of the network that it should be.

    Returns:
        What differs; None if it is the same network.
    """
    if recorded.logits is None:
        name = _layers(arch)
        if name == recorded.layers:
            return None
        return f"{name or 'a module'} instead of {recorded.layers}"
    expected, found = np.array(recorded.logits), fixed_logits(arch).ravel()
    if expected.shape != found.shape:
        return f"{len(found)} logits of fixed weights and images instead of {len(expected)}"
    largest = np.abs(expected).max()
    error = np.abs(found - expected).max()
    if np.isfinite(largest) and error <= _TOLERANCE * largest:
        return None
    return (
        f"logits of the same weights and images differ by {error:.2g} (the largest is "
        f"{largest:.2g}), as with another activation or stride"
    )


def _layers(arch: Architecture) -> str | None:
    """The name that describes the layers of a network; None if there is none."""
    return chain_name(arch) if type(arch) is Chain else None


@functools.cache
def fixed_logits(arch: Architecture) -> np.ndarray:
    """Computes logits of fixed weights and images, the first of them for each of ACTIVATIONS.

    Args:
        arch: The network.

    Returns:
        [activations, images, classes] float64.
    """

    def program(variables, images):
        modules = [arch.module(name, "uniform") for name in ACTIVATIONS]
        return [logits(module, variables, images) for module in modules]

    with jax.default_matmul_precision("highest"):
        results = jit_fast_compile(program)(*fixed_inputs(arch))
    return np.stack([np.asarray(each, np.float64)[:, :_CLASSES] for each in results])


def fixed_inputs(arch: Architecture) -> tuple[dict[str, Any], np.ndarray]:
    """Returns variables and images of a usual scale, which are the same on every machine.

    Args:
        arch: The network.

    Returns:
        ({collection: arrays}, images [images, size, size, channels]).
    """
    leaves, structure = jax.tree.flatten(variable_shapes(arch))
    arrays = [_array(position, leaf) for position, leaf in enumerate(leaves, start=1)]
    return structure.unflatten(arrays), _numbers(0, (_IMAGES, *arch.image_shape))


def _array(seed: int, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    """Values of one variable, which differ from unit to unit."""
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return np.zeros(leaf.shape, leaf.dtype)
    numbers = _numbers(seed, leaf.shape)
    if len(leaf.shape) > 1:
        return (math.sqrt(6 / math.prod(leaf.shape[:-1])) * numbers).astype(leaf.dtype)
    # Positive, as variances are.
    return (0.3 + 0.2 * numbers).astype(leaf.dtype)


def _numbers(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [-1, 1), float32, from bits that are the same in all versions of NumPy."""
    bits = np.random.PCG64(seed).random_raw(math.prod(shape))
    return (np.asarray(bits) / 2.0**63 - 1).astype(np.float32).reshape(shape)
