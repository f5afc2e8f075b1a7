"""Variational dropout compared with a PyTorch implementation that uses the same noise."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.torch_models import (
    TorchVariational,
    assert_trees_close,
    checkpoint,
    gradients,
    load,
    load_log_sigma2,
    log_sigma2_to_flax,
    made_up_batch,
    nchw,
    numpy_state,
    params_to_flax,
    torch_labels,
    torch_noises,
    trial,
)
from zoojax import keys
from zoojax.architectures.cnn import large_cnn, small_cnn
from zoojax.errors import ZoojaxError
from zoojax.sparsifiers import base, variational_dropout
from zoojax.sparsifiers.registry import sparsifier_from_json, sparsifier_to_json
from zoojax.sparsifiers.variational_dropout import VARIANTS, VariationalDropout
from zoojax.training import engine, loop, metrics

SMALL, LARGE = small_cnn(1, 10), large_cnn(3, 10)
# Few cases, as each is compiled; together they cover all variants, sizes and layers.
CASES = [
    (SMALL, "tanh", "released"),
    (SMALL, "tanh", "corrected"),
    (LARGE, "gelu", "released"),
]
BATCH = 10


def member_loss(arch, activation):
    return engine.loss(arch, activation, engine.engine(arch, "cpu"))


@functools.cache
def loss_and_gradients(arch, activation):
    """(trainable, batch, key, epoch) -> (loss, gradients)."""
    cross_entropy = member_loss(arch, activation)

    def loss(trainable, batch, key, epoch):
        def batch_loss(params, variances):
            return cross_entropy(params, variances, {}, batch, key, None)

        return VariationalDropout().objective(batch_loss, trainable, {}, epoch)[0]

    return jax.jit(jax.value_and_grad(loss))


kl = jax.jit(variational_dropout.kl)


def made_up_member(arch, variant, seed=0):
    """Default PyTorch weights, with log sigma squared on both sides of both clips."""
    torch.manual_seed(seed)
    module = TorchVariational(arch.name, arch.channels, "tanh", "released")
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "log_sigma2" in name:
                parameter.uniform_(-16, 4)
    return member(module.state_dict(), arch, variant)


def member(state, arch, variant):
    """Converts a state dict, or gradients by name, to the trainable part of a state."""
    state = {name: np.asarray(value) for name, value in state.items()}
    return {
        "params": params_to_flax(state, arch),
        "log_sigma2": log_sigma2_to_flax(state, arch, variant),
    }


def in_torch(trainable, arch, activation, variant):
    module = TorchVariational(arch.name, arch.channels, activation, variant)
    load(module, trainable["params"], arch)
    load_log_sigma2(module, trainable["log_sigma2"], arch)
    return module


def assert_objective_matches_torch(trainable, batch, arch, activation, variant, epoch):
    key = keys.step_noise(keys.stream_key(3, "noise", epoch), 5)
    loss, grads = loss_and_gradients(arch, activation)(trainable, batch, key, jnp.int32(epoch))
    module = in_torch(trainable, arch, activation, variant)
    weight = min(1.0, 0.01 * (epoch - 1) / 25)
    noises = torch_noises(key, arch, len(batch.labels))
    expected = module.loss(nchw(batch.images), torch_labels(batch), noises, weight)
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-5)
    np.testing.assert_allclose(kl(**trainable), module.kl().item(), rtol=1e-5)
    expected_grads = member(gradients(module), arch, variant)
    for (path, grad), theirs in zip(
        jax.tree.leaves_with_path(grads), jax.tree.leaves(expected_grads), strict=True
    ):
        name, scale = jax.tree_util.keystr(path), np.abs(theirs).max()
        assert scale > 0, name
        np.testing.assert_allclose(grad, theirs, rtol=1e-3, atol=2e-5 * scale, err_msg=name)


@pytest.mark.parametrize("arch, activation, variant", CASES)
def test_loss_kl_and_gradients_match_torch(arch, activation, variant):
    trainable = made_up_member(arch, variant)
    for epoch in (2, 3000):
        batch = made_up_batch(arch, BATCH)
        assert_objective_matches_torch(trainable, batch, arch, activation, variant, epoch)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("seed", [1, 2])
def test_loss_kl_and_gradients_of_reference_twins_match_torch(reference, seed, variant):
    with np.load(reference / "logits_first64_test.npz") as first:
        images, labels = first["images"][:BATCH], first["labels"][:BATCH].astype(np.int32)
    batch = base.Batch(
        jnp.asarray(images.transpose(0, 2, 3, 1)), jnp.asarray(labels), jnp.ones(BATCH)
    )
    for epoch in (10, 25):
        state = checkpoint(trial(reference, "vd", seed), epoch)
        trainable = member(state, SMALL, variant)
        assert_objective_matches_torch(trainable, batch, SMALL, "tanh", variant, epoch)


@functools.cache
def trained(variant, steps=5):
    """A member before and after some steps of training, with its batch and noise key."""
    trainable = made_up_member(SMALL, variant, seed=1)
    trainable["log_sigma2"] = jax.tree.map(lambda s: s - 4, trainable["log_sigma2"])
    state = loop.init_state(trainable, {}, "adam")
    hyper = loop.Hyperparams(jnp.int32(7), jnp.float32(1e-3), jnp.float32(1e-3), jnp.float32(0))
    batch = made_up_batch(SMALL, steps * BATCH)

    @jax.jit
    def run(state, epoch):
        images, labels, *_ = batch
        order = jnp.arange(steps * BATCH)
        static = VariationalDropout(), member_loss(SMALL, "tanh"), "adam", BATCH, False
        return loop.train_epoch(*static, state, hyper, images, labels, order, epoch)

    return trainable, run(state, jnp.int32(4)), batch, keys.stream_key(7, "noise", 4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_matches_torch(variant):
    before, (state, metrics), batch, noise = trained(variant)
    module = in_torch(before, SMALL, "tanh", variant)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, weight_decay=1e-3)
    images, labels, losses = nchw(batch.images), torch_labels(batch), []
    for i in range(5):
        part = slice(i * BATCH, (i + 1) * BATCH)
        noises = torch_noises(keys.step_noise(noise, i), SMALL, BATCH)
        loss = module.loss(images[part], labels[part], noises, 0.01 * 3 / 25)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    after = member(numpy_state(module.state_dict()), SMALL, variant)
    assert_trees_close(state.trainable, after, rtol=0, atol=1e-4)
    np.testing.assert_allclose(metrics["train_loss"], np.mean(losses), rtol=1e-4)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), state.trainable, before)
    assert min(jax.tree.leaves(moved)) > 1e-3


# KL and its weight


@pytest.mark.parametrize(
    "epoch, weight",
    [(1, 0), (2, 0.0004), (3, 0.0008), (26, 0.01), (2500, 0.9996), (2501, 1), (9999, 1)],
)
def test_kl_weight(epoch, weight):
    assert float(variational_dropout.kl_weight(jnp.int32(epoch))) == pytest.approx(weight, rel=1e-6)


@pytest.mark.parametrize(
    "epoch, warmup, expected",
    [(1, 4, 0), (3, 4, 0.1), (5, 4, 0.2), (25, 4, 1), (1, 0, 0.2), (9, 0, 0.2)],
)
def test_kl_weight_and_warm_up_are_options(epoch, warmup, expected):
    actual = variational_dropout.kl_weight(jnp.int32(epoch), 0.2, warmup)
    assert float(actual) == pytest.approx(expected, rel=1e-6)


def test_objective_uses_the_options():
    trainable = made_up_member(SMALL, "corrected")

    def weight(**options):
        sparsifier = VariationalDropout("corrected", **options)
        # The loss adds the KL divergence with this weight.
        return sparsifier.objective(
            lambda params, posterior: (posterior.kl_weight, None), trainable, {}, jnp.int32(5)
        )[0]

    assert float(weight()) == pytest.approx(0.01 * 4 / 25, rel=1e-5)
    assert float(weight(kl_weight=0.2, warmup=8)) == pytest.approx(0.1, rel=1e-5)


def test_options_are_in_the_zoo_only_if_they_differ():
    """Zoos of the default options are those of versions without them."""
    default, changed = VariationalDropout(), VariationalDropout(threshold=2.5, warmup=0)
    stored = sparsifier_to_json(default)
    assert stored == {"name": "variational_dropout", "variant": "released"}
    assert sparsifier_from_json(stored) == default
    stored = sparsifier_to_json(changed)
    assert stored.keys() == {"name", "variant", "threshold", "warmup"}
    assert sparsifier_from_json(json.loads(json.dumps(stored))) == changed
    assert changed.describe() == "released variant, warmup 0, threshold 2.5"
    with pytest.raises(ValueError, match="option limit is unknown"):
        sparsifier_from_json({**stored, "limit": 3.0})
    with pytest.raises(ValueError, match="option variant is missing"):
        sparsifier_from_json({"name": "variational_dropout", "threshold": 2.5})


@pytest.mark.parametrize(
    "options", [{"kl_weight": -1.0}, {"warmup": -1}, {"threshold": float("nan")}]
)
def test_invalid_options_are_refused(options):
    with pytest.raises(ZoojaxError):
        VariationalDropout(**options)


def one_layer(layer, weight, log_sigma2):
    """A layer's parameters and log sigma squared; its bias is not variational."""
    weight, log_sigma2 = (jnp.asarray(x, jnp.float32) for x in (weight, log_sigma2))
    params = {layer: {"kernel": weight, "bias": jnp.full(3, 0.25)}}
    return params, {layer: {"kernel": log_sigma2}}


@pytest.mark.parametrize("layer, clip", [("conv2", 8), ("fc1", 10)])
def test_kl_matches_float64(layer, clip):
    rng = np.random.default_rng(0)
    for log_sigma2 in (rng.uniform(-16, 16, 500), rng.uniform(-3, 3, 500), np.full(500, -16.0)):
        weight = rng.normal(size=500).astype(np.float32).astype(np.float64)
        log_sigma2 = log_sigma2.astype(np.float32).astype(np.float64)
        alpha = np.clip(log_sigma2 - np.log(weight**2), -clip, clip)
        sigmoid = 1 / (1 + np.exp(-(1.8732 + 1.48695 * alpha)))
        expected = -np.sum(0.63576 * sigmoid - 0.5 * np.log1p(np.exp(-alpha)) - 0.63576)
        # The rank of the kernel tells convolutions from fully connected layers.
        shape = (1, 1, 1, 500) if layer == "conv2" else (1, 500)
        member = one_layer(layer, weight.reshape(shape), log_sigma2.reshape(shape))
        actual = float(kl(*member))
        assert actual == pytest.approx(expected, rel=1e-5)


# Variants


def test_variants_differ_only_in_convolution_biases():
    released = made_up_member(SMALL, "released")
    params, log_sigma2 = released["params"], released["log_sigma2"]
    corrected = {layer: {"kernel": leaves["kernel"]} for layer, leaves in log_sigma2.items()}
    for variant, expected in (("released", log_sigma2), ("corrected", corrected)):
        initial = variational_dropout.init_log_sigma2(params, variant)
        assert jax.tree.structure(initial) == jax.tree.structure(expected)
        assert all((leaf == -10).all() for leaf in jax.tree.leaves(initial))
    biases = {f"conv{i}": log_sigma2[f"conv{i}"]["bias"] for i in (1, 2, 3)}
    of_biases = kl(params, {n: {"bias": b} for n, b in biases.items()})
    assert of_biases > 1
    difference = kl(params, log_sigma2) - kl(params, corrected)
    assert difference == pytest.approx(float(of_biases), rel=1e-4)


def test_threshold_applies_to_convolution_biases_only_when_released():
    params = jax.tree.map(np.ones_like, made_up_member(SMALL, "corrected")["params"])
    for variant in VARIANTS:
        initial = variational_dropout.init_log_sigma2(params, variant)
        after = variational_dropout.apply_threshold(params, jax.tree.map(lambda s: s + 14, initial))
        for layer, leaves in after.items():
            assert (leaves["kernel"] == 0).all()
            is_variational = variant == "released" and layer.startswith("conv")
            assert (leaves["bias"] == (0 if is_variational else 1)).all()
        for unchanged, leaf in zip(
            jax.tree.leaves(variational_dropout.apply_threshold(params, initial)),
            jax.tree.leaves(params),
            strict=True,
        ):
            np.testing.assert_array_equal(unchanged, leaf)


# Threshold


@pytest.mark.parametrize("layer", ["conv1", "fc2"])
def test_threshold_boundary(layer):
    # |w| = 1, so log alpha equals log sigma squared.
    three = np.float32(3)
    log_sigma2 = [three, np.nextafter(three, 0), np.nextafter(three, 9), -20, 20, 2.9]
    params, log_sigma2 = one_layer(layer, [1, 1, -1, 1, -1, -1], log_sigma2)
    after = variational_dropout.apply_threshold(params, log_sigma2)[layer]
    np.testing.assert_array_equal(after["kernel"], [0, 1, 0, 1, 0, -1])
    np.testing.assert_array_equal(after["bias"], params[layer]["bias"])
    trainable = {"params": params, "log_sigma2": log_sigma2}
    after = VariationalDropout(threshold=2.5).effective(trainable, {})[layer]
    np.testing.assert_array_equal(after["kernel"], [0, 0, 0, 1, 0, 0])


@functools.cache
def shifted_sparsity():
    """Sparsity of a member whose log sigma squared is shifted by x."""
    trainable = made_up_member(SMALL, "released")

    @jax.jit
    def sparsity(x):
        shifted = jax.tree.map(lambda s: s + x, trainable["log_sigma2"])
        return metrics.sparsity(variational_dropout.apply_threshold(trainable["params"], shifted))

    return sparsity


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.floats(0, 25, width=32), st.floats(0, 25, width=32))
def test_sparsity_rises_with_log_sigma2(one, other):
    less, more = (shifted_sparsity()(np.float32(x)) for x in sorted((one, other)))
    assert all(less[name] <= more[name] for name in less)


def test_sparsity_range():
    values = [float(shifted_sparsity()(np.float32(x))["sparsity"]) for x in (-30, 0, 5, 30)]
    assert values[0] == 0
    assert 0 < values[1] < values[2] < values[3] == 1
