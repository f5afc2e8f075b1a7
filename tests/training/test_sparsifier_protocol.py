"""What the training loop passes to sparsifiers: times, keys, moments and learning rates."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from zoojax import Sparsifier, keys
from zoojax.training import loop

SEED, BATCH, COUNT, EPOCH, EPOCHS = 5, 4, 10, 3, 8
STEPS = 3


def member_loss(params, variances, collections, batch, noise, rate):
    return jnp.sum(params["fc"]["kernel"] ** 2), (jnp.float32(0), collections)


@dataclass(frozen=True)
class Noisy(Sparsifier):
    """Its objective is a random number."""

    draws_noise: ClassVar = True

    def objective(self, loss, trainable, fixed, epoch, key=None):
        assert key is not None
        value, auxiliary = loss(trainable["params"])
        return 0 * value + jax.random.uniform(key), auxiliary


@dataclass(frozen=True)
class Recording(Sparsifier):
    """Counts updates, keeps what they see, and resets moments in even steps."""

    update_every: ClassVar = "step"
    needs_epochs: ClassVar = True

    def update(self, trainable, fixed, update):
        assert (update.steps, update.epochs) == (STEPS, EPOCHS)
        assert update.gradients is not None and update.previous is not None
        step = update.done - (EPOCH - 1) * STEPS - 1
        seen = {
            "gradient": update.gradients["params"]["fc"]["kernel"],
            "previous": update.previous["params"]["fc"]["kernel"],
            "after": trainable["params"]["fc"]["kernel"],
        }
        return trainable, {name: fixed[name].at[step].set(x) for name, x in seen.items()}

    def update_moments(self, moments, before, after, update):
        assert update.step is not None
        odd = update.step % 2
        return jax.tree.map(lambda m: m * odd, moments)

    def learning_rate(self, rate, epoch, step, steps, epochs):
        assert (steps, epochs) == (STEPS, EPOCHS)
        return rate * (step + 1)


def train(sparsifier: Sparsifier, fixed: dict[str, Any]):
    trainable = {"params": {"fc": {"kernel": jnp.array([1.0, -2.0])}}}
    hyper = loop.Hyperparams(
        jnp.uint32(SEED),
        jnp.float32(0.01),
        jnp.float32(0),
        jnp.float32(0),
        {"momentum": jnp.float32(0.5)},
    )
    state = loop.init_state(trainable, fixed, "sgd")
    images, labels, order = jnp.zeros((COUNT, 1)), jnp.zeros(COUNT, jnp.int32), jnp.arange(COUNT)
    return jax.jit(
        lambda: loop.train_epoch(
            *(sparsifier, member_loss, "sgd", BATCH, False, state, hyper, images, labels, order),
            *(jnp.int32(EPOCH),),
            epochs=EPOCHS,
        )
    )()


def test_objectives_draw_from_the_key_of_the_member_and_step():
    key = keys.stream_key(SEED, "objective", EPOCH)
    draws = [float(jax.random.uniform(jax.random.fold_in(key, step))) for step in range(STEPS)]
    assert len(set(draws)) == STEPS
    expected = np.average(draws, weights=[4, 4, 2])  # Images of each step.
    np.testing.assert_allclose(train(Noisy(), {})[1]["train_loss"], expected, rtol=1e-6)


def test_updates_see_each_step_reset_moments_and_change_the_rate():
    zeros = jnp.zeros((STEPS, 2))
    state, _ = train(Recording(), {"gradient": zeros, "previous": zeros, "after": zeros})
    weights, moment = np.array([1.0, -2.0]), np.zeros(2)
    for step in range(STEPS):
        gradient = 2 * weights
        moment = gradient + 0.5 * moment
        after = weights - 0.01 * (step + 1) * moment
        for name, expected in (("gradient", gradient), ("previous", weights), ("after", after)):
            np.testing.assert_allclose(state.fixed[name][step], expected, rtol=1e-5, err_msg=name)
        weights, moment = after, moment * (step % 2)
    np.testing.assert_allclose(state.trainable["params"]["fc"]["kernel"], weights, rtol=1e-5)
    assert not any(leaf.any() for leaf in jax.tree.leaves(state.optimizer))
