"""Layers with sampled pre-activations (local reparameterization trick).

Kingma et al., "Variational Dropout and the Local Reparameterization Trick", 2015. The layers
read the variances of their parameters from the variable collection "variance"; see
`zoojax.sparsifiers.variational_dropout.variances`.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from zoojax import ops
from zoojax.architectures.layers import (
    ConvSpec,
    KernelInit,
    Layers,
    add_bias,
    conv,
    conv_params,
    dense_params,
)
from zoojax.ops import Noise

# Keeps the square root differentiable for input patches that are all zero.
_VARIANCE_FLOOR = 1e-8


class VariationalConv(nn.Module):
    """Convolution whose output is normally distributed.

    The mean is conv(x, w) + b and the variance conv(x^2, var(w)), plus var(b) if the bias is
    variational.

    Attributes:
        spec: Size of the convolution.
        kernel_init: Initializer of the weights.
    """

    spec: ConvSpec
    kernel_init: KernelInit

    @nn.compact
    def __call__(self, x_BHWC: Array, noise: Noise) -> Array:
        kernel, bias = conv_params(self, self.spec, x_BHWC.shape[-1], self.kernel_init)
        variance = conv(jnp.square(x_BHWC), self.get_variable("variance", "kernel"), self.spec)
        if self.has_variable("variance", "bias"):
            variance = add_bias(variance, self.get_variable("variance", "bias"))
        mean = add_bias(conv(x_BHWC, kernel, self.spec), bias)
        # One hash gives two samples; pairing them along axis 2 avoids a shuffle before pooling.
        return _sample(
            mean, variance, ops.normal(noise, mean.shape, 2 if self.spec.pool > 1 else -1)
        )


class VariationalDense(nn.Module):
    """Fully connected layer whose output is normally distributed; its bias is not variational.

    Attributes:
        features: Number of outputs.
        kernel_init: Initializer of the weights.
    """

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


VARIATIONAL = Layers(VariationalConv, VariationalDense)
