"""The arrays that the training program of an autoencoder reads, on the devices."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.hyper_representation.behavior import choose_images
from zoojax.hyper_representation.codec import PROBES, Codec, Variables
from zoojax.hyper_representation.dataset import Samples
from zoojax.hyper_representation.train_step import Data

# Queries from which each step draws; the answers of all samples to all of them are kept.
_QUERIES = 512
# Smallest standard deviation of an output, so that constant outputs stay finite.
_MIN_STD = 1e-3


class TrainingInputs(NamedTuple):
    """Inputs of the training and the validation program.

    Attributes:
        train: Training samples.
        val: Validation samples.
        queries: Query images, [q, H, W, C]; one empty image without a loss of behavior.
        probes: The collection of probe variables; None without probes.
    """

    train: Data
    val: Data
    queries: Array
    probes: dict[str, Any] | None

    def with_probes(self, variables: Variables) -> Variables:
        """Returns initial variables with the probe images."""
        return variables if self.probes is None else {**variables, PROBES: self.probes}


def training_inputs(
    codec: Codec, train: Samples, val: Samples, images: np.ndarray | None
) -> TrainingInputs:
    """Computes the targets and the behavior of all samples.

    Args:
        codec: The autoencoder.
        train: Training samples.
        val: Validation samples.
        images: Training images, [n, H, W, C], if the settings use the behavior of members.
    """
    s, data = codec.settings, [_targets(codec, each) for each in (train, val)]
    queries, probes = jnp.zeros((1, *codec.arch.image_shape)), None
    if images is not None and s.uses_behavior:
        probe_images, query_images = choose_images(images, s.probes, _QUERIES, s.seed)
        if s.probes:
            answers = [
                codec.behavior.answers(each, probe_images, thresholded=False)
                for each in (train, val)
            ]
            flat = [x.reshape(len(x), -1) for x in answers]
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
                    answers=jnp.asarray(
                        codec.behavior.answers(samples, query_images, thresholded=True)
                    )
                )
                for each, samples in zip(data, (train, val), strict=True)
            ]
    return TrainingInputs(data[0], data[1], queries, probes)


def _targets(codec: Codec, samples: Samples) -> Data:
    """Computes the targets of the weights and log alphas."""
    alphas = samples.alphas if codec.variational else None
    return Data(*jax.device_put(jax.jit(codec.targets)(samples.weights, alphas)))
