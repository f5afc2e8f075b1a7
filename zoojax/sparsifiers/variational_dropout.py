"""Sparse variational dropout with a learned log sigma squared for every weight.

Molchanov et al., "Variational Dropout Sparsifies Deep Neural Networks", 2017, as used for
"Sparsified Model Zoo Twins" (arXiv 2304.13718). There are two variants:

- "released": matches the code that produced the results in the paper. Convolution biases are
  variational as well (they add to the variance, count in the KL divergence and are
  thresholded); biases of fully connected layers are not.
- "corrected": the method as published. No bias is variational.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.sparsifiers.base import Loss, Sparsifier

VARIANTS = ("released", "corrected")
LOG_ALPHA_THRESHOLD = 3.0
INIT_LOG_SIGMA2 = -10.0
# log alpha is clipped to [-value, value], by layer type.
LOG_ALPHA_CLIP = {"conv": 8.0, "fc": 10.0}
# Constants of the approximate KL divergence (Molchanov et al. 2017, eq. 14).
_K1, _K2, _K3 = 0.63576, 1.8732, 1.48695


def log_alpha(log_sigma2: Array, weight: Array, clip: float) -> Array:
    """Computes log alpha = log(sigma^2 / w^2), clipped to [-clip, clip].

    Args:
        log_sigma2: log sigma^2, any shape.
        weight: Weights w, same shape.
        clip: Bound of the absolute value.

    Returns:
        log alpha, same shape.
    """
    raw = log_sigma2 - 2.0 * jnp.log(jnp.abs(weight) + 1e-15)
    return jnp.clip(raw, -clip, clip)


def _layer_clip(layer: str) -> float:
    return LOG_ALPHA_CLIP["conv" if layer.startswith("conv") else "fc"]


def log_alphas(params: dict, log_sigma2: dict) -> dict:
    """Computes log alpha of all variational parameters of one or more members.

    Args:
        params: Parameters.
        log_sigma2: log sigma^2 of the variational parameters.

    Returns:
        log alpha in the structure of `log_sigma2`.
    """
    return {
        layer: {
            name: log_alpha(value, params[layer][name], _layer_clip(layer))
            for name, value in leaves.items()
        }
        for layer, leaves in log_sigma2.items()
    }


@jax.jit
def apply_threshold(params: dict, log_sigma2: dict) -> dict:
    """Sets variational parameters with log alpha >= 3 to zero, as for evaluation.

    Args:
        params: Parameters.
        log_sigma2: log sigma^2 of the variational parameters.

    Returns:
        The thresholded parameters.
    """
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
    """Computes the KL divergence from the log-uniform prior (Molchanov et al. 2017, eq. 14).

    Args:
        params: Parameters of one member.
        log_sigma2: log sigma^2 of the variational parameters.

    Returns:
        Scalar sum over all variational parameters.
    """

    def divergence(alpha: Array) -> Array:
        negative = _K1 * nn.sigmoid(_K2 + _K3 * alpha) - 0.5 * jnp.log1p(jnp.exp(-alpha)) - _K1
        return -jnp.sum(negative)

    return sum(map(divergence, jax.tree.leaves(log_alphas(params, log_sigma2))), jnp.float32(0))


def kl_weight(epoch: Array) -> Array:
    """Computes the weight of the KL divergence: min(1, 0.01 * (epoch - 1) / 25).

    Args:
        epoch: Epoch being trained, counted from 1.

    Returns:
        Scalar float32.
    """
    return jnp.minimum(1.0, jnp.float32(0.01) * (epoch - 1).astype(jnp.float32) / 25.0)


def init_log_sigma2(params: dict, variant: str) -> dict:
    """Creates the initial log sigma^2 of a twin: -10 for every variational parameter.

    Args:
        params: Parameters, of one member or stacked.
        variant: "released" or "corrected".

    Returns:
        Arrays shaped like the variational parameters, by layer and name.
    """

    def variational_names(layer: str) -> tuple[str, ...]:
        has_variational_bias = variant == "released" and layer.startswith("conv")
        return ("bias", "kernel") if has_variational_bias else ("kernel",)

    return {
        layer: {
            name: np.full(leaves[name].shape, INIT_LOG_SIGMA2, leaves[name].dtype)
            for name in variational_names(layer)
        }
        for layer, leaves in params.items()
    }


def variances(params: dict, log_sigma2: dict) -> dict:
    """Computes sigma^2 = alpha * w^2 of all variational parameters of one member.

    Args:
        params: Parameters.
        log_sigma2: log sigma^2 of the variational parameters.

    Returns:
        Variances in the structure of `log_sigma2`.
    """
    alphas = log_alphas(params, log_sigma2)
    return {
        layer: {
            name: jnp.exp(alpha) * jnp.square(params[layer][name]) for name, alpha in leaves.items()
        }
        for layer, leaves in alphas.items()
    }


def sparsifier(loss: Loss) -> Sparsifier:
    """Creates the sparsifier of variational-dropout zoos.

    Trains with sampled pre-activations and evaluates thresholded parameters. The objective is
    mean cross entropy + kl_weight(epoch) * KL divergence. The variant is determined by which
    parameters have a log sigma squared (see `init_log_sigma2`).

    Args:
        loss: Training loss of a member.

    Returns:
        The sparsifier.
    """

    def objective(trainable, batch, dropout_rate, noise, epoch):
        params, log_sigma2 = trainable["params"], trainable["log_sigma2"]
        sigma2 = variances(params, log_sigma2)
        cross_entropy, num_correct = loss(params, sigma2, batch, noise, dropout_rate)
        return cross_entropy + kl_weight(epoch) * kl(params, log_sigma2), num_correct

    return Sparsifier(
        objective,
        project=lambda trainable, _: trainable,
        effective=lambda trainable, _: apply_threshold(
            trainable["params"], trainable["log_sigma2"]
        ),
    )
