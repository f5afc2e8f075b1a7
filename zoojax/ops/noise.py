"""Counter-based noise.

With variational dropout, one sample of the small CNN needs 5,058 normal variates, so noise takes
a large part of a training step. `jax.random.normal` hashes with 20 rounds in a rolled loop.
Threefry-2x32 with 13 rounds passes the same BigCrush tests (Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", SC 2011, table 2). Unrolled, it is fused with the code that uses
the values and is twice as fast on CPU.

This file defines the stream, and the CPU kernel reproduces it. The stream does not depend on
JAX's version or flags.
"""

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from zoojax.errors import ZoojaxError

_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY = np.uint32(0x1BD11BDA)
# Noise slots of one step: one per layer for the layer's own noise, then one per layer for the
# dropout after it. Networks of more than eight layers have more, a power of two.
SLOTS = 16


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["key", "counter"], meta_fields=["slots"]
)
@dataclass(frozen=True)
class Noise:
    """The noise source of one training step of one member.

    Attributes:
        key: Key of the member and epoch, [2] uint32.
        counter: Upper word of the counter: `slots` times the step, plus the slot of the layer;
            scalar uint32.
        slots: Slots of a step (static).
    """

    key: Array
    counter: Array
    slots: int = SLOTS

    def at(self, slot: int) -> "Noise":
        """Returns the noise source of one layer.

        Args:
            slot: The layer's slot within the step, below `slots`.

        Raises:
            ZoojaxError: If a step has no such slot (it would use noise of the next step).
        """
        if not 0 <= slot < self.slots:
            raise ZoojaxError(
                f"noise slot {slot} is not one of the {self.slots} noise slots of a step"
            )
        return Noise(self.key, self.counter + np.uint32(slot), self.slots)


def threefry2x32(key: Array, x0: Array, x1: Array, rounds: int = 13) -> tuple[Array, Array]:
    """Hashes a 64-bit key and 64-bit counters to two 32-bit words (Threefry-2x32).

    Args:
        key: [2] uint32.
        x0: Lower words of the counters, uint32 of any shape.
        x1: Upper words, uint32 of the same shape.
        rounds: Number of rounds. 13 is the fewest that pass BigCrush; other libraries use 20.

    Returns:
        Two uint32 arrays of the counters' shape.
    """
    schedule = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    x0, x1 = x0 + schedule[0], x1 + schedule[1]
    for i in range(rounds):
        rotation = _ROTATIONS[i % 8]
        x0 = x0 + x1
        x1 = ((x1 << rotation) | (x1 >> (32 - rotation))) ^ x0
        if i % 4 == 3:
            injection = i // 4 + 1
            x0 = x0 + schedule[injection % 3]
            x1 = x1 + schedule[(injection + 1) % 3] + np.uint32(injection)
    return x0, x1


def normal(noise: Noise, shape: tuple[int, ...], axis: int = -1) -> Array:
    """Draws standard normal variates that depend only on the noise source and their position.

    Args:
        noise: The noise source.
        shape: Shape of the result.
        axis: Axis along which the two words of each hash are placed: the first word in the
            first half, the second word in the second half.

    Returns:
        float32 array of the given shape.
    """
    # 23 bits select one of 2^23 equal cells of (-1, 1); its center is never -1 or 1.
    bits = _bits(noise, shape, axis) >> 9
    centered = bits.astype(jnp.float32) * np.float32(2**-22) - np.float32(1 - 2**-23)
    return np.float32(math.sqrt(2)) * lax.erf_inv(centered)


def uniform(noise: Noise, shape: tuple[int, ...]) -> Array:
    """Draws uniform variates from [0, 1), multiples of 2^-24.

    Args:
        noise: The noise source.
        shape: Shape of the result.

    Returns:
        float32 array of the given shape.
    """
    return (_bits(noise, shape, -1) >> 8).astype(jnp.float32) * np.float32(2**-24)


def dropout(x: Array, rate: Array, noise: Noise) -> Array:
    """Applies inverted dropout with a traced rate, as torch.nn.Dropout does.

    Args:
        x: Values of any shape.
        rate: Probability of zeroing a value, scalar in [0, 1).
        noise: The noise source.

    Returns:
        Values of the same shape, those that remain divided by 1 - rate.
    """
    keep = uniform(noise, x.shape) < 1.0 - rate
    return jnp.where(keep, x / (1.0 - rate), 0.0)


def _bits(noise: Noise, shape: tuple[int, ...], axis: int) -> Array:
    axis %= len(shape)
    half = list(shape)
    half[axis] = -(-shape[axis] // 2)
    positions = lax.iota(jnp.uint32, math.prod(half))
    words = threefry2x32(noise.key, positions, jnp.broadcast_to(noise.counter, positions.shape))
    both = jnp.concatenate([w.reshape(half) for w in words], axis)
    return lax.slice_in_dim(both, 0, shape[axis], axis=axis)
