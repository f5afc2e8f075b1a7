"""The ONE training loop: a pure function of one member, a scan over steps.

What a kind of zoo adds (a loss, a projection, what is evaluated) comes in as a
`Method`; `jax.vmap` over states and hyper-parameters trains a population.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from zoojax import keys
from zoojax.network import Batch, Loss
from zoojax.ops import Noise


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


class Hyper(NamedTuple):
    """What differs by member: scalars for one, [members] for a population."""

    seed: Array | np.ndarray
    learning_rate: Array | np.ndarray
    weight_decay: Array | np.ndarray
    dropout: Array | np.ndarray


class State(NamedTuple):
    """All that an epoch changes or needs of one member.

    Attributes:
        trainable: {"params": ...}, and {"log_sigma2": ...} under variational dropout.
        fixed: {} or {"mask": ...}: bool arrays shaped like the kernels, True where kept.
        optimizer: the optimiser's moments.
    """

    trainable: dict[str, Any]
    fixed: dict[str, Any]
    optimizer: Any


class Method(NamedTuple):
    """What a kind of zoo adds to training; pure functions of one member.

    Attributes:
        objective: (trainable, batch, dropout rate or None, noise, epoch)
            -> (loss, weighted number of right answers).
        project: (trainable, fixed) -> trainable, applied after every step.
        effective: (trainable, fixed) -> the parameters that the member is evaluated with.
    """

    objective: Callable[..., tuple[Array, Array]]
    project: Callable[[dict, dict], dict]
    effective: Callable[[dict, dict], dict]


def dense(loss: Loss) -> Method:
    """Plain training: cross entropy, nothing projected, evaluated as it is."""

    def objective(trainable, batch, dropout_rate, noise, epoch):
        return loss(trainable["params"], None, batch, noise, dropout_rate)

    return Method(
        objective, lambda trainable, _: trainable, lambda trainable, _: trainable["params"]
    )


def init_state(trainable: dict, fixed: dict, optimizer: str) -> State:
    """A state before its first step: moments at zero."""
    return State(trainable, fixed, OPTIMIZERS[optimizer].init(trainable))


def step(
    method: Method,
    optimizer: str,
    state: State,
    hyper: Hyper,
    batch: Batch,
    dropout: bool,
    noise: Noise,
    epoch: Array,
) -> tuple[State, Array, Array]:
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
    return State(method.project(trainable, state.fixed), state.fixed, moments), loss, correct


def epoch(
    method: Method,
    optimizer: str,
    batch_size: int,
    dropout: bool,
    state: State,
    hyper: Hyper,
    images: Array,
    labels: Array,
    order: Array,
    number: Array,
) -> tuple[State, dict[str, Array]]:
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
    noise = keys.stream(hyper.seed, "noise", number)

    def body(carry, xs):
        state, loss_sum, correct = carry
        i, index, weight = xs
        batch = Batch(images, labels, weight, index)
        state, loss, hits = step(
            method, optimizer, state, hyper, batch, dropout, keys.step(noise, i), number
        )
        return (state, loss_sum + loss * jnp.sum(weight), correct + hits), None

    carry, _ = jax.lax.scan(
        body,
        (state, jnp.float32(0), jnp.float32(0)),
        (jnp.arange(steps, dtype=jnp.int32), order, weights),
    )
    state, loss_sum, correct = carry
    return state, {"train_loss": loss_sum / n, "train_acc": correct / n}
