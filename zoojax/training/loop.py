"""The ONE training loop: a pure function of one member, a scan over steps.

What a kind of zoo adds (a loss, a projection, what is evaluated) comes in as a
`Method`; `jax.vmap` over states and hyper-parameters trains a population.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax import keys
from zoojax.ops import Noise
from zoojax.optimizers import OPTIMIZERS
from zoojax.sparsifiers.base import Batch, Method


class Hyperparams(NamedTuple):
    """What differs by member: scalars for one, [members] for a population."""

    seed: Array | np.ndarray
    learning_rate: Array | np.ndarray
    weight_decay: Array | np.ndarray
    dropout: Array | np.ndarray


class TrainState(NamedTuple):
    """All that an epoch changes or needs of one member.

    Attributes:
        trainable: {"params": ...}, and {"log_sigma2": ...} under variational dropout.
        fixed: {} or {"mask": ...}: bool arrays shaped like the kernels, True where kept.
        optimizer: the optimiser's moments.
    """

    trainable: dict[str, Any]
    fixed: dict[str, Any]
    optimizer: Any


def init_state(trainable: dict, fixed: dict, optimizer: str) -> TrainState:
    """A state before its first step: moments at zero."""
    return TrainState(trainable, fixed, OPTIMIZERS[optimizer].init(trainable))


def train_step(
    method: Method,
    optimizer: str,
    state: TrainState,
    hyper: Hyperparams,
    batch: Batch,
    dropout: bool,
    noise: Noise,
    epoch: Array,
) -> tuple[TrainState, Array, Array]:
    """One optimiser step of one member.

    Args:
        method: loss and projection.
        optimizer: a name of OPTIMIZERS.
        state: the member.
        hyper: its hyper-parameters.
        batch: what it is trained on.
        dropout: whether the member uses dropout at all (static).
        noise: of this step.
        epoch: the epoch being trained, counted from 1.

    Returns:
        The member after the step, the loss, and how many of the batch were right before it.
    """
    rate = hyper.dropout if dropout else None
    grad = jax.value_and_grad(method.objective, has_aux=True)
    (loss, correct), grads = grad(state.trainable, batch, rate, noise, epoch)
    grads = jax.tree.map(lambda g, p: g + hyper.weight_decay * p, grads, state.trainable)
    updates, moments = OPTIMIZERS[optimizer].update(grads, state.optimizer)
    trainable = jax.tree.map(lambda p, u: p - hyper.learning_rate * u, state.trainable, updates)
    return TrainState(method.project(trainable, state.fixed), state.fixed, moments), loss, correct


def train_epoch(
    method: Method,
    optimizer: str,
    batch_size: int,
    dropout: bool,
    state: TrainState,
    hyper: Hyperparams,
    images: Array,
    labels: Array,
    order: Array,
    number: Array,
) -> tuple[TrainState, dict[str, Array]]:
    """One pass over the training set by one member.

    Args:
        method: loss and projection.
        optimizer: a name of OPTIMIZERS.
        batch_size: images a step; the last batch may be smaller, as in torch.
        dropout: whether the member uses dropout at all (static).
        state: the member.
        hyper: its hyper-parameters.
        images: training images, [n, H, W, C].
        labels: their classes, [n] int32.
        order: which images, in the order they are met; a permutation of range(n) for all.
        number: the epoch being trained, counted from 1.

    Returns:
        The member after the epoch; and the running train_loss (of the objective) and
        train_acc, means over the samples as they were met, noise on.
    """
    n = order.shape[0]
    steps = -(-n // batch_size)
    padding = steps * batch_size - n
    order = jnp.pad(order, (0, padding)).reshape(steps, batch_size)
    weights = jnp.pad(jnp.ones(n, jnp.float32), (0, padding)).reshape(steps, batch_size)
    noise = keys.stream_key(hyper.seed, "noise", number)

    def body(carry, xs):
        state, loss_sum, correct = carry
        i, index, weight = xs
        batch = Batch(images, labels, weight, index)
        state, loss, hits = train_step(
            method, optimizer, state, hyper, batch, dropout, keys.step_noise(noise, i), number
        )
        return (state, loss_sum + loss * jnp.sum(weight), correct + hits), None

    carry, _ = jax.lax.scan(
        body,
        (state, jnp.float32(0), jnp.float32(0)),
        (jnp.arange(steps, dtype=jnp.int32), order, weights),
    )
    state, loss_sum, correct = carry
    return state, {"train_loss": loss_sum / n, "train_acc": correct / n}
