"""A member's loss and evaluation, computed by one of two engines.

"xla" runs the Linen model, on any backend. "kernel" runs `zoojax.ops.kernel`, on CPUs
that have a compiler: the same numbers up to rounding, several times faster. All training
and evaluation goes through here, so that nothing else knows of engines.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from zoojax import models
from zoojax.architectures import Architecture
from zoojax.models import CNN
from zoojax.ops import Noise, kernel
from zoojax.variational_layers import VariationalConv, VariationalDense

ENGINES = ("xla", "kernel")
# Images a forward pass of the Linen model, few enough that a chunk's activations stay
# in cache.
_EVALUATION_BATCH = 16


class Batch(NamedTuple):
    """What a step is trained on.

    Attributes:
        images: [B, H, W, C]; or of the whole set, [n, H, W, C], if there are indices.
        labels: [B] int32; or [n].
        weights: [B]: 0 for padding, else 1.
        indices: [B] int32: which of the set, or None for all of it in its order.
    """

    images: Array
    labels: Array
    weights: Array
    indices: Array | None = None

    def gathered(self) -> "Batch":
        """The batch by itself."""
        if self.indices is None:
            return self
        return Batch(self.images[self.indices], self.labels[self.indices], self.weights)


# (params, variances or None, batch, noise or None, dropout rate or None)
# -> (mean cross entropy, weighted number of right answers).
Loss = Callable[
    [dict, dict | None, Batch, Noise | None, Array | None],
    tuple[Array, Array],
]


def engine(arch: Architecture, platform: str) -> str:
    """The faster engine of those that a platform ("cpu", "gpu") has for an architecture."""
    return "kernel" if platform == "cpu" and kernel.why_not(arch) is None else "xla"


def loss(arch: Architecture, activation: str, engine: str) -> Loss:
    """The training loss of a member.

    Args:
        arch: its shape.
        activation: a name of `models.ACTIVATIONS`.
        engine: a name of ENGINES.
    """
    if engine == "xla":
        return _xla_loss(arch, activation)

    def by_kernel(params, variances, batch, noise, dropout_rate):
        images, labels, weights, indices = batch
        indices = jnp.arange(len(labels), dtype=jnp.int32) if indices is None else indices
        return kernel.loss(
            *(arch, activation, params, variances, images, labels, indices),
            weights.astype(jnp.float32),
            *(noise, dropout_rate),
        )

    return by_kernel


def _xla_loss(arch: Architecture, activation: str) -> Loss:
    dense = CNN(arch, activation)
    variational = CNN(arch, activation, conv=VariationalConv, dense=VariationalDense)

    def by_xla(params, variances, batch, noise, dropout_rate):
        batch = batch.gathered()
        model, variables = dense, {"params": params}
        if variances is not None:
            model, variables = variational, {"params": params, "variance": variances}
        logits = models.logits(model, variables, batch.images, noise, dropout_rate)
        hits = (jnp.argmax(logits, axis=-1) == batch.labels) * batch.weights
        return cross_entropy(logits, batch), jnp.sum(hits)

    return by_xla


def cross_entropy(logits: Array, batch: Batch) -> Array:
    """Mean cross entropy over a batch without indices, padding left out."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
    return jnp.sum(losses * batch.weights) / jnp.sum(batch.weights)


def accuracy(
    arch: Architecture, activation: str, engine: str, params: dict, images: Array, labels: Array
) -> dict[str, Array]:
    """Mean cross entropy and accuracy of one member on a set of images.

    Args:
        arch: its shape.
        activation: a name of `models.ACTIVATIONS`.
        engine: a name of ENGINES.
        params: its parameters (thresholds and masks are already in them).
        images: [n, H, W, C].
        labels: [n] int32.

    Returns:
        {"loss": scalar, "acc": scalar in [0, 1]}.
    """
    if engine == "kernel":
        loss_sum, correct, _ = kernel.evaluate(arch, activation, params, images, labels)
    else:
        loss_sum, correct = _xla_sums(_xla_loss(arch, activation), params, images, labels)
    return {"loss": loss_sum / labels.shape[0], "acc": correct / labels.shape[0]}


def predictions(
    arch: Architecture, activation: str, engine: str, params: dict, images: Array
) -> Array:
    """The classes that one member takes images for, [n] int32.

    Args:
        arch: its shape.
        activation: a name of `models.ACTIVATIONS`.
        engine: a name of ENGINES.
        params: its parameters (thresholds and masks are already in them).
        images: [n, H, W, C].
    """
    labels = jnp.zeros(images.shape[0], jnp.int32)
    if engine == "kernel":
        return kernel.evaluate(arch, activation, params, images, labels)[2]
    model = CNN(arch, activation)

    def body(_, batch):
        logits = models.logits(model, {"params": params}, batch.images)
        return None, jnp.argmax(logits, axis=-1).astype(jnp.int32)

    answers = jax.lax.scan(body, None, batched(images, labels))[1]
    return answers.reshape(-1)[: images.shape[0]]


def _xla_sums(loss: Loss, params: dict, images: Array, labels: Array) -> tuple[Array, Array]:
    def body(carry, batch):
        mean, correct = loss(params, None, batch, None, None)
        return (carry[0] + mean * jnp.sum(batch.weights), carry[1] + correct), None

    return jax.lax.scan(body, (jnp.float32(0), jnp.float32(0)), batched(images, labels))[0]


def batched(images: Array, labels: Array) -> Batch:
    """A set as batches [steps, 16, ...] to evaluate, the last one padded at weight 0."""
    n = labels.shape[0]
    steps = -(-n // _EVALUATION_BATCH)
    padding = steps * _EVALUATION_BATCH - n

    def split(x: Array) -> Array:
        padded = jnp.pad(x, ((0, padding), *((0, 0) for _ in x.shape[1:])))
        return padded.reshape(steps, _EVALUATION_BATCH, *x.shape[1:])

    return Batch(split(images), split(labels), split(jnp.ones(n, jnp.float32)))
