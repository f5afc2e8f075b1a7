"""Random keys: the only place where zoojax creates them.

A key depends on the member's seed, the name of the stream and the epoch, and within an epoch on
the step and the layer. It never depends on the position of the member, its chunk, the members
trained with it or the devices. Members with the same seed therefore share their random draws.
This is what "fixed seed" means in a grid zoo: every grid cell starts from the same ten draws. A
twin also sees the images in the same order as its parent.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random

from zoojax.ops import Noise
from zoojax.ops.noise import SLOTS

STREAMS = {
    "init": 0,
    "order": 1,
    "noise": 3,
    "views": 4,
    "sparsifier": 5,
    "objective": 6,
    "subset": 7,
    "augmentation": 8,
    "sampling": 9,
    "curvature": 10,
    "predictor": 11,
}


def stream_key(seed: Array | np.ndarray | int, name: str, epoch: Array | int = 0) -> Array:
    """Returns the key of one random stream of one member in one epoch.

    Args:
        seed: Seed of the member, a scalar integer.
        name: A key of STREAMS.
        epoch: Epoch number; 0 for draws that happen once per member.

    Returns:
        A scalar typed key.
    """
    # The implementation and the seed's type are fixed, so that results do not depend on the
    # user's JAX configuration (default PRNG, 64-bit types).
    seed32 = np.uint32(seed & 0xFFFFFFFF) if isinstance(seed, int) else jnp.uint32(seed)
    key = random.key(seed32, impl="threefry2x32")
    return random.fold_in(random.fold_in(key, STREAMS[name]), epoch)


def step_noise(key: Array, index: Array | int, slots: int = SLOTS) -> Noise:
    """Returns the noise source of one training step.

    Args:
        key: Key of the stream "noise" in this epoch.
        index: Index of the step in the epoch, below 2^32 / slots.
        slots: Noise slots per step; see `Architecture.noise_slots`.
    """
    counter = jnp.asarray(index, jnp.uint32) * np.uint32(slots)
    return Noise(random.key_data(key), counter, slots)


def module_key(noise: Noise) -> Array:
    """Returns the key of one training step for random numbers that a Flax module draws itself.

    Args:
        noise: Noise source of the step.
    """
    return random.fold_in(random.wrap_key_data(noise.key, impl="threefry2x32"), noise.counter)


def training_order(
    seed: Array | np.ndarray | int, epoch: Array | int, count: int, fraction: float = 1.0
) -> Array:
    """Returns the order in which a member sees the training images in one epoch.

    Args:
        seed: Seed of the member, a scalar integer; 0 for an order that all members share.
        epoch: Epoch, counted from 1.
        count: Number of training images.
        fraction: Fraction of them that the member is trained on; the same images in every epoch.

    Returns:
        Positions of the images, [max(1, floor(fraction * count))] int32.
    """
    used = max(int(count * fraction), 1)
    order = permutation(stream_key(seed, "order", epoch), used)
    return order if used == count else permutation(stream_key(seed, "subset"), count)[order]


def permutation(key: Array, size: int) -> Array:
    """Returns a random permutation of range(size), [size] int32."""
    return jax.random.permutation(key, size).astype(jnp.int32)
