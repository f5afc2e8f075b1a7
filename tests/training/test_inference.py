"""Loss, accuracy and sparsity compared with PyTorch and NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.support.torch_models import (
    TorchCNN,
    checkpoint,
    load,
    made_up_batch,
    made_up_params,
    nchw,
    params_to_flax,
    trial,
    usps,
)
from zoojax.architectures.cnn import small_cnn
from zoojax.runtime import population
from zoojax.training import engine, metrics

SMALL = small_cnn(1, 10)
# The XLA engine, and the kernel if it is available.
ENGINES = sorted({"xla", engine.engine(SMALL, "cpu")})


@functools.cache
def jitted_evaluate(engine_name):
    return jax.jit(
        lambda params, *data: engine.evaluate(SMALL, "tanh", engine_name, {"params": params}, *data)
    )


def assert_matches_torch(engine_name, params, images, labels):
    """Returns the accuracy in PyTorch."""
    actual = jitted_evaluate(engine_name)(params, jnp.asarray(images), jnp.asarray(labels))
    module = TorchCNN("small", 1, "tanh")
    load(module, params, SMALL)
    with torch.no_grad():
        logits, classes = module(nchw(images)), torch.tensor(np.asarray(labels), dtype=torch.long)
    loss = torch.nn.functional.cross_entropy(logits, classes).item()
    accuracy = (logits.argmax(1) == classes).double().mean().item()
    assert float(actual["loss"]) == pytest.approx(loss, rel=1e-5)
    assert float(actual["acc"]) == pytest.approx(accuracy, abs=1e-6)
    return accuracy


# 64 images fill their batches; 50 and 7 are padded, 7 to a single batch.
@pytest.mark.parametrize("engine_name", ENGINES)
@pytest.mark.parametrize("count", [64, 50, 7])
def test_accuracy_and_loss_match_torch(engine_name, count):
    images, labels, *_ = made_up_batch(SMALL, count)
    assert_matches_torch(engine_name, made_up_params(SMALL), images, labels)


@pytest.mark.parametrize("engine_name", ENGINES)
@pytest.mark.parametrize("count", [64, 50])
def test_accuracy_and_loss_on_usps_match_torch(data_dir, reference, engine_name, count):
    test = usps(data_dir).test
    params = params_to_flax(checkpoint(trial(reference, "dense", 2), 50), SMALL)
    accuracy = assert_matches_torch(engine_name, params, test.images[:count], test.labels[:count])
    assert 0.7 < accuracy < 1


def test_padding_is_not_counted():
    # This member classifies padding (all-zero images of class 0) correctly.
    params = jax.tree.map(np.zeros_like, made_up_params(SMALL))
    params["fc2"]["bias"][0] = 1
    images = jnp.zeros((17, 28, 28, 1))
    labels = jnp.array([0] * 3 + [1] * 14)
    assert float(jitted_evaluate("xla")(params, images, labels)["acc"]) == pytest.approx(3 / 17)
    batches = engine.evaluation_batches(images, labels)
    assert batches.images.shape == (2, 16, 28, 28, 1)
    assert batches.weights.sum() == 17


def test_sparsity_matches_numpy_and_excludes_biases():
    rng = np.random.default_rng(0)
    members = []
    for fraction in (0.0, 0.3, 1.0):
        params = made_up_params(SMALL)
        for leaves in params.values():
            leaves["kernel"][rng.random(leaves["kernel"].shape) < fraction] = 0
            leaves["bias"][:] = 0
        params["conv3"]["kernel"].flat[0] = -0.0  # counts as zero
        params["conv3"]["kernel"].flat[1] = 1e-40  # does not, although XLA flushes it to zero
        members.append(params)
    actual = jax.vmap(metrics.sparsity)(population.stack(members))
    for i, params in enumerate(members):
        zeros = {layer: np.sum(leaves["kernel"] == 0) for layer, leaves in params.items()}
        sizes = {layer: leaves["kernel"].size for layer, leaves in params.items()}
        assert sum(sizes.values()) == 2416
        assert round(float(actual["sparsity"][i]) * 2416, 3) == sum(zeros.values())
        for layer, size in sizes.items():
            assert round(float(actual[f"sparsity_{layer}"][i]) * size, 3) == zeros[layer]
    assert len(actual) == 6
    assert actual["sparsity"][0] == np.float32(1 / 2416)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_single_non_finite_value_is_detected(value):
    params = made_up_params(SMALL)
    assert metrics.is_finite(params)
    params["conv2"]["bias"][3] = value
    assert not metrics.is_finite(params)


@pytest.mark.parametrize("engine_name", ENGINES)
def test_nan_member_has_nan_loss(engine_name):
    images, labels, *_ = made_up_batch(SMALL, 7)
    params = jax.tree.map(lambda p: np.full_like(p, np.nan), made_up_params(SMALL))
    assert np.isnan(jitted_evaluate(engine_name)(params, images, labels)["loss"])
