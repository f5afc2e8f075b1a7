"""Training and evaluation of one member that classifies; programs of predictions and logits.

The returned functions are not jitted: `zoojax.training.inference` compiles them and calls them
block by block. `zoojax.training.task_programs` has the programs of training and evaluation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from zoojax import keys
from zoojax.architectures.base import Architecture
from zoojax.datasets.specs import Images, ImageSet
from zoojax.runtime.population import vmap_members
from zoojax.sparsifiers.base import Sparsifier
from zoojax.training import engine, loop, metrics
from zoojax.training.engine import MemberLoss

ORDERS = ("member", "shared")


Split = tuple[Array | np.ndarray, Array | np.ndarray]


class Splits(NamedTuple):
    """Images of a zoo.

    Attributes:
        train: (images [n, H, W, C], labels [n]) for training.
        val: The same for validation.
        test: The same for testing.
    """

    train: Split
    val: Split
    test: Split


@dataclass(frozen=True)
class ProgramSpec:
    """Static part of a program: members with the same specification run together.

    Attributes:
        sparsifier: The sparsifier, without per-member options.
        architecture: Architecture of the members.
        activation: A name of `zoojax.architectures.layers.ACTIVATIONS`.
        optimizer: A name of `zoojax.optimizers.OPTIMIZERS`.
        dropout: Whether the members use dropout.
        batch_size: Images per training step.
        data_order: "member" (each member shuffles with its own seed) or "shared".
        engine: A name of `zoojax.training.engine.ENGINES`.
        schedule: A name of `zoojax.schedules.SCHEDULES`.
        varied: Names of the numbers in which the members differ from the defaults, such as
            "momentum"; the defaults of others are constants of the program.
        epochs: Epochs of the whole training; None if neither the learning rate nor the
            sparsifier depends on it.
        train_fraction: Fraction of the training images that a member is trained on.
        augmentation: A name of `zoojax.augmentations.AUGMENTATIONS`.
        steps: Steps per epoch, each with all samples; None if an epoch uses each sample once.
    """

    sparsifier: Sparsifier
    architecture: Architecture
    activation: str
    optimizer: str
    dropout: bool
    batch_size: int
    data_order: str = "member"
    engine: str = "xla"
    schedule: str = "constant"
    varied: tuple[str, ...] = ()
    epochs: int | None = None
    train_fraction: float = 1.0
    augmentation: str = "none"
    steps: int | None = None

    @property
    def loss(self) -> MemberLoss:
        """Loss of a member."""
        return engine.loss(self.architecture, self.activation, self.engine)


def splits(image_set: ImageSet) -> Splits:
    """Returns the arrays of an image set, on the host."""

    def pair(images: Images) -> Split:
        return images.images, images.labels

    return Splits(pair(image_set.train), pair(image_set.val), pair(image_set.test))


def evaluate_member(
    spec: ProgramSpec, state: loop.TrainState, splits: dict[str, tuple]
) -> dict[str, Array]:
    """Computes the metrics of one member.

    Args:
        spec: The program.
        state: State of the member.
        splits: {name: (images, labels)}.

    Returns:
        {"<name>_loss", "<name>_acc"} for every split, sparsities and {"finite"}, scalars.
    """
    variables = evaluated_variables(spec, state)
    measured = metrics.sparsity(variables["params"])
    for name, (images, labels) in splits.items():
        result = engine.evaluate(
            spec.architecture, spec.activation, spec.engine, variables, images, labels
        )
        measured |= {f"{name}_{key}": value for key, value in result.items()}
    return measured | {"finite": metrics.is_finite(state.trainable)}


def train_member(
    spec: ProgramSpec,
    state: loop.TrainState,
    hyperparams: loop.Hyperparams,
    split: tuple[Array, Array],
    epoch: Array,
    order: Array | None = None,
) -> tuple[loop.TrainState, dict[str, Array]]:
    """Trains one member for one epoch.

    Args:
        spec: The program.
        state: State of the member.
        hyperparams: Hyperparameters of the member.
        split: Training images and their labels.
        epoch: Epoch being trained, counted from 1.
        order: Positions of the images in training order; None to shuffle with the member's seed.

    Returns:
        The state after the epoch, and {"train_loss", "train_acc"}; see
        `zoojax.training.loop.train_epoch`.
    """
    images, labels = split
    if order is None:
        order = keys.training_order(hyperparams.seed, epoch, labels.shape[0], spec.train_fraction)
    return loop.train_epoch(
        spec.sparsifier,
        spec.loss,
        spec.optimizer,
        spec.batch_size,
        spec.dropout,
        state,
        hyperparams,
        images,
        labels,
        order,
        epoch,
        spec.architecture.noise_slots,
        spec.schedule,
        spec.epochs,
        spec.augmentation,
    )


def predictions(spec: ProgramSpec, mesh: Mesh) -> Callable[[loop.TrainState, Array], Array]:
    """Creates the program that predicts classes with a block of members.

    Args:
        spec: The program.
        mesh: The devices.

    Returns:
        Function (states, images [n, H, W, C]) -> predicted classes [members, n] uint16.
    """

    def predict_member(state, images):
        shape, activation = spec.architecture, spec.activation
        variables = evaluated_variables(spec, state)
        classes = engine.predictions(shape, activation, spec.engine, variables, images)
        return classes.astype(jnp.uint16)

    return vmap_members(predict_member, mesh, (0, None))


def logits(spec: ProgramSpec, mesh: Mesh) -> Callable[[loop.TrainState, Array], Array]:
    """Creates the program that computes logits with a block of members.

    Args:
        spec: The program.
        mesh: The devices.

    Returns:
        Function (states, images [n, H, W, C]) -> logits [members, n, classes].
    """

    def apply_member(state, images):
        return engine.logits(
            spec.architecture, spec.activation, evaluated_variables(spec, state), images
        )

    return vmap_members(apply_member, mesh, (0, None))


def evaluated_variables(spec: ProgramSpec, state: loop.TrainState) -> dict[str, Any]:
    """Returns the variables that a member is evaluated with."""
    params = spec.sparsifier.effective(state.trainable, state.fixed)
    return {"params": params, **state.collections}
