"""Updates of sparsifiers outside of the training loop."""

from typing import Any

import jax
import jax.numpy as jnp

from zoojax.sparsifiers.steps import Update


def at_step(step: Any, steps: int, epochs: int, **fields: Any) -> Update:
    """The update after a step of the whole training, counted from 0."""
    given = {"gradients": None, "key": jax.random.key(0), **fields}
    epoch, within = jnp.asarray(step) // steps + 1, jnp.asarray(step) % steps
    return Update(epoch, within, steps=steps, epochs=epochs, **given)


def at_epoch(epoch: Any, steps: int, epochs: int, **fields: Any) -> Update:
    """The update at the start of an epoch, counted from 1."""
    given = {"gradients": None, "key": jax.random.key(0), **fields}
    return Update(jnp.asarray(epoch), None, steps=steps, epochs=epochs, **given)
