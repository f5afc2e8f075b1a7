"""The few primitives whose formulation decides the speed of a population.

Each is written for ONE member, in terms that ``jax.vmap`` over members turns
into batched matrix products and plain elementwise code, on CPU and GPU alike.
"""

from zoojax.ops.conv import conv
from zoojax.ops.noise import Noise, normal, uniform
from zoojax.ops.pool import max_pool

__all__ = ["Noise", "conv", "max_pool", "normal", "uniform"]
