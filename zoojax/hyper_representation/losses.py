"""Losses of the autoencoder: equations 3 to 6 of "Sparsified Model Zoo Twins"."""

import jax
import jax.numpy as jnp
import optax
from jax import Array

from zoojax.hyper_representation.tokens import Tokens
from zoojax.sparsifiers.variational_dropout import LOG_ALPHA_THRESHOLD


def nt_xent(first: Array, second: Array, temperature: float) -> Array:
    """Computes the contrastive loss of two views of a batch (Chen et al. 2020, eq. 1; eq. 3).

    For each view, the negative log softmax of its cosine similarity to the other view of the
    same sample, over its similarities to all other views. The loss is the mean over all views.

    Args:
        first: Projections of the first view, [B, features].
        second: Projections of the second view, [B, features].
        temperature: Temperature of the softmax.

    Returns:
        A scalar.
    """
    both = jnp.concatenate([first, second])
    # jnp.linalg.norm has a NaN gradient at zero.
    squares = jnp.sum(jnp.square(both), axis=1, keepdims=True)
    both = both * jax.lax.rsqrt(jnp.maximum(squares, 1e-16))
    n = both.shape[0]
    similarity = jnp.where(jnp.eye(n, dtype=bool), -jnp.inf, both @ both.T / temperature)
    partner = jnp.roll(jnp.arange(n), n // 2)
    return optax.softmax_cross_entropy_with_integer_labels(similarity, partner).mean()


def scale_log_alpha(log_alpha: Array, radius: float) -> Array:
    """Computes tanh((log alpha - 3) / r), which resolves values near the threshold (eq. 5).

    Args:
        log_alpha: Log alphas of any shape.
        radius: r, the scale around the threshold.
    """
    return jnp.tanh((log_alpha - LOG_ALPHA_THRESHOLD) / radius)


def masked_mse(predicted: Tokens, target: Tokens, mask: Tokens) -> Array:
    """Computes the mean squared error over the masked values of a batch of tokens.

    For weights in units of their layer's standard deviation this is equation 4. For scaled log
    alphas it is equation 5 divided by their number, so that both terms have the same weight.

    Args:
        predicted: Predicted tokens, {group: [B, count, width]}.
        target: Target tokens, {group: [B, count, width]}.
        mask: Mask of valid values, {group: [count, width]}.

    Returns:
        A scalar.
    """
    batch = next(iter(target.values())).shape[0]
    squares = {
        name: jnp.sum(mask[name][None] * jnp.square(predicted[name] - target[name]))
        for name in target
    }
    counts = {name: jnp.sum(m) for name, m in mask.items()}
    return _total(squares) / (batch * _total(counts))


def divergence(true: Array, predicted: Array) -> Array:
    """Computes the mean Kullback-Leibler divergence of predicted from true distributions.

    Args:
        true: Log probabilities, [..., classes].
        predicted: Log probabilities, same shape.

    Returns:
        A scalar, in nats.
    """
    return jnp.mean(jnp.sum(jnp.exp(true) * (true - predicted), axis=-1))


def _total(tree: dict[str, Array]) -> Array:
    return jnp.sum(jnp.stack(jax.tree.leaves(tree)))
