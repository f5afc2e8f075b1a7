"""Layers whose pre-activations are sampled: the local reparameterisation trick.

Kingma et al., "Variational Dropout and the Local Reparameterization Trick", 2015. The
variances of weights come in as the variable collection "variance"; what they are made
of is `zoojax.sparsifiers.variational_dropout`'s business.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from zoojax import ops
from zoojax.architectures.base import ConvSpec
from zoojax.architectures.layers import KernelInit, add_bias, conv_params, dense_params
from zoojax.ops import Noise

# Keeps the square root differentiable where an input patch is all zero.
_VARIANCE_FLOOR = 1e-8


class VariationalConv(nn.Module):
    """A convolution of mean conv(x, w) + b and variance conv(x^2, variance of w).

    The variance of b is added where there is one.
    """

    spec: ConvSpec
    kernel_init: KernelInit

    @nn.compact
    def __call__(self, x_BHWC: Array, noise: Noise) -> Array:
        kernel, bias = conv_params(self, self.spec, x_BHWC.shape[-1], self.kernel_init)
        pool = self.spec.pool
        variance = ops.conv(jnp.square(x_BHWC), self.get_variable("variance", "kernel"), pool)
        if self.has_variable("variance", "bias"):
            variance = add_bias(variance, self.get_variable("variance", "bias"))
        mean = add_bias(ops.conv(x_BHWC, kernel, pool), bias)
        # A hash makes two numbers; along the rows of a window they need no shuffling.
        return _sample(mean, variance, ops.normal(noise, mean.shape, 2 if pool > 1 else -1))


class VariationalDense(nn.Module):
    """A fully connected layer; its bias is not variational."""

    features: int
    kernel_init: KernelInit

    @nn.compact
    def __call__(self, x_BC: Array, noise: Noise) -> Array:
        kernel, bias = dense_params(self, x_BC.shape[-1], self.features, self.kernel_init)
        variance = jnp.square(x_BC) @ self.get_variable("variance", "kernel")
        mean = add_bias(x_BC @ kernel, bias)
        return _sample(mean, variance, ops.normal(noise, mean.shape))


def _sample(mean: Array, variance: Array, normal: Array) -> Array:
    return mean + jnp.sqrt(variance + _VARIANCE_FLOOR) * normal
