"""Convolution and max pooling compared with lax and torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from zoojax import ops

conv, max_pool = jax.jit(ops.conv, static_argnums=2), jax.jit(ops.max_pool)


def by_pooling_position(y_BHWO, pool):
    """Converts [B, H, W, O] to the layout by pooling positions, in floor mode."""
    batch, height, width, features = y_BHWO.shape
    h, w = height // pool, width // pool
    y = y_BHWO[:, : h * pool, : w * pool].reshape(batch, h, pool, w, pool, features)
    return y.transpose(0, 1, 2, 4, 3, 5)


def lax_conv(x, kernel, pool):
    y = lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return by_pooling_position(y, pool)


def assert_close(actual, expected, tolerance):
    """Compares values relative to the largest expected one."""
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


# Convolution


@st.composite
def convolutions(draw):
    pool, kernel = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    smallest = kernel + pool - 1
    height, width = (draw(st.integers(smallest, smallest + 9)) for _ in range(2))
    batch, channels, features = (draw(st.integers(1, 4)) for _ in range(3))
    return (batch, height, width, channels), (kernel, kernel, channels, features), pool


@settings(max_examples=12, deadline=None, derandomize=True)
@given(convolutions())
def test_conv_and_its_gradients_match_lax(shapes):
    x_shape, kernel_shape, pool = shapes
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in (x_shape, kernel_shape))
    cotangent = rng.normal(size=jax.eval_shape(lax_conv_with(pool), x, kernel).shape)
    (y, grads), (expected, expected_grads) = (
        jax.jit(with_gradients(f))(x, kernel, jnp.asarray(cotangent, jnp.float32))
        for f in (lambda x, k: ops.conv(x, k, pool), lax_conv_with(pool))
    )
    assert y.shape == expected.shape
    assert_close(y, expected, 1e-4)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert_close(grad, expected_grad, 1e-4)


def lax_conv_with(pool):
    return lambda x, kernel: lax_conv(x, kernel, pool)


def with_gradients(function):
    def both(x, kernel, cotangent):
        y, pullback = jax.vjp(function, x, kernel)
        return y, pullback(cotangent)

    return both


@pytest.mark.parametrize("size, pool, windows", [(8, 2, 3), (9, 2, 3), (10, 2, 4), (10, 3, 2)])
def test_conv_omits_rows_and_columns_that_floor_pooling_drops(size, pool, windows):
    x = jnp.arange(size * size, dtype=jnp.float32).reshape(1, size, size, 1)
    y = conv(x, jnp.zeros((3, 3, 1, 1)).at[0, 0].set(1.0), pool)
    assert y.shape == (1, windows, pool, pool, windows, 1)
    # The kernel copies its upper left pixel, so each value identifies its position.
    for h, p, q, w in [(0, 0, 0, 0), (0, 1, 0, 1), (windows - 1, pool - 1, pool - 1, 1)]:
        assert y[0, h, p, q, w, 0] == (h * pool + p) * size + w * pool + q


def test_pixels_dropped_by_pooling_have_zero_gradient():
    x, kernel = jnp.ones((1, 9, 9, 1)), jnp.ones((3, 3, 1, 1))
    grad = jax.jit(jax.grad(lambda x: jnp.sum(ops.conv(x, kernel, 2))))(x)[0, :, :, 0]
    assert (grad[:8, :8] > 0).all()
    assert (grad[8] == 0).all()
    assert (grad[:, 8] == 0).all()


@pytest.mark.parametrize("shared_images", [True, False])
def test_vmapped_conv_and_pool_match_single_members(shared_images):
    rng = np.random.default_rng(1)
    kernel = jnp.asarray(rng.normal(size=(3, 5, 5, 2, 6)), jnp.float32)
    x = jnp.asarray(rng.normal(size=(3, 4, 12, 12, 2)), jnp.float32)
    x = x[0] if shared_images else x

    @jax.jit
    def member(x, kernel):
        return ops.max_pool(ops.conv(x, kernel, 2))

    members = jax.jit(jax.vmap(member, in_axes=(None if shared_images else 0, 0)))(x, kernel)
    for i in range(3):
        assert_close(members[i], member(x if shared_images else x[i], kernel[i]), 1e-6)


# Max pooling


def torch_pool(y_BHWO, pool, cotangent_BHWO):
    y = torch.tensor(y_BHWO.transpose(0, 3, 1, 2), requires_grad=True)
    pooled = torch.nn.functional.max_pool2d(y, pool)
    pooled.backward(torch.tensor(cotangent_BHWO.transpose(0, 3, 1, 2)))
    assert y.grad is not None
    grad = y.grad.numpy().transpose(0, 2, 3, 1)
    return pooled.detach().numpy().transpose(0, 2, 3, 1), by_pooling_position(grad, pool)


def zoojax_pool(y_BHWO, pool, cotangent_BHWO):
    return max_pool_and_gradient(by_pooling_position(y_BHWO, pool), cotangent_BHWO)


@jax.jit
def max_pool_and_gradient(y, cotangent):
    pooled, pullback = jax.vjp(ops.max_pool, y)
    return pooled, pullback(cotangent)[0]


def inputs(kind, shape):
    rng = np.random.default_rng(2)
    if kind == "distinct":
        return rng.permutation(np.prod(shape)).reshape(shape).astype(np.float32)
    if kind == "ties":
        return rng.integers(0, 3, shape).astype(np.float32)
    if kind == "constant":
        return np.full(shape, -1.5, np.float32)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0], np.float32)
    return rng.choice(special, shape)


@pytest.mark.parametrize("pool", [1, 2, 3])
@pytest.mark.parametrize("kind", ["distinct", "ties", "constant", "special"])
def test_max_pool_and_its_gradient_match_torch(kind, pool):
    y = inputs(kind, (2, 4 * pool, 3 * pool, 3))
    cotangent = np.random.default_rng(3).normal(size=(2, 4, 3, 3)).astype(np.float32)
    for actual, expected in zip(
        zoojax_pool(y, pool, cotangent), torch_pool(y, pool, cotangent), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)


def test_gradient_goes_to_the_first_of_equal_inputs():
    grad = zoojax_pool(np.ones((1, 4, 4, 1), np.float32), 2, np.ones((1, 2, 2, 1), np.float32))[1]
    assert (grad[:, :, 0, 0] == 1).all()
    assert grad.sum() == 4


@pytest.mark.parametrize("place", range(4))
def test_nan_in_a_window_propagates(place):
    y = np.zeros((1, 2, 4, 1), np.float32)
    y[0, place // 2, place % 2, 0] = np.nan
    pooled = np.asarray(max_pool(by_pooling_position(y, 2)))
    assert np.isnan(pooled[0, 0, 0, 0])
    assert pooled[0, 0, 1, 0] == 0


def test_vmapped_max_pool_matches_single_members():
    y = np.random.default_rng(4).integers(0, 4, (3, 2, 2, 2, 2, 3, 2)).astype(np.float32)

    @jax.jit
    def member(y):
        pooled, pullback = jax.vjp(ops.max_pool, y)
        return pooled, pullback(pooled + 1)[0]

    members = jax.jit(jax.vmap(member))(y)
    for i in range(3):
        for batched, single in zip(members, member(y[i]), strict=True):
            np.testing.assert_array_equal(batched[i], single)
