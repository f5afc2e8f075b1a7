"""Sparse variational dropout with a learned log sigma squared for every weight.

Molchanov et al., "Variational Dropout Sparsifies Deep Neural Networks", 2017, as used for
"Sparsified Model Zoo Twins" (arXiv 2304.13718). There are two variants:

- "released": matches the code that produced the results in the paper. Convolution biases are
  variational as well (they add to the variance, count in the KL divergence and are
  thresholded); biases of fully connected layers are not.
- "corrected": the method as published. No bias is variational.
"""

import functools
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.architectures.parameters import flat_layers, is_conv, nested_layers
from zoojax.errors import ZoojaxError
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.checks import check_number
from zoojax.sparsifiers.steps import Posterior

VARIANTS = ("released", "corrected")
LOG_ALPHA_THRESHOLD = 3.0
KL_WEIGHT, KL_WARMUP = 0.01, 25
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


def _layer_clip(leaves: dict[str, Any]) -> float:
    return LOG_ALPHA_CLIP["conv" if is_conv(leaves) else "fc"]


def log_alphas(params: dict, log_sigma2: dict) -> dict:
    """Computes log alpha of all variational parameters of one or more members.

    Args:
        params: Parameters.
        log_sigma2: log sigma^2 of the variational parameters.

    Returns:
        log alpha in the structure of `log_sigma2`.
    """
    layers = flat_layers(params)
    return nested_layers(
        {
            path: {
                name: log_alpha(value, layers[path][name], _layer_clip(layers[path]))
                for name, value in leaves.items()
            }
            for path, leaves in flat_layers(log_sigma2).items()
        }
    )


@functools.partial(jax.jit, static_argnames="limit")
def apply_threshold(params: dict, log_sigma2: dict, limit: float = LOG_ALPHA_THRESHOLD) -> dict:
    """Sets variational parameters with a large log alpha to zero, as for evaluation.

    Args:
        params: Parameters.
        log_sigma2: log sigma^2 of the variational parameters.
        limit: Smallest log alpha of parameters that are set to zero (static).

    Returns:
        The thresholded parameters.
    """
    alphas = flat_layers(log_alphas(params, log_sigma2))

    def threshold(path: str, name: str, value: Array) -> Array:
        if name not in alphas.get(path, {}):
            return value
        return jnp.where(alphas[path][name] >= limit, 0.0, value)

    return nested_layers(
        {
            path: {name: threshold(path, name, value) for name, value in leaves.items()}
            for path, leaves in flat_layers(params).items()
        }
    )


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


def kl_weight(epoch: Array, weight: float = KL_WEIGHT, warmup: int = KL_WARMUP) -> Array:
    """Computes the weight of the KL divergence: min(1, weight * (epoch - 1) / warmup).

    Args:
        epoch: Epoch being trained, counted from 1.
        weight: Weight after the warm-up; it rises further at the same rate, but not above 1.
        warmup: Epochs of the warm-up; 0 for a constant weight.

    Returns:
        Scalar float32.
    """
    if not warmup:
        return jnp.float32(weight)
    risen = jnp.float32(weight) * (epoch - 1).astype(jnp.float32) / float(warmup)
    return jnp.minimum(max(1.0, weight), risen)


def init_log_sigma2(params: dict, variant: str) -> dict:
    """Creates the initial log sigma^2 of a twin: -10 for every variational parameter.

    Args:
        params: Parameters, of one member or stacked.
        variant: "released" or "corrected".

    Returns:
        Arrays shaped like the variational parameters, by layer and name.
    """

    def variational_names(leaves: dict[str, Any]) -> tuple[str, ...]:
        has_variational_bias = variant == "released" and is_conv(leaves) and "bias" in leaves
        return ("bias", "kernel") if has_variational_bias else ("kernel",)

    return nested_layers(
        {
            path: {
                name: np.full(leaves[name].shape, INIT_LOG_SIGMA2, leaves[name].dtype)
                for name in variational_names(leaves)
            }
            for path, leaves in flat_layers(params).items()
            if "kernel" in leaves
        }
    )


def variances(params: dict, log_sigma2: dict) -> dict:
    """Computes sigma^2 = alpha * w^2 of all variational parameters of one member.

    Args:
        params: Parameters.
        log_sigma2: log sigma^2 of the variational parameters.

    Returns:
        Variances in the structure of `log_sigma2`.
    """
    layers = flat_layers(params)
    return nested_layers(
        {
            path: {
                name: jnp.exp(alpha) * jnp.square(layers[path][name])
                for name, alpha in leaves.items()
            }
            for path, leaves in flat_layers(log_alphas(params, log_sigma2)).items()
        }
    )


@dataclass(frozen=True)
class VariationalDropout(Sparsifier):
    """Trains with variational dropout: a noise level for every weight, and a threshold.

    Molchanov et al., "Variational Dropout Sparsifies Deep Neural Networks", 2017.

    Trains with sampled pre-activations and evaluates thresholded parameters. The objective is
    mean cross entropy + weight * KL divergence; see `kl_weight`. The variant is determined by
    which parameters have a log sigma squared (see `init_log_sigma2`).

    Attributes:
        variant: "released" (convolution biases are variational, as in the paper's results) or
            "corrected" (no bias is).
        kl_weight: Weight of the KL divergence at the end of the warm-up. It rises linearly from
            zero, and continues to rise at the same rate, but not above 1.
        warmup: Epochs of the warm-up; 0 for a constant weight.
        threshold: Smallest log alpha of weights that are set to zero.

    Raises:
        ZoojaxError: If there is no such variant, or another option is out of range.

    Example:
        >>> zoojax.VariationalDropout(variant="corrected").describe()
        'corrected variant'
    """

    name: ClassVar = "variational_dropout"
    label: ClassVar = "variational dropout"
    short: ClassVar = "VD"
    color: ClassVar = "#0072B2"
    source: ClassVar = "Molchanov et al. 2017, Variational Dropout Sparsifies Deep Neural Networks"
    default_epochs: ClassVar = 25
    samples_layers: ClassVar = True
    optional: ClassVar = ("kl_weight", "warmup", "threshold")

    variant: Literal["released", "corrected"] = "released"
    kl_weight: float = KL_WEIGHT
    warmup: int = KL_WARMUP
    threshold: float = LOG_ALPHA_THRESHOLD

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            known = ", ".join(VARIANTS)
            raise ZoojaxError(f"no variant named '{self.variant}'; there are: {known}")
        check_number("KL weight", self.kl_weight, low=0)
        check_number("warm-up", self.warmup, low=0)
        check_number("threshold", self.threshold)

    def describe(self) -> str:
        """Describes the variant, and options that are not the default."""
        options = {
            name: value for name, value in self.shared_options().items() if name != "variant"
        }
        changed = [f"{name.replace('_', ' ')} {value:g}" for name, value in options.items()]
        return ", ".join([f"{self.variant} variant", *changed])

    def init(self, params: dict[str, Any], values: dict[str, Any]) -> tuple[dict, dict]:
        """Starts from the parent's parameters and the smallest noise."""
        return {"params": params, "log_sigma2": init_log_sigma2(params, self.variant)}, {}

    def loss_inputs(
        self, trainable: dict[str, Any], fixed: dict[str, Any], epoch: Array
    ) -> tuple[dict[str, Any], Posterior]:
        """Distributions of the weights, with the weight of the KL divergence in this epoch."""
        weight = kl_weight(epoch, self.kl_weight, self.warmup)
        return trainable["params"], Posterior(trainable["log_sigma2"], weight)

    def effective(self, trainable: dict[str, Any], fixed: dict[str, Any]) -> dict[str, Any]:
        """Sets weights with a large noise level to zero."""
        return apply_threshold(trainable["params"], trainable["log_sigma2"], self.threshold)

    def unused(self, params: dict[str, Any]) -> dict[str, Any] | None:
        """log sigma squared of fully connected biases in files of the released variant.

        They are stored so that a conversion back to PyTorch reproduces those files.
        """
        if self.variant != "released":
            return None
        variational = jax.eval_shape(lambda p: init_log_sigma2(p, self.variant), params)
        layers = flat_layers(params)
        return {
            path: layers[path]["bias"]
            for path, leaves in flat_layers(variational).items()
            if "bias" not in leaves and "bias" in layers[path]
        }
