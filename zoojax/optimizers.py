"""The optimizers by name, with the semantics of torch.optim."""

import jax
import jax.numpy as jnp
import optax


def _adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """optax.scale_by_adam with bias corrections as multiplications instead of divisions.

    XLA rewrites a division by a broadcast scalar as a multiplication in single-device programs,
    but not always in multi-device programs, and the last bits of the results would differ.
    """

    def update(updates, state, params=None):
        count = optax.safe_increment(state.count)
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, b2, 2)
        mu_scale = 1 / (1 - jnp.float32(b1) ** count)
        nu_scale = 1 / (1 - jnp.float32(b2) ** count)
        scaled = jax.tree.map(lambda m, n: m * mu_scale / (jnp.sqrt(n * nu_scale) + eps), mu, nu)
        return scaled, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


# Weight decay is added to the gradient (L2), as in torch.optim.Adam and SGD, so it enters the
# moments. This is not AdamW.
OPTIMIZERS: dict[str, optax.GradientTransformation] = {
    "adam": _adam(b1=0.9, b2=0.999, eps=1e-8),
    "sgd": optax.trace(decay=0.9),
}
