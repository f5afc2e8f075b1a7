"""Loss and evaluation of one member, computed by one of two engines.

"xla" runs the Linen model on any backend. "kernel" runs `zoojax.ops.kernel` on CPUs with a
compiler: its results are equal up to rounding, and it is several times faster. This is the only
module that chooses between engines.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from zoojax.architectures import base
from zoojax.architectures.base import Architecture, training_logits
from zoojax.ops import Noise, kernel
from zoojax.ops.kernel.spec import KernelSpec
from zoojax.sparsifiers import variational_dropout
from zoojax.sparsifiers.steps import Batch, Posterior
from zoojax.sparsifiers.variational_layers import VARIATIONAL
from zoojax.training.kernel_loss import KernelLoss

ENGINES = ("xla", "kernel")
Collections = dict[str, Any]
# (params, variances, collections, batch, noise or None, dropout rate or None)
# -> (mean loss of the task, (weighted number of correct predictions, updated collections)).
# Variances are None without variational dropout; see also `zoojax.sparsifiers.steps.Loss`.
MemberLoss = Callable[
    [dict, dict | Posterior | None, Collections, Batch, Noise | None, Array | np.ndarray | None],
    tuple[Array, tuple[Array, Collections]],
]
# `init` is used only to initialize members.
_INIT = "uniform"
# Images per forward pass of the Linen model: small enough that the activations of a block stay
# in the cache.
_EVALUATION_BATCH = 16


def engine(arch: Architecture, platform: str) -> str:
    """Selects the fastest engine that is available.

    Args:
        arch: Architecture of the members.
        platform: JAX platform, for example "cpu" or "gpu".

    Returns:
        A name of ENGINES.
    """
    return "kernel" if kernel_gap(arch, platform) is None else "xla"


def kernel_gap(arch: Architecture, platform: str) -> str | None:
    """Returns why members of an architecture do not run on the C++ kernel.

    The kernel runs dense training, training with any sparsifier, and evaluation of all networks
    that it supports.

    Args:
        arch: Architecture of the members.
        platform: JAX platform, for example "cpu" or "gpu".

    Returns:
        One line about the kernel, such as "it runs on CPUs, not on gpu"; None if they run on it.
    """
    if platform != "cpu":
        return f"it runs on CPUs, not on {platform}"
    return kernel.unavailable_reason(arch.kernel) if arch.kernel else arch.kernel_gap


def loss(arch: Architecture, activation: str, engine: str) -> MemberLoss:
    """Creates the training loss of a member.

    Args:
        arch: Architecture of the member.
        activation: A name of `zoojax.architectures.layers.ACTIVATIONS`.
        engine: A name of ENGINES.

    Returns:
        The loss, a pure function (see `MemberLoss`).
    """
    if engine == "xla":
        return _with_posterior(_xla_loss(arch, activation))

    kernel_loss = KernelLoss(_spec(arch), activation, arch.task.loss)
    if kernel.computes_variances(_spec(arch)):
        return kernel_loss
    return _with_posterior(kernel_loss)


def _with_posterior(loss: MemberLoss) -> MemberLoss:
    """Returns a loss for which XLA computes the variances and KL divergence of a Posterior."""

    def member_loss(params, variances, *arguments):
        if not isinstance(variances, Posterior):
            return loss(params, variances, *arguments)
        log_sigma2, weight = variances
        of = variational_dropout.variances(params, log_sigma2)
        cross_entropy, auxiliary = loss(params, of, *arguments)
        return cross_entropy + weight * variational_dropout.kl(params, log_sigma2), auxiliary

    return member_loss


def _spec(arch: Architecture) -> KernelSpec:
    spec = arch.kernel
    assert spec is not None, f"architecture {arch.name} has no kernel"
    return spec


def _xla_loss(arch: Architecture, activation: str) -> MemberLoss:
    plain = arch.module(activation, _INIT)
    variational = arch.module(activation, _INIT, VARIATIONAL)
    mean_loss, num_correct = _LOSSES[arch.task.loss]

    def xla_loss(params, variances, collections, batch, noise, dropout_rate):
        batch = batch.gather()
        module, variables = plain, {"params": params, **collections}
        if variances is not None:
            module, variables = variational, {**variables, "variance": variances}
        outputs, updated = training_logits(
            module, variables, batch.images, noise, dropout_rate, batch.weights > 0
        )
        return mean_loss(outputs, batch), (num_correct(outputs, batch), updated)

    return xla_loss


def _num_correct(logits: Array, batch: Batch) -> Array:
    return jnp.sum((jnp.argmax(logits, axis=-1) == batch.labels) * batch.weights)


def cross_entropy(logits: Array, batch: Batch) -> Array:
    """Computes the mean cross entropy over a batch without indices, excluding padding.

    Args:
        logits: [B, classes].
        batch: The batch.

    Returns:
        Scalar.
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
    return jnp.sum(losses * batch.weights) / jnp.sum(batch.weights)


def squared_error(outputs: Array, batch: Batch) -> Array:
    """Computes the mean squared error over a batch without indices, excluding padding.

    Args:
        outputs: [B, outputs].
        batch: The batch; its labels are the targets, [B, outputs].

    Returns:
        Scalar.
    """
    losses = jnp.mean(jnp.square(outputs - batch.labels), axis=-1)
    return jnp.sum(losses * batch.weights) / jnp.sum(batch.weights)


# (mean loss, weighted number of correct predictions) of (outputs, batch), by `Task.loss`.
_LOSSES: dict[str, tuple[Callable[[Array, Batch], Array], Callable[[Array, Batch], Array]]] = {
    "cross_entropy": (cross_entropy, _num_correct),
    "squared_error": (squared_error, lambda outputs, batch: jnp.float32(0)),
}


def evaluate(
    arch: Architecture,
    activation: str,
    engine: str,
    variables: dict[str, Any],
    images: Array,
    labels: Array,
) -> dict[str, Array]:
    """Computes the mean cross entropy and accuracy of one member on a set of images.

    Args:
        arch: Architecture of the member.
        activation: A name of `zoojax.architectures.layers.ACTIVATIONS`.
        engine: A name of ENGINES.
        variables: Variables of the member: {"params": ...}, already masked or thresholded, and
            the collections.
        images: [n, H, W, C].
        labels: [n] int32.

    Returns:
        {"loss": scalar, "acc": scalar in [0, 1]}.
    """
    if engine == "kernel":
        loss_sum, num_correct, _ = kernel.evaluate(
            _spec(arch), activation, variables["params"], images, labels
        )
    else:
        loss_sum, num_correct = _xla_sums(arch, activation, variables, images, labels)
    return {"loss": loss_sum / labels.shape[0], "acc": num_correct / labels.shape[0]}


def predictions(
    arch: Architecture, activation: str, engine: str, variables: dict[str, Any], images: Array
) -> Array:
    """Predicts the classes of images with one member.

    Args:
        arch: Architecture of the member.
        activation: A name of `zoojax.architectures.layers.ACTIVATIONS`.
        engine: A name of ENGINES.
        variables: Variables of the member; see `evaluate`.
        images: [n, H, W, C].

    Returns:
        Predicted classes, [n] int32.
    """
    if engine == "kernel":
        labels = jnp.zeros(images.shape[0], jnp.int32)
        return kernel.evaluate(_spec(arch), activation, variables["params"], images, labels)[2]
    return jnp.argmax(logits(arch, activation, variables, images), axis=-1).astype(jnp.int32)


def outputs(
    arch: Architecture, activation: str, engine: str, variables: dict[str, Any], inputs: Array
) -> Array:
    """Computes the outputs of one member for a set of inputs.

    Args:
        arch: Architecture of the member.
        activation: A name of `zoojax.architectures.layers.ACTIVATIONS`.
        engine: A name of ENGINES.
        variables: Variables of the member; see `evaluate`.
        inputs: [n, H, W, C], the same for all members.

    Returns:
        [n, outputs].
    """
    if engine == "xla":
        return logits(arch, activation, variables, inputs)
    index = jnp.arange(inputs.shape[0], dtype=jnp.int32)
    return kernel.outputs(_spec(arch), activation, variables["params"], None, inputs, index)


def sampled_outputs(
    arch: Architecture,
    activation: str,
    engine: str,
    variables: dict[str, Any],
    variances: dict | Posterior | None,
    inputs: Array,
    index: Array,
    noise: Noise,
) -> Array:
    """Computes the outputs of one member with the sampled pre-activations of training.

    Dropout is off, and normalization layers use their running statistics.

    Args:
        arch: Architecture of the member.
        activation: A name of `zoojax.architectures.layers.ACTIVATIONS`.
        engine: A name of ENGINES.
        variables: Variables of the member; see `evaluate`.
        variances: Variances of its weights; None if only the parameters are random.
        inputs: All inputs, [n, H, W, C].
        index: Positions of the batch among them, [B] int32.
        noise: Noise source of the batch.

    Returns:
        [B, outputs].
    """
    params = variables["params"]
    if isinstance(variances, Posterior):
        variances = variational_dropout.variances(params, variances.log_sigma2)
    if engine == "kernel":
        return kernel.outputs(_spec(arch), activation, params, variances, inputs, index, noise)
    if variances is None:
        return base.logits(arch.module(activation, _INIT), variables, inputs[index], noise)
    module = arch.module(activation, _INIT, VARIATIONAL)
    return base.logits(module, {**variables, "variance": variances}, inputs[index], noise)


def logits(arch: Architecture, activation: str, variables: dict[str, Any], images: Array) -> Array:
    """Computes the logits of one member on any number of images, on XLA.

    Args:
        arch: Architecture of the member.
        activation: A name of `zoojax.architectures.layers.ACTIVATIONS`.
        variables: Variables of the member; see `evaluate`.
        images: [n, H, W, C].

    Returns:
        Logits, [n, classes].
    """
    module = arch.module(activation, _INIT)

    def body(_, batch):
        return None, base.logits(module, variables, batch.images)

    labels = jnp.zeros(images.shape[0], jnp.int32)
    outputs = jax.lax.scan(body, None, evaluation_batches(images, labels))[1]
    return outputs.reshape(-1, outputs.shape[-1])[: images.shape[0]]


def _xla_sums(
    arch: Architecture, activation: str, variables: dict[str, Any], images: Array, labels: Array
) -> tuple[Array, Array]:
    """Sums of the loss and of correct predictions over a set."""
    module = arch.module(activation, _INIT)

    def body(carry, batch):
        outputs = base.logits(module, variables, batch.images)
        loss_sum = cross_entropy(outputs, batch) * jnp.sum(batch.weights)
        return (carry[0] + loss_sum, carry[1] + _num_correct(outputs, batch)), None

    zeros = jnp.float32(0), jnp.float32(0)
    return jax.lax.scan(body, zeros, evaluation_batches(images, labels))[0]


def evaluation_batches(images: Array, labels: Array) -> Batch:
    """Splits a set into batches for evaluation.

    Args:
        images: [n, H, W, C].
        labels: [n].

    Returns:
        Batches stacked to [steps, 16, ...]; padding of the last batch has weight 0.
    """
    n = labels.shape[0]
    steps = -(-n // _EVALUATION_BATCH)
    padding = steps * _EVALUATION_BATCH - n

    def split(x: Array) -> Array:
        padded = jnp.pad(x, ((0, padding), *((0, 0) for _ in x.shape[1:])))
        return padded.reshape(steps, _EVALUATION_BATCH, *x.shape[1:])

    return Batch(split(images), split(labels), split(jnp.ones(n, jnp.float32)))
