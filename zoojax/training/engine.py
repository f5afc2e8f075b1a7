"""Loss and evaluation of one member, computed by one of two engines.

"xla" runs the Linen model on any backend. "kernel" runs `zoojax.ops.kernel` on CPUs with a
compiler: its results are equal up to rounding, and it is several times faster. This is the only
module that chooses between engines.
"""

import jax
import jax.numpy as jnp
import optax
from jax import Array

from zoojax.architectures import cnn
from zoojax.architectures.base import Architecture
from zoojax.architectures.cnn import CNN
from zoojax.ops import kernel
from zoojax.sparsifiers.base import Batch, Loss
from zoojax.sparsifiers.variational_layers import VariationalConv, VariationalDense

ENGINES = ("xla", "kernel")
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
    return "kernel" if platform == "cpu" and kernel.unavailable_reason(arch) is None else "xla"


def loss(arch: Architecture, activation: str, engine: str) -> Loss:
    """Creates the training loss of a member.

    Args:
        arch: Architecture of the member.
        activation: A name of `zoojax.architectures.layers.ACTIVATIONS`.
        engine: A name of ENGINES.

    Returns:
        The loss, a pure function (see `zoojax.sparsifiers.base.Loss`).
    """
    if engine == "xla":
        return _xla_loss(arch, activation)

    def kernel_loss(params, variances, batch, noise, dropout_rate):
        images, labels, weights, indices = batch
        indices = jnp.arange(len(labels), dtype=jnp.int32) if indices is None else indices
        return kernel.loss(
            *(arch, activation, params, variances, images, labels, indices),
            weights.astype(jnp.float32),
            *(noise, dropout_rate),
        )

    return kernel_loss


def _xla_loss(arch: Architecture, activation: str) -> Loss:
    dense = CNN(arch, activation)
    variational = CNN(arch, activation, conv=VariationalConv, dense=VariationalDense)

    def xla_loss(params, variances, batch, noise, dropout_rate):
        batch = batch.gather()
        model, variables = dense, {"params": params}
        if variances is not None:
            model, variables = variational, {"params": params, "variance": variances}
        logits = cnn.logits(model, variables, batch.images, noise, dropout_rate)
        correct = (jnp.argmax(logits, axis=-1) == batch.labels) * batch.weights
        return cross_entropy(logits, batch), jnp.sum(correct)

    return xla_loss


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


def evaluate(
    arch: Architecture, activation: str, engine: str, params: dict, images: Array, labels: Array
) -> dict[str, Array]:
    """Computes the mean cross entropy and accuracy of one member on a set of images.

    Args:
        arch: Architecture of the member.
        activation: A name of `zoojax.architectures.layers.ACTIVATIONS`.
        engine: A name of ENGINES.
        params: Parameters of the member, already masked or thresholded.
        images: [n, H, W, C].
        labels: [n] int32.

    Returns:
        {"loss": scalar, "acc": scalar in [0, 1]}.
    """
    if engine == "kernel":
        loss_sum, num_correct, _ = kernel.evaluate(arch, activation, params, images, labels)
    else:
        loss_sum, num_correct = _xla_sums(_xla_loss(arch, activation), params, images, labels)
    return {"loss": loss_sum / labels.shape[0], "acc": num_correct / labels.shape[0]}


def predictions(
    arch: Architecture, activation: str, engine: str, params: dict, images: Array
) -> Array:
    """Predicts the classes of images with one member.

    Args:
        arch: Architecture of the member.
        activation: A name of `zoojax.architectures.layers.ACTIVATIONS`.
        engine: A name of ENGINES.
        params: Parameters of the member, already masked or thresholded.
        images: [n, H, W, C].

    Returns:
        Predicted classes, [n] int32.
    """
    labels = jnp.zeros(images.shape[0], jnp.int32)
    if engine == "kernel":
        return kernel.evaluate(arch, activation, params, images, labels)[2]
    model = CNN(arch, activation)

    def body(_, batch):
        logits = cnn.logits(model, {"params": params}, batch.images)
        return None, jnp.argmax(logits, axis=-1).astype(jnp.int32)

    classes = jax.lax.scan(body, None, evaluation_batches(images, labels))[1]
    return classes.reshape(-1)[: images.shape[0]]


def _xla_sums(loss: Loss, params: dict, images: Array, labels: Array) -> tuple[Array, Array]:
    """Sums of the loss and of correct predictions over a set."""

    def body(carry, batch):
        mean, num_correct = loss(params, None, batch, None, None)
        return (carry[0] + mean * jnp.sum(batch.weights), carry[1] + num_correct), None

    return jax.lax.scan(body, (jnp.float32(0), jnp.float32(0)), evaluation_batches(images, labels))[
        0
    ]


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
