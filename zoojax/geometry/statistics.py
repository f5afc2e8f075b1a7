"""Batch statistics of members that were not trained: averaged over batches of images.

The mean over batches of their statistics, as `torch.optim.swa_utils.update_bn` computes it
(Izmailov et al., "Averaging Weights Leads to Wider Optima", 2018).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.architectures.base import Architecture, training_logits, variable_shapes
from zoojax.architectures.batch_norm import COLLECTION

# Images per batch, and the largest number of images that are used.
BATCH, MAX_IMAGES = 128, 2048


def has_statistics(arch: Architecture) -> bool:
    """Whether members of an architecture have batch statistics."""
    return COLLECTION in arch.collections


def statistics_batches(images: np.ndarray) -> np.ndarray:
    """Splits the first MAX_IMAGES images into batches of equal size, [batches, size, H, W, C]."""
    size = min(BATCH, len(images))
    count = min(len(images), MAX_IMAGES) // size
    return images[: count * size].reshape(count, size, *images.shape[1:])


def estimated(
    arch: Architecture, activation: str, variables: dict[str, Any], batches: Array
) -> dict[str, Any]:
    """Estimates the batch statistics of one member.

    Args:
        arch: Architecture of the member.
        activation: Its activation.
        variables: Its variables.
        batches: Images, [batches, size, H, W, C].

    Returns:
        The variables with new batch statistics. Integers, such as counters, keep their values.
    """
    update = _updater(arch, activation)
    kept = _kept_share(arch, activation)
    old = variables[COLLECTION]
    start = jax.tree.map(jnp.zeros_like, old)

    def add(total: Any, images: Array) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, update({**variables, COLLECTION: start}, images)), None

    total, _ = jax.lax.scan(add, start, batches)

    def mean(new: Array, before: Array, share: float) -> Array:
        if not jnp.issubdtype(new.dtype, jnp.floating):
            return jnp.asarray(before)
        return new / ((1 - share) * batches.shape[0])

    return {**variables, COLLECTION: jax.tree.map(mean, total, old, kept)}


def _updater(arch: Architecture, activation: str) -> Callable[[dict[str, Any], Array], Any]:
    """Returns a function (variables, images) -> batch statistics after a training step."""
    module = arch.module(activation, "uniform")

    def update(variables: dict[str, Any], images: Array) -> Any:
        mask = jnp.ones(images.shape[0], bool)
        return training_logits(module, variables, images, None, None, mask)[1][COLLECTION]

    return update


@functools.cache
def _kept_share(arch: Architecture, activation: str) -> Any:
    """Measures the share of running statistics that a training step keeps: one minus momentum.

    A step maps a statistic s to share * s + (1 - share) * that of the batch.
    """
    shapes = variable_shapes(arch)
    update = _updater(arch, activation)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    ones = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes[COLLECTION])
    images = np.zeros((2, *arch.image_shape), np.float32)
    with jax.ensure_compile_time_eval():
        compiled = jax.jit(update)
        low, high = (compiled({**zeros, COLLECTION: s}, images) for s in (zeros[COLLECTION], ones))
        return jax.tree.map(lambda a, b: float(np.mean(b - a)), low, high)
