"""The primitives against lax, torch, Random123 and the normal distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.extend.random import threefry_2x32
from scipy import stats

from zoojax import keys, ops
from zoojax.ops import noise

conv, max_pool = jax.jit(ops.conv, static_argnums=2), jax.jit(ops.max_pool)
normal = jax.jit(ops.normal, static_argnums=1)


def to_phases(y_BHWO, pool):
    """Rows and columns [B, H, W, O] to the layout by pooling positions, floor mode."""
    batch, height, width, features = y_BHWO.shape
    h, w = height // pool, width // pool
    y = y_BHWO[:, : h * pool, : w * pool].reshape(batch, h, pool, w, pool, features)
    return y.transpose(0, 1, 2, 4, 3, 5)


def plain_conv(x, kernel, pool):
    y = lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return to_phases(y, pool)


def assert_close(actual, expected, tolerance):
    """Close relative to the largest expected number."""
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
def test_conv_and_its_gradients_are_laxs(shapes):
    x_shape, kernel_shape, pool = shapes
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in (x_shape, kernel_shape))
    cotangent = rng.normal(size=jax.eval_shape(plain_conv_of(pool), x, kernel).shape)
    (y, grads), (expected, expected_grads) = (
        jax.jit(with_gradients(f))(x, kernel, jnp.asarray(cotangent, jnp.float32))
        for f in (lambda x, k: ops.conv(x, k, pool), plain_conv_of(pool))
    )
    assert y.shape == expected.shape
    assert_close(y, expected, 1e-4)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert_close(grad, expected_grad, 1e-4)


def plain_conv_of(pool):
    return lambda x, kernel: plain_conv(x, kernel, pool)


def with_gradients(function):
    def both(x, kernel, cotangent):
        y, pullback = jax.vjp(function, x, kernel)
        return y, pullback(cotangent)

    return both


@pytest.mark.parametrize("size, pool, windows", [(8, 2, 3), (9, 2, 3), (10, 2, 4), (10, 3, 2)])
def test_conv_drops_what_floor_pooling_drops(size, pool, windows):
    x = jnp.arange(size * size, dtype=jnp.float32).reshape(1, size, size, 1)
    y = conv(x, jnp.zeros((3, 3, 1, 1)).at[0, 0].set(1.0), pool)
    assert y.shape == (1, windows, pool, pool, windows, 1)
    # The kernel copies its upper left pixel, so each number says where it came from.
    for h, p, q, w in [(0, 0, 0, 0), (0, 1, 0, 1), (windows - 1, pool - 1, pool - 1, 1)]:
        assert y[0, h, p, q, w, 0] == (h * pool + p) * size + w * pool + q


def test_pixels_that_pooling_drops_have_no_gradient():
    x, kernel = jnp.ones((1, 9, 9, 1)), jnp.ones((3, 3, 1, 1))
    grad = jax.jit(jax.grad(lambda x: jnp.sum(ops.conv(x, kernel, 2))))(x)[0, :, :, 0]
    assert (grad[:8, :8] > 0).all()
    assert (grad[8] == 0).all()
    assert (grad[:, 8] == 0).all()


@pytest.mark.parametrize("shared_images", [True, False])
def test_conv_and_pool_of_members_are_those_of_each(shared_images):
    rng = np.random.default_rng(1)
    kernel = jnp.asarray(rng.normal(size=(3, 5, 5, 2, 6)), jnp.float32)
    x = jnp.asarray(rng.normal(size=(3, 4, 12, 12, 2)), jnp.float32)
    x = x[0] if shared_images else x

    @jax.jit
    def one(x, kernel):
        return ops.max_pool(ops.conv(x, kernel, 2))

    members = jax.jit(jax.vmap(one, in_axes=(None if shared_images else 0, 0)))(x, kernel)
    for i in range(3):
        assert_close(members[i], one(x if shared_images else x[i], kernel[i]), 1e-6)


# Max pooling


def torch_pool(y_BHWO, pool, cotangent_BHWO):
    y = torch.tensor(y_BHWO.transpose(0, 3, 1, 2), requires_grad=True)
    pooled = torch.nn.functional.max_pool2d(y, pool)
    pooled.backward(torch.tensor(cotangent_BHWO.transpose(0, 3, 1, 2)))
    assert y.grad is not None
    grad = y.grad.numpy().transpose(0, 2, 3, 1)
    return pooled.detach().numpy().transpose(0, 2, 3, 1), to_phases(grad, pool)


def our_pool(y_BHWO, pool, cotangent_BHWO):
    return max_pool_and_gradient(to_phases(y_BHWO, pool), cotangent_BHWO)


@jax.jit
def max_pool_and_gradient(y, cotangent):
    pooled, pullback = jax.vjp(ops.max_pool, y)
    return pooled, pullback(cotangent)[0]


def numbers(kind, shape):
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
def test_max_pool_and_its_gradient_are_torchs(kind, pool):
    y = numbers(kind, (2, 4 * pool, 3 * pool, 3))
    cotangent = np.random.default_rng(3).normal(size=(2, 4, 3, 3)).astype(np.float32)
    for ours, theirs in zip(
        our_pool(y, pool, cotangent), torch_pool(y, pool, cotangent), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_first_of_equals_has_the_gradient():
    grad = our_pool(np.ones((1, 4, 4, 1), np.float32), 2, np.ones((1, 2, 2, 1), np.float32))[1]
    assert (grad[:, :, 0, 0] == 1).all()
    assert grad.sum() == 4


@pytest.mark.parametrize("place", range(4))
def test_nan_anywhere_in_a_window_comes_out(place):
    y = np.zeros((1, 2, 4, 1), np.float32)
    y[0, place // 2, place % 2, 0] = np.nan
    pooled = np.asarray(max_pool(to_phases(y, 2)))
    assert np.isnan(pooled[0, 0, 0, 0])
    assert pooled[0, 0, 1, 0] == 0


def test_max_pool_of_members_is_that_of_each():
    y = np.random.default_rng(4).integers(0, 4, (3, 2, 2, 2, 2, 3, 2)).astype(np.float32)

    @jax.jit
    def one(y):
        pooled, pullback = jax.vjp(ops.max_pool, y)
        return pooled, pullback(pooled + 1)[0]

    members = jax.jit(jax.vmap(one))(y)
    for i in range(3):
        for of_all, alone in zip(members, one(y[i]), strict=True):
            np.testing.assert_array_equal(of_all[i], alone)


# Noise

# Known answers of Random123 (kat_vectors): rounds, key, counter, words.
_PI = ("13198a2e 03707344", "243f6a88 85a308d3")
_ZEROS, _ONES = ("00000000 00000000",) * 2, ("ffffffff ffffffff",) * 2
KNOWN_ANSWERS = [
    (13, *_ZEROS, "9d1c5ec6 8bd50731"),
    (13, *_ONES, "fd36d048 2d17272c"),
    (13, *_PI, "ba3e4725 f27d669e"),
    (20, *_ZEROS, "6b200159 99ba4efe"),
    (20, *_ONES, "1cb996fc bb002be7"),
    (20, *_PI, "c4923a9c 483df7a0"),
]


def step(seed):
    """The noise of the first step of a member."""
    return keys.step_noise(keys.stream_key(seed, "noise", 1), 0)


def words(text):
    return jnp.array([int(word, 16) for word in text.split()], jnp.uint32)


@pytest.mark.parametrize("rounds, key, counter, expected", KNOWN_ANSWERS)
def test_threefry_gives_the_known_answers(rounds, key, counter, expected):
    x0, x1 = noise.threefry2x32(words(key), *words(counter), rounds=rounds)
    assert f"{int(x0):08x} {int(x1):08x}" == expected


def test_threefry_of_20_rounds_is_jaxs():
    rng = np.random.default_rng(5)
    for _ in range(5):
        key, x0, x1 = (rng.integers(0, 2**32, n, np.uint32) for n in (2, 100, 100))
        ours = noise.threefry2x32(jnp.asarray(key), jnp.asarray(x0), jnp.asarray(x1), rounds=20)
        theirs = threefry_2x32(jnp.asarray(key), jnp.concatenate([x0, x1]))
        np.testing.assert_array_equal(jnp.concatenate(ours), theirs)


def test_million_numbers_are_standard_normal():
    x = np.asarray(normal(step(6), (1_000_000,)), np.float64)
    error = 1e-3  # the standard error of a mean of a million
    assert abs(x.mean()) < 4 * error
    assert abs(x.var() - 1) < 4 * np.sqrt(2) * error
    assert abs((x**3).mean()) < 4 * np.sqrt(15) * error
    assert abs((x**4).mean() - 3) < 4 * np.sqrt(96) * error
    assert stats.kstest(x, "norm").pvalue > 1e-3
    assert stats.kstest(x[:1000], "norm").pvalue > 1e-3
    assert np.abs(x).max() > 4.5  # tails are not cut: the chance of none is 1e-3


def test_extreme_bits_are_finite_and_symmetric(monkeypatch):
    bits = jnp.array([0, 2**31 - 512, 2**31, 2**32 - 1], jnp.uint32)
    monkeypatch.setattr(noise, "_bits", lambda *_: bits)
    lowest, below, above, highest = np.asarray(noise.normal(step(0), (4,)))
    np.testing.assert_array_equal(noise.uniform(step(0), (4,)), [0, 0.5 - 2**-23, 0.5, 1 - 2**-24])
    assert 5 < highest < 5.5
    assert lowest == -highest
    assert 0 < above < 1e-6
    assert below == -above


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 3, 4)])
def test_noise_of_any_shape(shape):
    x = normal(step(8), shape)
    assert x.shape == shape
    assert x.dtype == jnp.float32
    assert len(np.unique(x)) == x.size


def test_keys_steps_and_halves_are_uncorrelated():
    size = 100_000
    epoch_key = keys.stream_key(1, "noise", 1)
    chosen = [keys.step_noise(epoch_key, i) for i in range(6)]
    chosen += [chosen[0].at(slot) for slot in (1, 2)]
    chosen += [
        keys.step_noise(keys.stream_key(seed, "noise", epoch), 0)
        for seed in (1, 2)
        for epoch in (2, 3)
    ]
    rows = np.stack([normal(key, (size,)) for key in chosen])
    halves = rows.reshape(-1, size // 2)
    lagged = [(row[:-1] * row[1:]).mean() for row in rows]
    for correlations, count in ((np.corrcoef(rows), size), (np.corrcoef(halves), size // 2)):
        off_diagonal = correlations[~np.eye(len(correlations), dtype=bool)]
        assert np.abs(off_diagonal).max() < 5 / np.sqrt(count)
    assert np.abs(lagged).max() < 5 / np.sqrt(size)


def test_noise_of_members_is_that_of_each():
    seeds = jnp.arange(4)

    @jax.jit
    def one(seed):
        return ops.normal(step(seed), (11, 3))

    members = jax.jit(jax.vmap(one))(seeds)
    for i in range(4):
        np.testing.assert_array_equal(members[i], one(seeds[i]))
