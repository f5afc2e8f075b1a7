"""The arrays that the training program of an autoencoder reads, on the devices."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.hyper_representation.behavior import choose_images
from zoojax.hyper_representation.codec import PROBES, Codec, Variables
from zoojax.hyper_representation.components import (
    Components,
    start_from,
    start_probes_from,
)
from zoojax.hyper_representation.dataset import Samples
from zoojax.hyper_representation.reconstruction import zero_above_threshold
from zoojax.hyper_representation.train_step import Data
from zoojax.runtime import population

# Queries from which each step draws; the answers of all samples to all of them are kept.
_QUERIES = 512
# Members that are run at once when the answers of all samples are computed.
_BATCH = 256
# Smallest standard deviation of an output, so that constant outputs stay finite.
_MIN_STD = 1e-3


class TrainingInputs(NamedTuple):
    """Inputs of the training and the validation program.

    Attributes:
        train: Training samples.
        val: Validation samples.
        queries: Query images, [q, H, W, C]; one empty image without a loss of behavior.
        probes: The collection of probe variables; None without probes.
        components: Principal components of the tokens of the training samples.
    """

    train: Data
    val: Data
    queries: Array
    probes: dict[str, Any] | None
    components: Mapping[str, Components]

    def starting(self, codec: Codec, variables: Variables) -> Variables:
        """Returns initial variables with the probe images and with components as linear maps."""
        params = start_from(variables["params"], self.components, codec.slices)
        if self.probes is None:
            return {**variables, "params": params}
        size = codec.settings.probe_latent
        first = codec.module.global_size - size
        params = start_probes_from(params, np.asarray(self.train.probed), size, first)
        return {**variables, "params": params, PROBES: self.probes}


def training_inputs(
    codec: Codec,
    train: Samples,
    val: Samples,
    components: Mapping[str, Components],
    images: np.ndarray | None,
) -> TrainingInputs:
    """Computes the targets and the behavior of all samples.

    Args:
        codec: The autoencoder.
        train: Training samples.
        val: Validation samples.
        components: Principal components of the tokens of the training samples.
        images: Training images, [n, H, W, C], if the settings use the behavior of members.
    """
    s, data = codec.settings, [_targets(codec, each) for each in (train, val)]
    queries, probes = jnp.zeros((1, *codec.arch.image_shape)), None
    if images is not None and s.uses_behavior:
        probe_images, query_images = choose_images(images, s.probes, _QUERIES, s.seed)
        if s.probes:
            flat = [
                np.exp(answers(codec, each, probe_images, thresholded=False)).reshape(len(each), -1)
                for each in (train, val)
            ]
            mean, std = flat[0].mean(axis=0), flat[0].std(axis=0)
            probes = {"images": probe_images, "mean": mean, "std": np.maximum(std, _MIN_STD)}
            data = [
                each._replace(probed=jnp.asarray((x - probes["mean"]) / probes["std"]))
                for each, x in zip(data, flat, strict=True)
            ]
        if s.behavior:
            queries = jnp.asarray(query_images)
            data = [
                each._replace(
                    answers=jnp.asarray(answers(codec, samples, query_images, thresholded=True))
                )
                for each, samples in zip(data, (train, val), strict=True)
            ]
    return TrainingInputs(data[0], data[1], queries, probes, components)


def _targets(codec: Codec, samples: Samples) -> Data:
    """Computes the targets of the weights and log alphas."""
    alphas = samples.alphas if codec.variational else None
    return Data(*jax.device_put(jax.jit(codec.targets)(samples.weights, alphas)))


def answers(codec: Codec, samples: Samples, images: np.ndarray, *, thresholded: bool) -> np.ndarray:
    """Computes the log probabilities of all samples on images.

    Args:
        codec: The autoencoder.
        samples: The samples.
        images: [q, H, W, C].
        thresholded: Whether to zero weights with log alpha >= 3.

    Returns:
        [samples, q, classes] float32.
    """
    program, weights, parts = jax.jit(codec.behavior.__call__), samples.weights, []
    if thresholded:
        weights = zero_above_threshold(weights, samples.alphas)
    for first in range(0, len(samples), _BATCH):
        rows = np.minimum(np.arange(first, first + _BATCH), len(samples) - 1)
        parts.append(np.asarray(program(population.take(weights, rows), images)))
    return np.concatenate(parts)[: len(samples)]
