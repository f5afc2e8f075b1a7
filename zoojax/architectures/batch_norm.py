"""Batch normalization with the running statistics of torch, for ONE member."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax
from jax.nn import initializers

COLLECTION = "batch_stats"
# The defaults of torch.nn.BatchNorm2d.
MOMENTUM, EPSILON = 0.1, 1e-5


class BatchNorm(nn.Module):
    """torch.nn.BatchNorm2d, with the parameters "scale" and "bias"; "batch_stats" has the rest.

    As in torch, images are normalized with the biased variance of the batch, and the running
    variance "var" is updated with the unbiased one (`flax.linen.BatchNorm` uses the biased one for
    both). "count" is torch's num_batches_tracked, the number of updates of "mean" and "var".
    """

    @nn.compact
    def __call__(self, x_BHWC: Array, train: bool, mask: Array | None) -> Array:
        """Normalizes each channel.

        Args:
            x_BHWC: Values, [batch, height, width, channels].
            train: Whether to normalize with the statistics of this batch, and to update the
                running statistics.
            mask: [batch], False for padding; None without padding.

        Returns:
            Values of the same shape.
        """
        features, axes = x_BHWC.shape[-1:], (0, 1, 2)
        scale = self.param("scale", initializers.ones, features)
        bias = self.param("bias", initializers.zeros, features)
        mean = self.variable(COLLECTION, "mean", jnp.zeros, features)
        var = self.variable(COLLECTION, "var", jnp.ones, features)
        count = self.variable(COLLECTION, "count", jnp.zeros, (), jnp.int32)
        if not train:
            return _normalize(x_BHWC, mean.value, var.value, scale, bias)
        valid = None if mask is None else mask[:, None, None, None]
        batch_mean = x_BHWC.mean(axes, where=valid)
        batch_var = jnp.square(x_BHWC - _row(batch_mean)).mean(axes, where=valid)
        images = x_BHWC.shape[0] if mask is None else mask.sum()
        values = images * x_BHWC[0, ..., 0].size
        unbiased = batch_var * (values / jnp.maximum(values - 1, 1))
        # Not with +=, which would change a caller's NumPy array in place.
        mean.value = mean.value + MOMENTUM * lax.stop_gradient(batch_mean - mean.value)
        var.value = var.value + MOMENTUM * lax.stop_gradient(unbiased - var.value)
        count.value = count.value + 1
        return _normalize(x_BHWC, batch_mean, batch_var, scale, bias)


def _normalize(x_BHWC: Array, mean: Array, var: Array, scale: Array, bias: Array) -> Array:
    return (x_BHWC - _row(mean)) * _row(lax.rsqrt(var + EPSILON) * scale) + _row(bias)


def _row(values: Array) -> Array:
    return values[None, None, None]
