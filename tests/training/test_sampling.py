"""Predictions with the noise of training."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoojax
from tests.support import zoo_fixtures
from zoojax import keys
from zoojax.architectures.registry import architecture
from zoojax.sparsifiers.registry import sparsifiers
from zoojax.sparsifiers.steps import Batch
from zoojax.sparsifiers.variational_dropout import init_log_sigma2, variances
from zoojax.storage import zoo_images
from zoojax.training import engine, inference, sampling


@pytest.mark.parametrize("engine_name", engine.ENGINES)
def test_outputs_are_those_that_training_sees(engine_name):
    """The training loss of a batch is the cross entropy of the sampled outputs."""
    member = zoojax.functional.init("small", seed=3, init="kaiming_uniform")
    arch = architecture("small", channels=1)
    log_sigma2 = jax.tree.map(
        lambda x: jnp.full_like(x, -1), init_log_sigma2(member.params, "released")
    )
    noisy = variances(member.params, log_sigma2)
    images = jax.random.normal(jax.random.key(0), (7, *arch.image_shape))
    labels = jnp.arange(7, dtype=jnp.int32)
    noise = keys.step_noise(keys.stream_key(5, "noise"), 2, arch.noise_slots)
    index = jnp.arange(7, dtype=jnp.int32)
    batch = Batch(images, labels, jnp.ones(7, jnp.float32), index)
    loss = engine.loss(arch, "tanh", engine_name)
    expected, (correct, _) = loss(member.params, noisy, {}, batch, noise, None)
    variables = {"params": member.params}
    outputs = engine.sampled_outputs(
        arch, "tanh", engine_name, variables, noisy, images, index, noise
    )
    np.testing.assert_allclose(engine.cross_entropy(outputs, batch.gather()), expected, rtol=1e-5)
    assert (np.argmax(outputs, -1) == labels).sum() == correct
    exact = engine.logits(arch, "tanh", variables, images)
    assert np.abs(outputs - exact).max() > 1e-2


def test_samples_of_a_twin(tmp_path_factory):
    """Near the exact predictions where noise is small; the same whatever the chunk."""
    twin = zoo_fixtures.variational_dropout(tmp_path_factory)
    images = zoo_images.load_images(twin, None).test.images
    exact = inference.predict(twin, images, 0)
    sampled = sampling.sampled_predictions(twin, images, 0)
    assert sampled.shape == exact.shape and (sampled == exact).mean() > 0.95
    last = sampling.sampled_predictions(twin, images)
    again = zoojax.open_zoo(twin.path)
    again.config = replace(again.config, chunk=1)
    np.testing.assert_array_equal(sampling.sampled_predictions(again, images), last)
    # One draw per image: its copy at another position is drawn again.
    repeated = sampling.sampled_predictions(twin, np.repeat(images[:50], 2, axis=0))
    assert (repeated[:, ::2] != repeated[:, 1::2]).any()


def test_gates_are_sampled(tmp_path_factory):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    twin = zoojax.sparsify(zoo, zoojax.L0(penalties=(1e-2,)), epochs=1, quiet=True)
    images = zoo_images.load_images(zoo, None).test.images
    sampled = sampling.sampled_predictions(twin, images)
    assert 0.3 < (sampled == inference.predict(twin, images)).mean() < 1


def test_only_some_sparsifiers_have_noise():
    noisy = {name for name, kind in sparsifiers().items() if sampling.has_noise(kind())}
    assert noisy == {"variational_dropout", "l0"}
