"""Augmentations of one member's weights, which produce the two views of a sample.

Permuting hidden units, on all axes of the parameters that belong to them, preserves the function
of the network (Hecht-Nielsen 1990; see `Architecture.permutations`). Noise and erased tokens do
not, so they are applied to the encoder's input but not to the target.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.architectures import permutations
from zoojax.architectures.base import Architecture
from zoojax.hyper_representation.tokens import Tokens


def draw_permutation(key: Array, arch: Architecture) -> tuple[Array, ...]:
    """Draws a random order of the units of every permutation group.

    Returns:
        One array [units] int32 per group of `arch.permutations`.
    """
    sizes = arch.permuted_units()
    if not sizes:
        return ()
    # A single draw, because XLA compiles each random generator separately and slowly.
    bits = jnp.split(jax.random.bits(key, (sum(sizes),)), np.cumsum(sizes)[:-1])
    return tuple(_ranks(x) for x in bits)


def _ranks(x: Array) -> Array:
    """Returns the rank of each value, [n] int32, which is a permutation of random values.

    Ranks are counted by comparing all pairs (ties are ranked by position), because XLA takes
    minutes to compile one sort per layer.
    """
    at = jnp.arange(x.shape[0])
    less = (x[None] < x[:, None]) | ((x[None] == x[:, None]) & (at[None] < at[:, None]))
    return jnp.sum(less, axis=1, dtype=jnp.int32)


def permute(tree: dict, orders: Sequence[Array], arch: Architecture) -> dict:
    """Permutes hidden units without changing the function of the network.

    Args:
        tree: Parameters, of one member or stacked, or a tree of the same structure such as log
            alphas; leaves may be missing.
        orders: For each group of `arch.permutations`, the index of the unit that moves to each
            position (see `draw_permutation`).
        arch: The architecture.

    Returns:
        The permuted tree.
    """
    return permutations.permute(tree, orders, arch.permutations)


def add_noise(key: Array, tokens: Tokens, std: float) -> Tokens:
    """Adds Gaussian noise with standard deviation `std` to normalized tokens."""
    sizes = [x.size for x in tokens.values()]
    noises = jnp.split(std * jax.random.normal(key, (sum(sizes),)), np.cumsum(sizes)[:-1])
    return {
        name: x + noise.reshape(x.shape)
        for noise, (name, x) in zip(noises, tokens.items(), strict=True)
    }


def erase(key: Array, tokens: Tokens, max_fraction: float) -> Tokens:
    """Zeroes one contiguous run of tokens of random length and position.

    Args:
        key: Random key.
        tokens: Tokens of one member, {group: [count, width]}.
        max_fraction: Maximum length of the run, as a fraction of all tokens.
    """
    count = sum(x.shape[0] for x in tokens.values())
    position, length = jax.random.uniform(key, (2,))
    length = length * max_fraction * count
    start = position * (count - length)
    result, first = {}, 0
    for name, x in tokens.items():
        # Comparing token centers makes the first and the last token equally likely.
        center = first + 0.5 + jnp.arange(x.shape[0])
        erased = (center >= start) & (center < start + length)
        result[name] = jnp.where(erased[:, None], 0.0, x)
        first += x.shape[0]
    return result
