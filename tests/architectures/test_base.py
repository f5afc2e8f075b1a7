"""Sizes of architectures, and their limits in the kernel and in the noise slots."""

import dataclasses

import jax.numpy as jnp
import pytest

from tests.support.kernel import SMALL
from zoojax import ZoojaxError
from zoojax.architectures.base import Architecture, ConvSpec, architecture
from zoojax.architectures.cnn import CNN, init_params
from zoojax.ops import Noise, kernel, noise
from zoojax.training import engine


@pytest.mark.parametrize("value", ["10", "10 -include /etc/passwd", 10.0, True, 0, -1, None])
def test_classes_and_channels_must_be_positive_integers(value):
    with pytest.raises(ZoojaxError, match=r"classes is .*, not a whole number from 1 to"):
        architecture("small", 1, value)
    with pytest.raises(ZoojaxError, match=r"channels is .*, not a whole number from 1 to"):
        architecture("small", value)


@pytest.mark.parametrize(
    "sizes",
    [
        {"classes": 1025},
        {"classes": "10;}"},
        {"classes": 10.0},
        {"hidden": True},
        {"channels": 65},
        {"size": 4},
        {"size": 10**6},
        {"convs": (ConvSpec("8", 5, 2, True), *SMALL.convs[1:])},  # pyright: ignore
        {"convs": (ConvSpec(8, 0, 2, True), *SMALL.convs[1:])},
    ],
)
def test_sizes_that_the_kernel_does_not_support(sizes):
    """They are rejected before the compiler is started."""
    reason = kernel.unavailable_reason(dataclasses.replace(SMALL, **sizes))
    assert reason is not None
    assert "support" in reason or "leave nothing" in reason


def test_many_classes_are_computed_by_xla():
    assert engine.engine(architecture("small", 1, 5000), "cpu") == "xla"


def deep_architecture(layers: int) -> Architecture:
    return Architecture("deep", 28, 1, 10, (ConvSpec(2, 1, 1, True),) * (layers - 2))


def test_networks_with_more_layers_than_noise_slots_are_refused():
    init_params(deep_architecture(8), "uniform", 0)
    with pytest.raises(ZoojaxError, match="at most 8 layers, not 9"):
        init_params(deep_architecture(9), "uniform", 0)
    with pytest.raises(ZoojaxError, match="at most 8 layers, not 9"):
        CNN(deep_architecture(9), "tanh").apply({"params": {}}, jnp.zeros((5, 28, 28, 1)))


@pytest.mark.parametrize("slot", [-1, noise.SLOTS])
def test_noise_slot_out_of_range(slot):
    step_noise = Noise(jnp.zeros(2, jnp.uint32), jnp.uint32(0))
    with pytest.raises(ZoojaxError, match="16 noise slots"):
        step_noise.at(slot)
