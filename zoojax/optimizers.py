"""The optimizers by name, as in torch."""

import jax
import jax.numpy as jnp
import optax


def _adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """optax.scale_by_adam, its bias corrections multiplied with instead of divided by.

    Of a division by something broadcast XLA makes a multiplication in programs of one
    device and not always in those of several: their last bits would differ.
    """

    def update(updates, state, params=None):
        count = optax.safe_increment(state.count)
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, b2, 2)
        of_mu, of_nu = 1 / (1 - jnp.float32(b1) ** count), 1 / (1 - jnp.float32(b2) ** count)
        scaled = jax.tree.map(lambda m, n: m * of_mu / (jnp.sqrt(n * of_nu) + eps), mu, nu)
        return scaled, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


# Weight decay is L2 in the gradient, as in torch.optim.Adam and SGD: the decayed
# gradient enters the moments. It is not AdamW.
OPTIMIZERS: dict[str, optax.GradientTransformation] = {
    "adam": _adam(b1=0.9, b2=0.999, eps=1e-8),
    "sgd": optax.trace(decay=0.9),
}
