"""Noise compared with Random123, JAX and the normal distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32
from scipy import stats

from zoojax import keys, ops
from zoojax.ops import noise

normal = jax.jit(ops.normal, static_argnums=1)


# Test vectors of Random123 (kat_vectors): rounds, key, counter, words.
_PI = ("13198a2e 03707344", "243f6a88 85a308d3")
_ZEROS, _ONES = ("00000000 00000000",) * 2, ("ffffffff ffffffff",) * 2
TEST_VECTORS = [
    (13, *_ZEROS, "9d1c5ec6 8bd50731"),
    (13, *_ONES, "fd36d048 2d17272c"),
    (13, *_PI, "ba3e4725 f27d669e"),
    (20, *_ZEROS, "6b200159 99ba4efe"),
    (20, *_ONES, "1cb996fc bb002be7"),
    (20, *_PI, "c4923a9c 483df7a0"),
]


def first_step(seed):
    """The noise source of a member's first step."""
    return keys.step_noise(keys.stream_key(seed, "noise", 1), 0)


def words(text):
    return jnp.array([int(word, 16) for word in text.split()], jnp.uint32)


@pytest.mark.parametrize("rounds, key, counter, expected", TEST_VECTORS)
def test_threefry_test_vectors(rounds, key, counter, expected):
    x0, x1 = noise.threefry2x32(words(key), *words(counter), rounds=rounds)
    assert f"{int(x0):08x} {int(x1):08x}" == expected


def test_threefry_with_20_rounds_matches_jax():
    rng = np.random.default_rng(5)
    for _ in range(5):
        key, x0, x1 = (rng.integers(0, 2**32, n, np.uint32) for n in (2, 100, 100))
        actual = noise.threefry2x32(jnp.asarray(key), jnp.asarray(x0), jnp.asarray(x1), rounds=20)
        expected = threefry_2x32(jnp.asarray(key), jnp.concatenate([x0, x1]))
        np.testing.assert_array_equal(jnp.concatenate(actual), expected)


def test_normal_distribution():
    x = np.asarray(normal(first_step(6), (1_000_000,)), np.float64)
    error = 1e-3  # standard error of the mean of a million values
    assert abs(x.mean()) < 4 * error
    assert abs(x.var() - 1) < 4 * np.sqrt(2) * error
    assert abs((x**3).mean()) < 4 * np.sqrt(15) * error
    assert abs((x**4).mean() - 3) < 4 * np.sqrt(96) * error
    assert stats.kstest(x, "norm").pvalue > 1e-3
    assert stats.kstest(x[:1000], "norm").pvalue > 1e-3
    assert np.abs(x).max() > 4.5  # the tails are not truncated (fails with probability 1e-3)


def test_extreme_bits_yield_finite_symmetric_values(monkeypatch):
    bits = jnp.array([0, 2**31 - 512, 2**31, 2**32 - 1], jnp.uint32)
    monkeypatch.setattr(noise, "_bits", lambda *_: bits)
    lowest, below, above, highest = np.asarray(noise.normal(first_step(0), (4,)))
    np.testing.assert_array_equal(
        noise.uniform(first_step(0), (4,)), [0, 0.5 - 2**-23, 0.5, 1 - 2**-24]
    )
    assert 5 < highest < 5.5
    assert lowest == -highest
    assert 0 < above < 1e-6
    assert below == -above


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 3, 4)])
def test_noise_shapes(shape):
    x = normal(first_step(8), shape)
    assert x.shape == shape
    assert x.dtype == jnp.float32
    assert len(np.unique(x)) == x.size


def test_noise_of_keys_steps_slots_and_halves_is_uncorrelated():
    size = 100_000
    epoch_key = keys.stream_key(1, "noise", 1)
    sources = [keys.step_noise(epoch_key, i) for i in range(6)]
    sources += [sources[0].at(slot) for slot in (1, 2)]
    sources += [
        keys.step_noise(keys.stream_key(seed, "noise", epoch), 0)
        for seed in (1, 2)
        for epoch in (2, 3)
    ]
    rows = np.stack([normal(source, (size,)) for source in sources])
    halves = rows.reshape(-1, size // 2)
    lagged = [(row[:-1] * row[1:]).mean() for row in rows]
    for correlations, count in ((np.corrcoef(rows), size), (np.corrcoef(halves), size // 2)):
        off_diagonal = correlations[~np.eye(len(correlations), dtype=bool)]
        assert np.abs(off_diagonal).max() < 5 / np.sqrt(count)
    assert np.abs(lagged).max() < 5 / np.sqrt(size)


def test_vmapped_noise_matches_single_members():
    seeds = jnp.arange(4)

    @jax.jit
    def member(seed):
        return ops.normal(first_step(seed), (11, 3))

    members = jax.jit(jax.vmap(member))(seeds)
    for i in range(4):
        np.testing.assert_array_equal(members[i], member(seeds[i]))
