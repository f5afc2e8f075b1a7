"""The primitives whose formulation determines the training speed of a population.

Each is written for ONE member. `jax.vmap` over members turns it into batched matrix products
and elementwise code, which are fast on CPU and GPU.
"""

from zoojax.ops.conv import conv, conv_by_taps
from zoojax.ops.noise import Noise, dropout, normal, uniform
from zoojax.ops.pool import avg_pool, max_pool, windows

__all__ = [
    "Noise",
    "avg_pool",
    "conv",
    "conv_by_taps",
    "dropout",
    "max_pool",
    "normal",
    "uniform",
    "windows",
]
