"""The training loop of one member, a pure function that scans over steps.

What differs between kinds of zoos is passed as a `Sparsifier`. `jax.vmap` over states and
hyperparameters trains a population.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax import keys, optimizers, schedules
from zoojax.augmentations import AUGMENTATIONS, Augmentation, augment
from zoojax.hyperparameters.grid import NUMBER_DEFAULTS
from zoojax.ops import Noise
from zoojax.ops.noise import SLOTS
from zoojax.optimizers import OPTIMIZERS
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.steps import Batch, Update
from zoojax.training.engine import MemberLoss
from zoojax.training.kernel_loss import KernelLoss


class Hyperparams(NamedTuple):
    """Hyperparameters of one member (scalars) or of a population ([members]).

    Attributes:
        seed: Seed of the random streams, uint32.
        learning_rate: Learning rate, float32.
        weight_decay: Weight decay, float32; see `zoojax.optimizers.Optimizer`.
        dropout: Dropout rate, float32.
        varied: Numbers that differ from their defaults, such as {"momentum": ...}, float32 or
            int32; None if there are none.
        own: Data on which only this member is trained, such as the pixels of its image; None if
            all members are trained on the same images.
    """

    seed: Array | np.ndarray
    learning_rate: Array | np.ndarray
    weight_decay: Array | np.ndarray
    dropout: Array | np.ndarray
    varied: Mapping[str, Array | np.ndarray] | None = None
    own: Any = None

    @property
    def numbers(self) -> dict[str, Any]:
        """Numbers of the optimizer and of the schedule, such as the momentum."""
        return {**NUMBER_DEFAULTS, **(self.varied or {})}


class TrainState(NamedTuple):
    """Training state of one member.

    Attributes:
        trainable: {"params": ...} and whatever else the sparsifier trains.
        fixed: What the sparsifier keeps but does not train, such as {"mask": ...}.
        optimizer: Moments of the optimizer.
        collections: Variables of the network that are not parameters, such as batch statistics.
    """

    trainable: dict[str, Any]
    fixed: dict[str, Any]
    optimizer: Any
    collections: dict[str, Any]


def init_state(
    trainable: dict, fixed: dict, optimizer: str, collections: dict | None = None
) -> TrainState:
    """Creates the state before the first step, with zero moments.

    Args:
        trainable: Trainable part of the state.
        fixed: Fixed part of the state.
        optimizer: A name of OPTIMIZERS.
        collections: Collections of the network; None without any.

    Returns:
        The state.
    """
    return TrainState(trainable, fixed, OPTIMIZERS[optimizer].init(trainable), collections or {})


def train_step(
    sparsifier: Sparsifier,
    member_loss: MemberLoss,
    optimizer: str,
    state: TrainState,
    hyperparams: Hyperparams,
    batch: Batch,
    dropout: bool,
    noise: Noise,
    epoch: Array,
    step: Array,
    steps: int = 0,
    epochs: int | None = None,
) -> tuple[TrainState, Array, Array]:
    """Trains one member for one step.

    Args:
        sparsifier: The sparsifier.
        member_loss: Loss of a member; see `zoojax.training.engine.loss`.
        optimizer: A name of OPTIMIZERS.
        state: State of the member.
        hyperparams: Hyperparameters of the member.
        batch: Batch of this step.
        dropout: Whether the member uses dropout (static).
        noise: Random stream of this step.
        epoch: Epoch being trained, counted from 1.
        step: Step within the epoch, counted from 0.
        steps: Steps of one epoch (static), for `Sparsifier.update`.
        epochs: Epochs of the whole training (static); see `train_epoch`.

    Returns:
        (state after the step, loss, number of correct predictions before the step).
    """
    rate = hyperparams.dropout if dropout else None
    given = sparsifier, optimizer, state.trainable, state.fixed
    if isinstance(member_loss, KernelLoss) and member_loss.takes_step(*given, epoch):
        trainable, moments, loss, num_correct = member_loss.step(
            *(*given, state.optimizer, hyperparams.learning_rate, hyperparams.weight_decay),
            *(epoch, batch, noise, rate),
        )
        trainable = sparsifier.project(trainable, state.fixed)
        return state._replace(trainable=trainable, optimizer=moments), loss, num_correct
    noise_key = (
        (jax.random.fold_in(keys.stream_key(hyperparams.seed, "objective", epoch), step),)
        if sparsifier.draws_noise
        else ()
    )

    def batch_loss(params, variances=None):
        return member_loss(params, variances, state.collections, batch, noise, rate)

    def objective(trainable):
        return sparsifier.objective(batch_loss, trainable, state.fixed, epoch, *noise_key)

    value_and_gradients = jax.value_and_grad(objective, has_aux=True)
    (loss, (num_correct, collections)), gradients = value_and_gradients(state.trainable)
    trainable, moments = optimizers.step(
        *(optimizer, state.trainable, gradients, state.optimizer),
        *(hyperparams.learning_rate, hyperparams.weight_decay, hyperparams.numbers["momentum"]),
    )
    fixed = state.fixed
    if sparsifier.update_every == "step":
        key = keys.stream_key(hyperparams.seed, "sparsifier", epoch)
        key = jax.random.fold_in(key, step + 1)
        update = Update(epoch, step, gradients, key, steps, epochs, state.trainable)
        trainable, fixed = sparsifier.update(trainable, fixed, update)
        moments = sparsifier.update_moments(moments, state.fixed, fixed, update)
    trainable = sparsifier.project(trainable, fixed)
    return TrainState(trainable, fixed, moments, collections), loss, num_correct


def train_epoch(
    sparsifier: Sparsifier,
    member_loss: MemberLoss,
    optimizer: str,
    batch_size: int,
    dropout: bool,
    state: TrainState,
    hyperparams: Hyperparams,
    images: Array,
    labels: Array,
    order: Array,
    epoch: Array,
    noise_slots: int = SLOTS,
    schedule: str = "constant",
    epochs: int | None = None,
    augmentation: str = "none",
) -> tuple[TrainState, dict[str, Array]]:
    """Trains one member for one epoch.

    Args:
        sparsifier: The sparsifier.
        member_loss: Loss of a member; see `zoojax.training.engine.loss`.
        optimizer: A name of OPTIMIZERS.
        batch_size: Images per step; the last batch may be smaller, as in PyTorch.
        dropout: Whether the member uses dropout (static).
        state: State of the member.
        hyperparams: Hyperparameters of the member.
        images: Training images, [n, H, W, C].
        labels: Their classes, [n] int32.
        order: Positions of the images in training order, usually a permutation of range(n).
        epoch: Epoch being trained, counted from 1.
        noise_slots: Noise slots per step (static); see `Architecture.noise_slots`.
        schedule: A name of `zoojax.schedules.SCHEDULES`.
        epochs: Epochs of the whole training (static); None if neither the learning rate
            (`zoojax.schedules.needs_epochs`) nor the sparsifier depends on it.
        augmentation: A name of `zoojax.augmentations.AUGMENTATIONS`. Pixels outside of an image
            have the smallest value of each channel in the training images: black.

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
    augment_batch = _augmenter(augmentation, hyperparams.seed, images, epoch)
    if sparsifier.update_every == "epoch":
        key = jax.random.fold_in(keys.stream_key(hyperparams.seed, "sparsifier", epoch), 0)
        update = Update(epoch, None, None, key, steps, epochs)
        trainable, fixed = sparsifier.update(state.trainable, state.fixed, update)
        moments = sparsifier.update_moments(state.optimizer, state.fixed, fixed, update)
        trainable = sparsifier.project(trainable, fixed)
        state = state._replace(trainable=trainable, fixed=fixed, optimizer=moments)

    def body(carry, xs):
        state, loss_sum, correct_sum = carry
        step, index, weight = xs
        batch = augment_batch(Batch(images, labels, weight, index), step)
        step_noise = keys.step_noise(noise, step, noise_slots)
        rate = schedules.learning_rate(
            *(schedule, hyperparams.learning_rate, hyperparams.numbers),
            *(epoch, step, steps, epochs),
        )
        rate = sparsifier.learning_rate(rate, epoch, step, steps, epochs)
        state, loss, num_correct = train_step(
            sparsifier,
            member_loss,
            optimizer,
            state,
            hyperparams._replace(learning_rate=rate),
            batch,
            dropout,
            step_noise,
            epoch,
            step,
            steps,
            epochs,
        )
        return (state, loss_sum + loss * jnp.sum(weight), correct_sum + num_correct), None

    carry, _ = jax.lax.scan(
        body,
        (state, jnp.float32(0), jnp.float32(0)),
        (jnp.arange(steps, dtype=jnp.int32), order, weights),
    )
    state, loss_sum, correct_sum = carry
    return state, {"train_loss": loss_sum / n, "train_acc": correct_sum / n}


def _augmenter(
    name: str, seed: Array | np.ndarray, images: Array, epoch: Array
) -> Callable[[Batch, Array], Batch]:
    """Returns a function (batch, step) -> augmented batch."""
    if AUGMENTATIONS[name] == Augmentation():
        return lambda batch, step: batch
    key, border_C = keys.stream_key(seed, "augmentation", epoch), images.min((0, 1, 2))

    def augmented(batch: Batch, step: Array) -> Batch:
        gathered = batch.gather()
        draws = jax.random.fold_in(key, step)
        return gathered._replace(images=augment(name, draws, gathered.images, border_C))

    return augmented
