"""Augmentations of one member's weights: what makes two views of it.

Permuting the hidden units of a layer, and with them the inputs of the next, leaves the
network's function as it is (Hecht-Nielsen 1990); noise and erased tokens do not, and are
for the encoder's input alone.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.architectures.base import Architecture
from zoojax.hyper_representation.tokens import Tokens


def draw_permutation(key: Array, arch: Architecture) -> dict[str, Array]:
    """A random order of every hidden layer's units: {layer: [units] int32}."""
    sizes = [*(conv.features for conv in arch.convs), arch.hidden]
    # One draw for all: XLA compiles every generator anew, and slowly.
    drawn = jnp.split(jax.random.bits(key, (sum(sizes),)), np.cumsum(sizes)[:-1])
    return {layer: _ranks(x) for layer, x in zip(arch.layers, drawn, strict=False)}


def _ranks(x: Array) -> Array:
    """The ranks of distinct numbers, a random order of random ones, [n] int32.

    They are counted, and of equal ones the first comes first: a sort for every layer
    takes XLA minutes to compile.
    """
    at = jnp.arange(x.shape[0])
    less = (x[None] < x[:, None]) | ((x[None] == x[:, None]) & (at[None] < at[:, None]))
    return jnp.sum(less, axis=1, dtype=jnp.int32)


def permute(tree: dict, orders: dict[str, Array], arch: Architecture) -> dict:
    """Reorders hidden units without changing what the network computes.

    Args:
        tree: parameters, or whatever is shaped like them, such as log alphas; leaves may
            be missing.
        orders: of the layers to reorder (see `draw_permutation`): the unit that comes to
            each place.
        arch: the architecture.

    Returns:
        The same tree, reordered; the next layer's inputs follow, across the flatten too.
    """
    result, before = {}, None
    for layer in arch.layers:
        leaves, own = dict(tree[layer]), orders.get(layer)
        if before is not None and "kernel" in leaves:
            kernel = leaves["kernel"]
            # The first dense layer takes every position of every channel, channels last.
            inputs = kernel.reshape(*kernel.shape[:-2], -1, before.shape[0], kernel.shape[-1])
            leaves["kernel"] = jnp.take(inputs, before, axis=-2).reshape(kernel.shape)
        if own is not None:
            leaves = {name: jnp.take(leaf, own, axis=-1) for name, leaf in leaves.items()}
        result[layer], before = leaves, own
    return result


def add_noise(key: Array, tokens: Tokens, deviation: float) -> Tokens:
    """Adds Gaussian noise of a standard deviation to normalised tokens."""
    sizes = [x.size for x in tokens.values()]
    drawn = jnp.split(deviation * jax.random.normal(key, (sum(sizes),)), np.cumsum(sizes)[:-1])
    return {
        name: x + noise.reshape(x.shape)
        for noise, (name, x) in zip(drawn, tokens.items(), strict=True)
    }


def erase(key: Array, tokens: Tokens, share: float) -> Tokens:
    """Zeroes one run of tokens of a random place; its length is drawn up to a share of all."""
    count = sum(x.shape[0] for x in tokens.values())
    place, length = jax.random.uniform(key, (2,))
    length = length * share * count
    start = place * (count - length)
    result, first = {}, 0
    for name, x in tokens.items():
        # Their middles: the first token is as likely to be erased as the last.
        at = first + 0.5 + jnp.arange(x.shape[0])
        erased = (at >= start) & (at < start + length)
        result[name] = jnp.where(erased[:, None], 0.0, x)
        first += x.shape[0]
    return result
