"""Augmentations of one member's weights, which produce the two views of a sample.

Permuting the hidden units of a layer together with the inputs of the next layer preserves the
function of the network (Hecht-Nielsen 1990). Noise and erased tokens do not, so they are applied
to the encoder's input but not to the target.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.architectures.base import Architecture
from zoojax.hyper_representation.tokens import Tokens


def draw_permutation(key: Array, arch: Architecture) -> dict[str, Array]:
    """Draws a random permutation of the units of every hidden layer.

    Returns:
        {layer: [units] int32}.
    """
    sizes = [*(conv.features for conv in arch.convs), arch.hidden]
    # A single draw, because XLA compiles each random generator separately and slowly.
    bits = jnp.split(jax.random.bits(key, (sum(sizes),)), np.cumsum(sizes)[:-1])
    return {layer: _ranks(x) for layer, x in zip(arch.layers, bits, strict=False)}


def _ranks(x: Array) -> Array:
    """Returns the rank of each value, [n] int32, which is a permutation of random values.

    Ranks are counted by comparing all pairs (ties are ranked by position), because XLA takes
    minutes to compile one sort per layer.
    """
    at = jnp.arange(x.shape[0])
    less = (x[None] < x[:, None]) | ((x[None] == x[:, None]) & (at[None] < at[:, None]))
    return jnp.sum(less, axis=1, dtype=jnp.int32)


def permute(tree: dict, orders: dict[str, Array], arch: Architecture) -> dict:
    """Permutes hidden units without changing the function of the network.

    Args:
        tree: Parameters, or a tree of the same structure such as log alphas; leaves may be
            missing.
        orders: For each layer to permute, the index of the unit that moves to each position
            (see `draw_permutation`).
        arch: The architecture.

    Returns:
        The permuted tree, with the inputs of each following layer permuted accordingly,
        including those after the flatten.
    """
    result, previous = {}, None
    for layer in arch.layers:
        leaves, order = dict(tree[layer]), orders.get(layer)
        if previous is not None and "kernel" in leaves:
            kernel = leaves["kernel"]
            # The first dense layer has one input per position and channel, channels last.
            inputs = kernel.reshape(*kernel.shape[:-2], -1, previous.shape[0], kernel.shape[-1])
            leaves["kernel"] = jnp.take(inputs, previous, axis=-2).reshape(kernel.shape)
        if order is not None:
            leaves = {name: jnp.take(leaf, order, axis=-1) for name, leaf in leaves.items()}
        result[layer], previous = leaves, order
    return result


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
