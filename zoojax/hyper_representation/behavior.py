"""The behavior of members: their outputs on images, as input and as target of an autoencoder.

Probes are images whose outputs are an input of the encoder (functional probing, Herrmann et al.
2024, "Learning Useful Representations of Recurrent Neural Network Weight Matrices"). Queries are
images on which a reconstructed member must answer as the original (Meynent et al. 2025,
"Structure Is Not Enough", arXiv 2503.17138). No labels are used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.architectures.base import Architecture
from zoojax.errors import ZoojaxError
from zoojax.storage.zoo import Zoo
from zoojax.training import engine

# Outputs with a smaller log probability than this count as equally improbable.
_MIN_LOG_PROBABILITY = -12.0


@dataclass(frozen=True)
class Behavior:
    """Computes log probabilities of members.

    Attributes:
        arch: Architecture of the members.
        activation: Activation of all members.
    """

    arch: Architecture
    activation: str

    def __call__(self, params: dict[str, Any], images: Array) -> Array:
        """Computes log probabilities on images; differentiable with respect to params.

        Args:
            params: Stacked parameters, [n, ...].
            images: [q, H, W, C].

        Returns:
            Log probabilities of the classes, at least -12, [n, q, classes].
        """
        name = engine.engine(self.arch, jax.default_backend())

        def one(params: dict[str, Any]) -> Array:
            return engine.outputs(self.arch, self.activation, name, {"params": params}, images)

        return jnp.maximum(jax.nn.log_softmax(jax.vmap(one)(params)), _MIN_LOG_PROBABILITY)


def behavior_gap(zoos: Sequence[Zoo]) -> str | None:
    """Returns why the behavior of the members of zoos cannot be used, or None if it can."""
    if len({zoo.config.data_hash for zoo in zoos}) > 1:
        return "the zoos have different images"
    for zoo in zoos:
        if zoo.config.data_hash is None:
            return f"{zoo.path} records no images"
        if zoo.config.shape.collections:
            listed = ", ".join(zoo.config.shape.collections)
            return f"members of {zoo.path} also need {listed}"
    if zoos and len(activations(zoos)) > 1:
        return "the members have several activations"
    return None


def activations(zoos: Sequence[Zoo]) -> set[str]:
    """Returns the activations of the members of zoos."""
    return {name for zoo in zoos for name in zoo.members_table["activation"].to_list()}


def choose_images(
    images: np.ndarray, probes: int, queries: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws probe and query images without overlap.

    Args:
        images: Training images, [n, H, W, C].
        probes: Number of probes.
        queries: Number of queries; fewer if there are not enough images.
        seed: Random seed.

    Returns:
        Probes [probes, H, W, C] and queries [queries, H, W, C].

    Raises:
        ZoojaxError: If there are not enough images.
    """
    if len(images) <= probes:
        raise ZoojaxError(
            f"{len(images)} training images are too few for {probes} probes; use --without-behavior"
        )
    order = np.random.default_rng(seed).permutation(len(images))
    return images[np.sort(order[:probes])], images[np.sort(order[probes : probes + queries])]
