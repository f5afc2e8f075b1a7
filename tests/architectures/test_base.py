"""Sizes of architectures, and their limits in the kernel and in the noise slots."""

import jax.numpy as jnp
import pytest

from zoojax import ZoojaxError, keys
from zoojax.architectures.chain import Chain
from zoojax.architectures.cnn import Block, cnn
from zoojax.architectures.registry import architecture
from zoojax.ops import Noise, kernel, noise
from zoojax.training import engine


@pytest.mark.parametrize("value", ["10", "10 -include /etc/passwd", 10.0, True, 0, -1, None])
def test_classes_and_channels_must_be_positive_integers(value):
    with pytest.raises(ZoojaxError, match=r"classes is .*, not a whole number from 1 to"):
        architecture("small", 1, value)
    with pytest.raises(ZoojaxError, match=r"channels is .*, not a whole number from 1 to"):
        architecture("small", value)


BLOCKS = Block(8, 5, 2, True), Block(6, 5, 2, True), Block(4, 2, 1, False)


@pytest.mark.parametrize(
    "sizes", [{"classes": 1025}, {"hidden": 2000}, {"channels": 65}, {"size": 80}]
)
def test_sizes_that_the_kernel_does_not_support(sizes):
    """They are rejected before the compiler is started."""
    arguments = {"name": "odd", "size": 28, "channels": 1, "classes": 10, "blocks": BLOCKS}
    net = cnn(**{**arguments, **sizes})
    assert net.kernel is not None
    assert "support" in str(kernel.unavailable_reason(net.kernel))


def test_many_classes_are_computed_by_xla():
    assert engine.engine(architecture("small", 1, 5000), "cpu") == "xla"


def deep_architecture(layers: int) -> Chain:
    return cnn("deep", 28, 1, 10, [Block(2, 1, 1, True)] * (layers - 2))


@pytest.mark.parametrize(("layers", "slots"), [(3, 16), (8, 16), (9, 32), (17, 64)])
def test_noise_slots_of_a_step(layers, slots):
    """Two per layer; no layer draws the noise of the next step."""
    arch = deep_architecture(layers)
    assert arch.noise_slots == slots
    key = keys.stream_key(0, "noise", 1)
    first, second = (keys.step_noise(key, step, slots) for step in (0, 1))
    last = first.at(2 * layers - 1)
    assert int(last.counter) < int(second.counter) == slots
    with pytest.raises(ZoojaxError, match=f"{slots} noise slots"):
        first.at(slots)


@pytest.mark.parametrize("slot", [-1, noise.SLOTS])
def test_noise_slot_out_of_range(slot):
    step_noise = Noise(jnp.zeros(2, jnp.uint32), jnp.uint32(0))
    with pytest.raises(ZoojaxError, match="16 noise slots"):
        step_noise.at(slot)
