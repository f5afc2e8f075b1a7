"""What the autoencoder learns from: equations 3 to 6 of "Sparsified Model Zoo Twins"."""

import jax
import jax.numpy as jnp
import optax
from jax import Array

from zoojax.hyper_representation.tokens import Tokens
from zoojax.sparsifiers.variational_dropout import LOG_ALPHA_THRESHOLD


def nt_xent(first: Array, second: Array, temperature: float) -> Array:
    """The contrastive loss of two views of a batch (Chen et al. 2020, eq. 1; here eq. 3).

    The mean over both directions of -log softmax of the cosine similarities / temperature
    at the sample's other view, its own self left out: least where pairs point the same way.

    Args:
        first, second: [B, features], projections of the two views.
        temperature: of the softmax.
    """
    both = jnp.concatenate([first, second])
    # The norm's own gradient is NaN at zero.
    squares = jnp.sum(jnp.square(both), axis=1, keepdims=True)
    both = both * jax.lax.rsqrt(jnp.maximum(squares, 1e-16))
    n = both.shape[0]
    similarity = jnp.where(jnp.eye(n, dtype=bool), -jnp.inf, both @ both.T / temperature)
    partner = jnp.roll(jnp.arange(n), n // 2)
    return optax.softmax_cross_entropy_with_integer_labels(similarity, partner).mean()


def scale_log_alpha(log_alpha: Array, radius: float) -> Array:
    """tanh((log alpha - t) / r), t = 3: most of its range lies around the threshold (eq. 5)."""
    return jnp.tanh((log_alpha - LOG_ALPHA_THRESHOLD) / radius)


def masked_mse(predicted: Tokens, target: Tokens, mask: Tokens) -> Array:
    """Mean squared error over a batch of tokens, of what the mask has.

    Of weights in units of their layer's standard deviation it is equation 4; of scaled
    alphas equation 5, divided by their number, so that the two weigh alike.

    Args:
        predicted, target: {group: [B, count, width]}.
        mask: {group: [count, width]}.
    """
    batch = next(iter(target.values())).shape[0]
    squares = {
        name: jnp.sum(mask[name][None] * jnp.square(predicted[name] - target[name]))
        for name in target
    }
    counts = {name: jnp.sum(m) for name, m in mask.items()}
    return _total(squares) / (batch * _total(counts))


def _total(tree: dict[str, Array]) -> Array:
    return jnp.sum(jnp.stack(jax.tree.leaves(tree)))
