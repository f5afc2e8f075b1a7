"""The CPU kernel matches the Linen model, and a member's bits do not depend on other members."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.kernel import SMALL, needs_kernel, scale_for
from tests.support.torch_models import made_up_batch, made_up_params
from zoojax import keys
from zoojax.architectures.base import Architecture
from zoojax.architectures.cnn import large_cnn
from zoojax.architectures.layers import ACTIVATIONS
from zoojax.runtime import population
from zoojax.sparsifiers import variational_dropout
from zoojax.sparsifiers.base import Batch
from zoojax.training import engine

LARGE = large_cnn(3, 10)

pytestmark = needs_kernel


def members(arch: Architecture, count: int, activation: str = "tanh"):
    params = population.stack([made_up_params(arch, seed) for seed in range(count)])
    return jax.tree.map(lambda w: w * scale_for(activation), params)


def variances(params, variant):
    """A variance for every weight; those of the first members do not depend on the number."""

    def draw(x):
        rng = np.random.default_rng(x[0].size)
        return rng.uniform(0.01, 0.1, x.shape).astype(np.float32)

    return jax.tree.map(draw, variational_dropout.init_log_sigma2(params, variant))


@functools.cache
def program(arch, activation, name, dropout):
    """A program of stacked members that returns (loss, correct predictions, gradients)."""
    loss = engine.loss(arch, activation, name)

    def member(params, variances, indices, weights, seed, rate, images, labels):
        batch = Batch(images, labels, weights, indices)
        noise = keys.step_noise(keys.stream_key(seed, "noise", 1), 7)

        def member_loss(trainable):
            params, variances = trainable
            return loss(params, variances, {}, batch, noise, rate if dropout else None)

        gradient = jax.value_and_grad(member_loss, has_aux=True)
        (value, (correct, _)), grads = gradient((params, variances))
        return value, correct, grads

    return jax.jit(jax.vmap(member, in_axes=(0, 0, 0, None, 0, 0, None, None)))


def run(arch, activation, name, count, variant=None, dropout=False, size=10, padding=0):
    params = members(arch, count, activation)
    member_variances = None if variant is None else variances(params, variant)
    images, labels, *_ = made_up_batch(arch, 40)
    rng = np.random.default_rng(0)
    indices = jnp.asarray(rng.integers(0, 40, (count, size)))
    weights = jnp.ones(size).at[size - padding :].set(0)
    return program(arch, activation, name, dropout)(
        *(params, member_variances, indices, weights, jnp.arange(count)),
        *(jnp.linspace(0.1, 0.6, 100)[:count], images, labels),
    )


def assert_engines_agree(arch, activation, count, **options):
    actual = run(arch, activation, "kernel", count, **options)
    expected = run(arch, activation, "xla", count, **options)
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-5)
    np.testing.assert_array_equal(actual[1], expected[1])
    for (path, a), b in zip(
        jax.tree.leaves_with_path(actual[2]), jax.tree.leaves(expected[2]), strict=True
    ):
        name, scale = jax.tree_util.keystr(path), np.abs(b).max()
        assert scale > 0, name
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize(
    "activation",
    [
        # The others differ from these in one function of the kernel.
        pytest.param(name, marks=() if name in ("tanh", "relu", "gelu") else pytest.mark.slow)
        for name in ACTIVATIONS
    ],
)
def test_loss_and_gradients_of_every_activation(activation):
    assert_engines_agree(SMALL, activation, 3)


@pytest.mark.parametrize(
    ("arch", "variant"),
    [
        (SMALL, "corrected"),
        pytest.param(LARGE, "released", marks=pytest.mark.slow),
        pytest.param(SMALL, "released", marks=pytest.mark.slow),
        pytest.param(LARGE, "corrected", marks=pytest.mark.slow),
    ],
)
def test_sampled_loss_and_gradients_of_every_architecture(arch, variant):
    assert_engines_agree(arch, "silu", 3, variant=variant, dropout=True, size=7, padding=2)


@pytest.mark.parametrize(
    ("count", "options"),
    [(1, {}), *((n, {"variant": "released", "dropout": True}) for n in (15, 17))],
)
def test_member_is_bit_identical_in_any_lane(count, options):
    """The bits do not depend on the number of members or on the other members."""
    full, part = (run(SMALL, "tanh", "kernel", n, **options) for n in (100, count))
    for a, b in zip(jax.tree.leaves(part), jax.tree.leaves(full), strict=True):
        # Batches depend on the position and weights on the seed, so the first members match.
        np.testing.assert_array_equal(a, b[:count])


def test_result_is_bit_identical_with_several_threads(monkeypatch):
    """Groups of members are processed by any free thread."""
    expected = run(SMALL, "tanh", "kernel", 100, variant="released")
    monkeypatch.setattr("zoojax.ops.kernel.batching.threads", lambda: np.int32(2))
    monkeypatch.setattr(sys.modules[__name__], "program", program.__wrapped__)
    actual = run(SMALL, "tanh", "kernel", 100, variant="released")
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_vmap_over_images_and_labels():
    """Members usually share their images."""
    params, batches = members(SMALL, 3), [made_up_batch(SMALL, 4, seed) for seed in range(3)]
    images = jnp.stack([b.images for b in batches])
    labels = jnp.stack([b.labels for b in batches])
    loss = engine.loss(SMALL, "tanh", "kernel")

    @jax.jit
    def member(params, images, labels):
        value, (correct, _) = loss(params, None, {}, Batch(images, labels, jnp.ones(4)), None, None)
        return value, correct

    together = jax.jit(jax.vmap(member))(params, images, labels)
    for i in range(3):
        single = member(population.take(params, i), images[i], labels[i])
        np.testing.assert_array_equal([x[i] for x in together], single)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"ZOOJAX_KERNEL": "off"}, "switched off"), ({"PATH": "", "CXX": ""}, "no C++ compiler")],
)
def test_kernel_is_unused_if_switched_off_or_without_compiler(changes, reason):
    """The process is separate, as compiled kernels are cached in memory."""
    code = (
        "from zoojax.training import engine; "
        "from zoojax.architectures.registry import architecture; "
        "from zoojax.ops import kernel; arch = architecture('small', 1); "
        "print(engine.engine(arch, 'cpu'), kernel.unavailable_reason(arch.kernel))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **changes},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.startswith("xla ") and reason in result.stdout
