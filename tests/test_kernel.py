"""The CPU kernel computes what the Linen model does, whatever the members around."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_models import made_up_batch, made_up_params

from zoojax import keys, network, population, variational_dropout
from zoojax.models import ACTIVATIONS, Architecture, architecture
from zoojax.network import Batch
from zoojax.ops import kernel

SMALL, LARGE = architecture("small", 1), architecture("large", 3)

pytestmark = pytest.mark.skipif(
    kernel.why_not(SMALL) is not None, reason=f"no kernel here: {kernel.why_not(SMALL)}"
)


def members(arch: Architecture, count: int):
    return population.stack([made_up_params(arch, seed) for seed in range(count)])


def variances_of(params, variant):
    log_sigma2 = variational_dropout.init_log_sigma2(params, variant)
    log_sigma2 = jax.tree.map(lambda x: x + 7, log_sigma2)
    return variational_dropout.variances(params, log_sigma2)


@functools.cache
def program(arch, activation, engine, dropout):
    """(params, variances or None, indices [M, B], seeds [M], set) -> loss, right, gradients."""
    loss = network.loss(arch, activation, engine)

    def one(params, variances, indices, weights, seed, rate, images, labels):
        batch = Batch(images, labels, weights, indices)
        noise = keys.step(keys.stream(seed, "noise", 1), 7)

        def value(both):
            return loss(*both, batch, noise, rate if dropout else None)

        (value, correct), grads = jax.value_and_grad(value, has_aux=True)((params, variances))
        return value, correct, grads

    return jax.jit(jax.vmap(one, in_axes=(0, 0, 0, None, 0, 0, None, None)))


def run(arch, activation, engine, count, variant=None, dropout=False, size=10, padding=0):
    params = members(arch, count)
    variances = None if variant is None else jax.vmap(lambda p: variances_of(p, variant))(params)
    images, labels, *_ = made_up_batch(arch, 40)
    rng = np.random.default_rng(0)
    indices = jnp.asarray(rng.integers(0, 40, (count, size)))
    weights = jnp.ones(size).at[size - padding :].set(0)
    return program(arch, activation, engine, dropout)(
        *(params, variances, indices, weights, jnp.arange(count)),
        *(jnp.linspace(0.1, 0.6, count), images, labels),
    )


def assert_engines_agree(*arguments, **options):
    ours = run(*arguments[:2], "kernel", *arguments[2:], **options)
    theirs = run(*arguments[:2], "xla", *arguments[2:], **options)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
    np.testing.assert_array_equal(ours[1], theirs[1])
    for (path, a), b in zip(
        jax.tree.leaves_with_path(ours[2]), jax.tree.leaves(theirs[2]), strict=True
    ):
        name, scale = jax.tree_util.keystr(path), np.abs(b).max()
        assert scale > 0, name
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_loss_and_gradients_of_every_activation(activation):
    assert_engines_agree(SMALL, activation, 3)


@pytest.mark.parametrize(
    "arch", [SMALL, architecture("small", 3), LARGE, architecture("large", 1, 7)]
)
@pytest.mark.parametrize("options", [{}, {"variant": "released"}, {"variant": "corrected"}])
def test_loss_and_gradients_of_every_architecture(arch, options):
    assert_engines_agree(arch, "silu", 3, **options, dropout=True, size=7, padding=2)
