"""The primitives whose formulation determines the training speed of a population.

Each is written for ONE member. `jax.vmap` over members turns it into batched matrix products
and elementwise code, which are fast on CPU and GPU.
"""

from zoojax.ops.conv import conv
from zoojax.ops.noise import Noise, normal, uniform
from zoojax.ops.pool import max_pool

__all__ = ["Noise", "conv", "max_pool", "normal", "uniform"]
