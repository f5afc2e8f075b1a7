"""Training, evaluation and loss of one member."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.architectures import base
from zoojax.augmentations import AUGMENTATIONS
from zoojax.errors import ZoojaxError
from zoojax.functional import arguments
from zoojax.functional.member import Member, check_member
from zoojax.hyperparameters.declaration import check_name
from zoojax.hyperparameters.grid import BY_NAME
from zoojax.schedules import SCHEDULES, needs_epochs
from zoojax.sparsifiers.steps import Batch
from zoojax.training import engine, metrics
from zoojax.training.inputs import checked_arrays, checked_images, checked_labels
from zoojax.training.loop import Hyperparams
from zoojax.training.programs import ProgramSpec, train_member


def train_epoch(
    member: Member,
    images: Array | np.ndarray,
    labels: Array | np.ndarray,
    learning_rate: float | Array,
    *,
    weight_decay: float | Array = 0.0,
    dropout: float | Array | None = None,
    batch_size: int = 10,
    momentum: float | Array | None = None,
    schedule: str = "constant",
    epochs: int | None = None,
    warmup: float | Array | None = None,
    step_factor: float | Array | None = None,
    step_interval: int | Array | None = None,
    train_fraction: float = 1.0,
    augmentation: str = "none",
) -> tuple[Member, dict[str, Array]]:
    """Trains one member for one epoch, with the optimizer of `init`.

    The member shuffles the images by its seed and epoch. Values of traced arguments cannot be
    checked: an invalid label stops the kernel with an error, and gives NaN on XLA.

    Args:
        member: The member.
        images: Normalized images, [n, height, width, channels], floating point.
        labels: Their classes, [n] integers.
        learning_rate: Learning rate, positive.
        weight_decay: Weight decay, non-negative: added to the gradient, or decoupled with "adamw".
        dropout: Dropout rate in [0, 1); None without dropout.
        batch_size: Images per step (static); the last batch may be smaller.
        momentum: Momentum of "sgd" and "nesterov" in [0, 1); None for 0.9.
        schedule: Schedule of the learning rate (static): "constant", "cosine", "one_cycle" or
            "step"; see `zoojax.schedules`. The rate depends on the epoch of the member.
        epochs: Epochs of the whole training (static); needed with "cosine", "one_cycle", a
            warm-up, or a sparsifier that depends on it, such as gradual magnitude pruning.
        warmup: Fraction of all steps in [0, 1) in which the learning rate first rises linearly;
            None without a warm-up.
        step_factor: Factor of the learning rate in schedule "step"; None for 0.1.
        step_interval: Epochs between changes of the rate in schedule "step"; None for 10.
        train_fraction: Fraction of the images in (0, 1] that the member is trained on (static);
            its seed determines which images.
        augmentation: Augmentation of the images (static): "none", "crop", "flip" or "crop_flip";
            see `zoojax.augmentations`.

    Returns:
        The member after the epoch, and {"train_loss", "train_acc"}: means over all images of the
        objective and of correct predictions (in [0, 1]), measured before each step.

    Raises:
        ZoojaxError: If an argument has the wrong shape or type, or is out of range.

    Example:
        >>> from zoojax import functional
        >>> member = functional.init("small", seed=1)
        >>> member, metrics = jax.jit(functional.train_epoch)(member, images, labels, 1e-3)
        >>> int(member.epoch), sorted(metrics)
        (1, ['train_acc', 'train_loss'])
        >>> schedule = {"schedule": "cosine", "epochs": 2, "warmup": 0.1}
        >>> train = jax.jit(lambda m: functional.train_epoch(m, images, labels, 1e-3, **schedule))
        >>> member, metrics = train(functional.init("small", seed=1, optimizer="adamw"))
    """
    check_member(member)
    split = _images_and_labels(member, images, labels)
    given = {
        "momentum": momentum,
        "warmup": warmup,
        "step_factor": step_factor,
        "step_interval": step_interval,
    }
    varied = {name: _number(name, value) for name, value in given.items() if value is not None}
    hyperparams = Hyperparams(
        member.seed,
        _number("learning_rate", learning_rate),
        _number("weight_decay", weight_decay),
        _number("dropout", 0.0 if dropout is None else dropout),
        varied,
    )
    check_name("schedule", schedule, SCHEDULES)
    check_name("augmentation", augmentation, AUGMENTATIONS)
    scheduled = needs_epochs(schedule, hyperparams.numbers["warmup"])
    needed = scheduled or member.sparsifier.needs_epochs
    if needed and epochs is None:
        what = f"schedule {schedule}" if SCHEDULES[schedule].has_horizon else "warmup"
        what = what if scheduled else member.sparsifier.label
        raise ZoojaxError(f"{what} needs the number of epochs of the whole training; give epochs")
    spec = ProgramSpec(
        member.sparsifier,
        member.architecture,
        member.activation,
        member.optimizer,
        dropout is not None,
        arguments.count("batch_size", batch_size),
        engine=_engine(member),
        schedule=schedule,
        varied=tuple(varied),
        epochs=arguments.count("epochs", epochs) if needed else None,
        train_fraction=_fraction(train_fraction),
        augmentation=augmentation,
    )
    epoch = member.epoch + 1
    state, measured = train_member(spec, member.state, hyperparams, split, epoch)
    return dataclasses.replace(member, state=state, epoch=epoch), measured


def evaluate(
    member: Member, images: Array | np.ndarray, labels: Array | np.ndarray
) -> dict[str, Array]:
    """Evaluates one member on a set of images.

    Args:
        member: The member.
        images: Normalized images, [n, height, width, channels], floating point.
        labels: Their classes, [n] integers.

    Returns:
        {"loss": mean cross entropy in nats, "acc": accuracy in [0, 1], "sparsity": fraction of
        weights that are zero, "sparsity_LAYER": the same by layer}, scalars.

    Raises:
        ZoojaxError: If an argument has the wrong shape or type, or a label is out of range.

    Example:
        >>> from zoojax import functional
        >>> member = functional.init("small", seed=1)
        >>> metrics = jax.jit(functional.evaluate)(member, images, labels)
        >>> 0 <= float(metrics["acc"]) <= 1, float(metrics["sparsity"])
        (True, 0.0)
    """
    check_member(member)
    images, labels = _images_and_labels(member, images, labels)
    params = member.sparse_params
    variables = {"params": params, **member.state.collections}
    arch, activation = member.architecture, member.activation
    measured = engine.evaluate(arch, activation, _engine(member), variables, images, labels)
    return measured | metrics.sparsity(params)


def logits(member: Member, images: Array | np.ndarray) -> Array:
    """Computes the logits of one member, as in evaluation; always on XLA.

    Args:
        member: The member.
        images: Normalized images, [n, height, width, channels], floating point.

    Returns:
        Logits, [n, classes] float32.

    Raises:
        ZoojaxError: If the images have the wrong shape or type.

    Example:
        >>> member = zoojax.functional.init("small", seed=1)
        >>> jax.jit(zoojax.functional.logits)(member, images).shape
        (65, 10)
    """
    check_member(member)
    arch = member.architecture
    variables = {"params": member.sparse_params, **member.state.collections}
    module = arch.module(member.activation, "uniform")
    return base.logits(module, variables, jnp.asarray(checked_images(arch, images)))


def loss(
    params: dict[str, Any],
    member: Member,
    images: Array | np.ndarray,
    labels: Array | np.ndarray,
    indices: Array | np.ndarray | None = None,
) -> Array:
    """Computes the mean cross entropy of one member, for an optimizer of your own.

    `jax.grad` differentiates it with respect to `params`, once (in the kernel, together with the
    loss); for other derivatives use `logits`. There is no dropout, and no term of a sparsifier.

    Args:
        params: Parameters to compute the loss of, instead of the member's own.
        member: The member.
        images: Normalized images, [n, height, width, channels], floating point.
        labels: Their classes, [n] integers.
        indices: Positions of the batch in `images`, [batch] integers; None for all images. On
            the kernel this is much faster than images that differ between mapped members.

    Returns:
        Mean cross entropy over the batch in nats, scalar float32.

    Raises:
        ZoojaxError: If an argument has the wrong shape or type or is out of range, or the
            architecture has batch statistics or other collections, which only `train_epoch`
            updates.

    Example:
        >>> import optax
        >>> from zoojax import functional
        >>> optimizer = optax.adam(1e-3)
        >>> @jax.jit
        ... def step(member, moments):
        ...     value_and_grad = jax.value_and_grad(functional.loss)
        ...     value, gradients = value_and_grad(member.params, member, images, labels)
        ...     updates, moments = optimizer.update(gradients, moments)
        ...     member = member.with_params(optax.apply_updates(member.params, updates))
        ...     return member, moments, value
        >>> member = functional.init("small", seed=1)
        >>> moments, losses = optimizer.init(member.params), []
        >>> for _ in range(3):
        ...     member, moments, value = step(member, moments)
        ...     losses.append(float(value))
        >>> losses == sorted(losses, reverse=True)
        True
    """
    check_member(member)
    arch = member.architecture
    if arch.collections:
        listed = ", ".join(arch.collections)
        raise ZoojaxError(
            f"architecture {arch.name} has {listed}, which loss does not update; use train_epoch"
        )
    images, labels = _images_and_labels(member, images, labels)
    if indices is None:
        indices = jnp.arange(labels.shape[0], dtype=jnp.int32)
    indices = _checked_indices(indices, labels.shape[0])
    batch = Batch(images, labels, jnp.ones(indices.shape, jnp.float32), indices)
    member_loss = engine.loss(arch, member.activation, _engine(member))
    params = jax.tree.map(jnp.asarray, checked_arrays(arch, params, ()))
    return member_loss(params, None, {}, batch, None, None)[0]


def _number(name: str, value: Any) -> Array:
    declared = BY_NAME[name]
    return arguments.number(name, value, declared.check, declared.kind is int)


def _fraction(value: Any) -> float:
    if arguments.is_traced(value):
        raise ZoojaxError("train_fraction cannot be an argument of jax.jit or jax.vmap")
    BY_NAME["train_fraction"].check(value)
    return float(value)


def _engine(member: Member) -> str:
    return engine.engine(member.architecture, jax.default_backend())


def _images_and_labels(member: Member, images: Any, labels: Any) -> tuple[Array, Array]:
    arch = member.architecture
    if arch.task.has_own_images:
        raise ZoojaxError(
            f"members of the {arch.label} learn one image each, without labels; train them with "
            "train_zoo, or with apply and a loss of your own"
        )
    images = jnp.asarray(checked_images(arch, images))
    return images, jnp.asarray(checked_labels(arch, labels, images.shape[0]))


def _checked_indices(indices: Any, count: int) -> Array:
    if not (
        arguments.is_array(indices)
        and jnp.issubdtype(indices.dtype, jnp.integer)
        and len(indices.shape) == 1
        and indices.shape[0]
    ):
        raise ZoojaxError(f"indices are {arguments.described(indices)}; give int32 (batch,)")
    if not arguments.is_traced(indices) and not 0 <= indices.min() <= indices.max() < count:
        raise ZoojaxError(
            f"indices are from {indices.min()} to {indices.max()}; give 0 to {count - 1}"
        )
    return jnp.asarray(indices, jnp.int32)
