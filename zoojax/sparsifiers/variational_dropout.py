"""Sparse variational dropout with a log sigma squared for every weight.

Molchanov et al., "Variational Dropout Sparsifies Deep Neural Networks", 2017, as the
"Sparsified Model Zoo Twins" (arXiv 2304.13718) were made with it. Two variants:

- "released": the code that made the paper's numbers. Convolution biases are
  variational too (they add to the variance, count in the KL, are thresholded);
  those of fully connected layers are not.
- "corrected": the method as published. No bias is variational.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.sparsifiers.base import Loss, Method

VARIANTS = ("released", "corrected")
LOG_ALPHA_THRESHOLD = 3.0
INIT_LOG_SIGMA2 = -10.0
# log alpha is clipped to +- this, by kind of layer.
LOG_ALPHA_CLIP = {"conv": 8.0, "fc": 10.0}
# Constants of the approximate KL (Molchanov et al. 2017, eq. 14).
_K1, _K2, _K3 = 0.63576, 1.8732, 1.48695


def log_alpha(log_sigma2: Array, weight: Array, clip: float) -> Array:
    """log(sigma^2 / w^2), clipped to [-clip, clip]; any shape."""
    raw = log_sigma2 - 2.0 * jnp.log(jnp.abs(weight) + 1e-15)
    return jnp.clip(raw, -clip, clip)


def _layer_clip(layer: str) -> float:
    return LOG_ALPHA_CLIP["conv" if layer.startswith("conv") else "fc"]


def log_alphas(params: dict, log_sigma2: dict) -> dict:
    """log alpha of everything variational, in the structure of log_sigma2."""
    return {
        layer: {
            name: log_alpha(value, params[layer][name], _layer_clip(layer))
            for name, value in leaves.items()
        }
        for layer, leaves in log_sigma2.items()
    }


@jax.jit
def apply_threshold(params: dict, log_sigma2: dict) -> dict:
    """The parameters with everything of log alpha >= 3 at zero: what is evaluated."""
    alphas = log_alphas(params, log_sigma2)
    return {
        layer: {
            name: jnp.where(alphas[layer][name] >= LOG_ALPHA_THRESHOLD, 0.0, value)
            if name in alphas[layer]
            else value
            for name, value in leaves.items()
        }
        for layer, leaves in params.items()
    }


def kl(params: dict, log_sigma2: dict) -> Array:
    """The KL divergence from the log-uniform prior, summed over everything variational."""

    def divergence(alpha: Array) -> Array:
        negative = _K1 * nn.sigmoid(_K2 + _K3 * alpha) - 0.5 * jnp.log1p(jnp.exp(-alpha)) - _K1
        return -jnp.sum(negative)

    return sum(map(divergence, jax.tree.leaves(log_alphas(params, log_sigma2))), jnp.float32(0))


def kl_weight(epoch: Array) -> Array:
    """Weight of the summed KL in an epoch counted from 1: min(1, 0.01 (epoch - 1) / 25)."""
    return jnp.minimum(1.0, jnp.float32(0.01) * (epoch - 1).astype(jnp.float32) / 25.0)


def init_log_sigma2(params: dict, variant: str) -> dict:
    """log sigma^2 of a twin before training: -10 for all that the variant makes variational."""

    def names(layer: str) -> tuple[str, ...]:
        biased = variant == "released" and layer.startswith("conv")
        return ("bias", "kernel") if biased else ("kernel",)

    return {
        layer: {
            name: np.full(leaves[name].shape, INIT_LOG_SIGMA2, leaves[name].dtype)
            for name in names(layer)
        }
        for layer, leaves in params.items()
    }


def variances(params: dict, log_sigma2: dict) -> dict:
    """sigma^2 = alpha w^2 of everything variational, in the structure of log_sigma2."""
    alphas = log_alphas(params, log_sigma2)
    return {
        layer: {
            name: jnp.exp(alpha) * jnp.square(params[layer][name]) for name, alpha in leaves.items()
        }
        for layer, leaves in alphas.items()
    }


def method(loss: Loss) -> Method:
    """Training with sampled pre-activations; evaluation through the threshold.

    The objective is mean cross entropy + kl_weight(epoch) * summed KL. The variant is in
    what has a log sigma squared (see `init_log_sigma2`).
    """

    def objective(trainable, batch, dropout_rate, noise, epoch):
        params, log_sigma2 = trainable["params"], trainable["log_sigma2"]
        spread = variances(params, log_sigma2)
        entropy, correct = loss(params, spread, batch, noise, dropout_rate)
        return entropy + kl_weight(epoch) * kl(params, log_sigma2), correct

    return Method(
        objective,
        project=lambda trainable, _: trainable,
        effective=lambda trainable, _: apply_threshold(
            trainable["params"], trainable["log_sigma2"]
        ),
    )
