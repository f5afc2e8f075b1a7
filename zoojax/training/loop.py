"""The training loop of one member, a pure function that scans over steps.

What differs between kinds of zoos (objective, projection, evaluated parameters) is passed as a
`Sparsifier`. `jax.vmap` over states and hyperparameters trains a population.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax import keys
from zoojax.ops import Noise
from zoojax.optimizers import OPTIMIZERS
from zoojax.sparsifiers.base import Batch, Sparsifier


class Hyperparams(NamedTuple):
    """Hyperparameters of one member (scalars) or of a population ([members]).

    Attributes:
        seed: Seed of the random streams, uint32.
        learning_rate: Learning rate, float32.
        weight_decay: L2 penalty that is added to the gradient, float32.
        dropout: Dropout rate, float32.
    """

    seed: Array | np.ndarray
    learning_rate: Array | np.ndarray
    weight_decay: Array | np.ndarray
    dropout: Array | np.ndarray


class TrainState(NamedTuple):
    """Training state of one member.

    Attributes:
        trainable: {"params": ...}, with {"log_sigma2": ...} for variational dropout.
        fixed: {}, or {"mask": ...} for magnitude pruning: bool arrays shaped like the weights,
            True where the weight is kept.
        optimizer: Moments of the optimizer.
    """

    trainable: dict[str, Any]
    fixed: dict[str, Any]
    optimizer: Any


def init_state(trainable: dict, fixed: dict, optimizer: str) -> TrainState:
    """Creates the state before the first step, with zero moments.

    Args:
        trainable: Trainable part of the state.
        fixed: Fixed part of the state.
        optimizer: A name of OPTIMIZERS.

    Returns:
        The state.
    """
    return TrainState(trainable, fixed, OPTIMIZERS[optimizer].init(trainable))


def train_step(
    sparsifier: Sparsifier,
    optimizer: str,
    state: TrainState,
    hyperparams: Hyperparams,
    batch: Batch,
    dropout: bool,
    noise: Noise,
    epoch: Array,
) -> tuple[TrainState, Array, Array]:
    """Trains one member for one step.

    Args:
        sparsifier: Objective and projection.
        optimizer: A name of OPTIMIZERS.
        state: State of the member.
        hyperparams: Hyperparameters of the member.
        batch: Batch of this step.
        dropout: Whether the member uses dropout (static).
        noise: Random stream of this step.
        epoch: Epoch being trained, counted from 1.

    Returns:
        (state after the step, loss, number of correct predictions before the step).
    """
    rate = hyperparams.dropout if dropout else None
    grad = jax.value_and_grad(sparsifier.objective, has_aux=True)
    (loss, num_correct), grads = grad(state.trainable, batch, rate, noise, epoch)
    grads = jax.tree.map(lambda g, p: g + hyperparams.weight_decay * p, grads, state.trainable)
    updates, moments = OPTIMIZERS[optimizer].update(grads, state.optimizer)
    trainable = jax.tree.map(
        lambda p, u: p - hyperparams.learning_rate * u, state.trainable, updates
    )
    projected = sparsifier.project(trainable, state.fixed)
    return TrainState(projected, state.fixed, moments), loss, num_correct


def train_epoch(
    sparsifier: Sparsifier,
    optimizer: str,
    batch_size: int,
    dropout: bool,
    state: TrainState,
    hyperparams: Hyperparams,
    images: Array,
    labels: Array,
    order: Array,
    epoch: Array,
) -> tuple[TrainState, dict[str, Array]]:
    """Trains one member for one epoch.

    Args:
        sparsifier: Objective and projection.
        optimizer: A name of OPTIMIZERS.
        batch_size: Images per step; the last batch may be smaller, as in PyTorch.
        dropout: Whether the member uses dropout (static).
        state: State of the member.
        hyperparams: Hyperparameters of the member.
        images: Training images, [n, H, W, C].
        labels: Their classes, [n] int32.
        order: Positions of the images in training order, usually a permutation of range(n).
        epoch: Epoch being trained, counted from 1.

    Returns:
        The state after the epoch, and {"train_loss", "train_acc"}: means of the objective and
        of correct predictions over all samples, measured before each step with noise.
    """
    n = order.shape[0]
    steps = -(-n // batch_size)
    padding = steps * batch_size - n
    order = jnp.pad(order, (0, padding)).reshape(steps, batch_size)
    weights = jnp.pad(jnp.ones(n, jnp.float32), (0, padding)).reshape(steps, batch_size)
    noise = keys.stream_key(hyperparams.seed, "noise", epoch)

    def body(carry, xs):
        state, loss_sum, correct_sum = carry
        step, index, weight = xs
        batch = Batch(images, labels, weight, index)
        step_noise = keys.step_noise(noise, step)
        state, loss, num_correct = train_step(
            sparsifier, optimizer, state, hyperparams, batch, dropout, step_noise, epoch
        )
        return (state, loss_sum + loss * jnp.sum(weight), correct_sum + num_correct), None

    carry, _ = jax.lax.scan(
        body,
        (state, jnp.float32(0), jnp.float32(0)),
        (jnp.arange(steps, dtype=jnp.int32), order, weights),
    )
    state, loss_sum, correct_sum = carry
    return state, {"train_loss": loss_sum / n, "train_acc": correct_sum / n}
