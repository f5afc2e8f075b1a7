"""Every random key of zoojax is made here.

A key depends on a member's seed, on what it is for and on the epoch (and, inside
an epoch, on the step and the layer): never on the member's position, its chunk,
its neighbours or the devices. Members of one seed therefore share their draws,
which is what "fixed seed" means in a grid zoo: every cell starts from the same
ten draws; and a twin meets the images in its parent's order.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random

from zoojax.ops import Noise
from zoojax.ops.noise import SLOTS

STREAMS = {"init": 0, "order": 1, "noise": 3, "views": 4}


def stream_key(seed: Array | np.ndarray | int, name: str, epoch: Array | int = 0) -> Array:
    """The key of one stream of one member in one epoch.

    Args:
        seed: the member's seed, a scalar integer.
        name: one of STREAMS.
        epoch: 0 for what happens once.

    Returns:
        A scalar key.
    """
    # The implementation is named so that a user's JAX configuration changes no result.
    # Neither does one with 64-bit types: numbers have the types that they have without.
    number = np.uint32(seed & 0xFFFFFFFF) if isinstance(seed, int) else jnp.uint32(seed)
    key = random.key(number, impl="threefry2x32")
    return random.fold_in(random.fold_in(key, STREAMS[name]), epoch)


def step_noise(key: Array, index: Array | int) -> Noise:
    """The noise of one training step, from the key of its epoch.

    Args:
        key: of the stream "noise".
        index: the step, below 2^28.
    """
    return Noise(random.key_data(key), jnp.asarray(index, jnp.uint32) * np.uint32(SLOTS))


def permutation(key: Array, size: int) -> Array:
    """A permutation of range(size), [size] int32."""
    return jax.random.permutation(key, size).astype(jnp.int32)
