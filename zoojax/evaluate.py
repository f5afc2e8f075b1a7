"""What a member is worth: loss, accuracy, sparsity. Pure functions of one member."""

import jax
import jax.numpy as jnp
from jax import Array

from zoojax import models
from zoojax.magnitude_pruning import kernels
from zoojax.models import CNN
from zoojax.train import Batch, cross_entropy

# Images a forward pass, small enough that a chunk's activations stay in cache.
EVALUATION_BATCH = 16


def accuracy(model: CNN, params: dict, images: Array, labels: Array) -> dict[str, Array]:
    """Mean cross entropy and accuracy of one member on a set of images.

    Args:
        model: the dense model (thresholds and masks are already in the parameters).
        params: the member's parameters.
        images: [n, H, W, C].
        labels: [n] int32.

    Returns:
        {"loss": scalar, "acc": scalar in [0, 1]}.
    """
    n = labels.shape[0]
    batches = batched(images, labels)

    def body(carry, batch):
        loss_sum, correct = carry
        logits = models.logits(model, {"params": params}, batch.images)
        hits = (jnp.argmax(logits, axis=-1) == batch.labels) * batch.weights
        loss_sum += cross_entropy(logits, batch) * jnp.sum(batch.weights)
        return (loss_sum, correct + jnp.sum(hits)), None

    (loss_sum, correct), _ = jax.lax.scan(body, (jnp.float32(0), jnp.float32(0)), batches)
    return {"loss": loss_sum / n, "acc": correct / n}


def batched(images: Array, labels: Array) -> Batch:
    """The set as batches [steps, EVALUATION_BATCH, ...], the last one padded at weight 0."""
    n = labels.shape[0]
    steps = -(-n // EVALUATION_BATCH)
    padding = steps * EVALUATION_BATCH - n

    def split(x: Array) -> Array:
        padded = jnp.pad(x, ((0, padding), *((0, 0) for _ in x.shape[1:])))
        return padded.reshape(steps, EVALUATION_BATCH, *x.shape[1:])

    return Batch(split(images), split(labels), split(jnp.ones(n)))


def sparsity(params: dict) -> dict[str, Array]:
    """Share of weights that are exactly zero, whole and per layer.

    Counted over weights: biases are in neither numerator nor denominator.

    Returns:
        {"sparsity": scalar, "sparsity_conv1": scalar, ...}, each in [0, 1].
    """
    weights = kernels(params)
    zeros = {layer: jnp.sum(_is_zero(w)) for layer, w in weights.items()}
    total = sum(w.size for w in weights.values())
    whole = jnp.sum(jnp.stack(list(zeros.values()))) / total
    return {"sparsity": whole} | {
        f"sparsity_{layer}": zeros[layer] / weights[layer].size for layer in weights
    }


def _is_zero(x: Array) -> Array:
    """Whether numbers are 0 or -0. By their bits: XLA on CPU takes denormals for zero."""
    bits = jax.lax.bitcast_convert_type(jnp.asarray(x), jnp.uint32)
    return (bits << 1) == 0


def is_finite(tree: dict) -> Array:
    """Whether every number of a member is finite, scalar bool."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]))
