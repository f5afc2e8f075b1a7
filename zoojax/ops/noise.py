"""Counter-based noise.

A sample of the small CNN under variational dropout draws 5,058 normals, so noise
is a large share of its training step. `jax.random.normal` hashes with 20 rounds
in a rolled loop; Threefry-2x32 with 13 rounds passes the same BigCrush battery
(Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, table 2)
and, unrolled, fuses with what uses the numbers: twice as fast on CPU.

The stream is fixed by this file alone (and drawn alike by the CPU kernel), not by
JAX's version or flags.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from zoojax.errors import ZoojaxError

_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY = np.uint32(0x1BD11BDA)
# Slots of one step: one for what each layer draws, then one for the dropout after each.
SLOTS = 16


class Noise(NamedTuple):
    """Where the random numbers of one training step of one member come from.

    Attributes:
        key: [2] uint32, of the member and epoch.
        block: scalar uint32, the upper half of the counter: of the step, plus the slot
            of the layer that draws.
    """

    key: Array
    block: Array

    def at(self, slot: int) -> "Noise":
        """The noise of one layer.

        Args:
            slot: its slot within the step.

        Raises:
            ZoojaxError: a step has no such slot; the next step's noise would be drawn.
        """
        if not 0 <= slot < SLOTS:
            raise ZoojaxError(f"a step has {SLOTS} noise slots, and none of number {slot}")
        return Noise(self.key, self.block + np.uint32(slot))


def check_slots(layers: int) -> None:
    """Raises ZoojaxError if a step has too few slots for a network of so many layers."""
    if 2 * layers > SLOTS:
        raise ZoojaxError(f"networks have at most {SLOTS // 2} layers, not {layers}")


def threefry2x32(key: Array, x0: Array, x1: Array, rounds: int = 13) -> tuple[Array, Array]:
    """Threefry-2x32: two 32-bit words out of a 64-bit key and a 64-bit counter.

    Args:
        key: [2] uint32.
        x0: counters, uint32, any shape.
        x1: counters, uint32, of the same shape.
        rounds: 13 is the fewest that pass BigCrush; 20 is the cautious default of others.

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
    """Standard normal float32 numbers that depend on the noise and their place alone.

    Args:
        noise: where from.
        shape: shape of the result.
        axis: a hash makes two numbers: for the first and the second half of this axis.

    Returns:
        float32 of the given shape.
    """
    # 23 bits to the middle of one of 2^23 equal cells of (-1, 1): never +-1.
    bits = _bits(noise, shape, axis) >> 9
    centred = bits.astype(jnp.float32) * np.float32(2**-22) - np.float32(1 - 2**-23)
    return np.float32(math.sqrt(2)) * lax.erf_inv(centred)


def uniform(noise: Noise, shape: tuple[int, ...]) -> Array:
    """float32 numbers in [0, 1), multiples of 2^-24, of the given shape; as `normal`."""
    return (_bits(noise, shape, -1) >> 8).astype(jnp.float32) * np.float32(2**-24)


def _bits(noise: Noise, shape: tuple[int, ...], axis: int) -> Array:
    axis %= len(shape)
    half = list(shape)
    half[axis] = -(-shape[axis] // 2)
    counter = lax.iota(jnp.uint32, math.prod(half))
    words = threefry2x32(noise.key, counter, jnp.broadcast_to(noise.block, counter.shape))
    both = jnp.concatenate([w.reshape(half) for w in words], axis)
    return lax.slice_in_dim(both, 0, shape[axis], axis=axis)
