"""Augmentations: permutations preserve the function; noise and erasing match their settings."""

import functools
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import zoo_fixtures
from zoojax import ZoojaxError
from zoojax.architectures.base import Architecture, logits
from zoojax.architectures.cnn import large_cnn, small_cnn
from zoojax.architectures.layers import PLAIN
from zoojax.architectures.permuted_axes import PermutationGroup, PermutedAxis
from zoojax.hyper_representation.augmentation import add_noise, draw_permutation, erase, permute
from zoojax.hyper_representation.tokens import Tokenizer
from zoojax.sparsifiers import variational_dropout
from zoojax.sparsifiers.variational_dropout import VARIANTS

SMALL, LARGE = small_cnn(1, 10), large_cnn(3, 10)
ARCHITECTURES = [SMALL, small_cnn(3, 10), LARGE]
by_architecture = pytest.mark.parametrize(
    "arch", ARCHITECTURES, ids=lambda a: f"{a.name}-{a.channels}"
)
# Both image sizes; odd, bounded and unbounded activations.
NETWORKS = [
    (SMALL, "tanh"),
    (SMALL, "leaky_relu"),
    (ARCHITECTURES[1], "sigmoid"),
    (LARGE, "gelu"),
]
IMAGES = 8


def random_params(arch, seed: int) -> dict:
    """Distinct parameters in the range of trained ones."""
    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        width = 2 / np.sqrt(max(np.prod(shape[:-1]), 1))
        return rng.uniform(-width, width, shape).astype(np.float32)

    return {
        layer: {name: draw(shape) for name, shape in leaves.items()}
        for layer, leaves in arch.parameter_shapes().items()
    }


def random_log_sigma2(params: dict, variant: str) -> dict:
    """Log variances whose log alphas lie on both sides of the threshold."""
    rng = np.random.default_rng(7)
    return jax.tree.map(
        lambda x: rng.uniform(-10, 4, x.shape).astype(np.float32),
        variational_dropout.init_log_sigma2(params, variant),
    )


@functools.cache
def network(arch, activation):
    """Returns a function (parameters, images) -> logits."""
    model = arch.module(activation, "uniform")
    return jax.jit(lambda params, images: logits(model, {"params": params}, images))


jit_add_noise, jit_erase = jax.jit(add_noise), jax.jit(erase)
jit_permute = jax.jit(permute, static_argnums=2)
threshold = jax.jit(variational_dropout.apply_threshold)


@functools.cache
def permuter(arch):
    """Returns a function (key, tree) -> (orders, permuted tree)."""

    def run(key, tree):
        orders = draw_permutation(key, arch)
        return orders, permute(tree, orders, arch)

    return jax.jit(run)


@pytest.mark.parametrize(("arch", "activation"), NETWORKS)
def test_permutation_preserves_logits(arch, activation):
    """Also after thresholding by log alphas permuted in the same way."""
    images = np.random.default_rng(0).standard_normal(
        (IMAGES, arch.size, arch.size, arch.channels), np.float32
    )
    params = random_params(arch, 1)
    sigmas = random_log_sigma2(params, "released")
    logits = network(arch, activation)
    for seed in range(3):
        orders, permuted = permuter(arch)(jax.random.key(seed), params)
        reordered = jit_permute(sigmas, orders, arch)
        np.testing.assert_allclose(logits(permuted, images), logits(params, images), atol=1e-5)
        np.testing.assert_allclose(
            logits(threshold(permuted, reordered), images),
            logits(threshold(params, sigmas), images),
            atol=1e-5,
        )
        assert not np.array_equal(permuted["conv1"]["kernel"], params["conv1"]["kernel"])


@by_architecture
@pytest.mark.parametrize("variant", VARIANTS)
def test_permutation_keeps_log_alphas_aligned_with_weights(arch, variant):
    params = random_params(arch, 2)
    sigmas = random_log_sigma2(params, variant)
    orders, permuted = permuter(arch)(jax.random.key(3), params)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
        variational_dropout.log_alphas(permuted, permute(sigmas, orders, arch)),
        permute(variational_dropout.log_alphas(params, sigmas), orders, arch),
    )
    # All weights are distinct, so equal values mean equal positions.
    subset = {layer: {n: params[layer][n] for n in leaves} for layer, leaves in sigmas.items()}
    moved = permute(subset, orders, arch)
    assert zoo_fixtures.same_bits(
        moved, {layer: {n: permuted[layer][n] for n in leaves} for layer, leaves in sigmas.items()}
    )


@by_architecture
def test_only_hidden_units_are_permuted(arch):
    orders, permuted = permuter(arch)(jax.random.key(4), random_params(arch, 3))
    sizes = [arch.parameter_shapes()[layer]["bias"][0] for layer in arch.layers[:-1]]
    for order, size in zip(orders, sizes, strict=True):
        assert sorted(order.tolist()) == list(range(size))
    assert zoo_fixtures.same_bits(permuted["fc2"]["bias"], random_params(arch, 3)["fc2"]["bias"])


@by_architecture
def test_inverse_permutation_restores_params(arch):
    params = random_params(arch, 4)
    orders, permuted = permuter(arch)(jax.random.key(5), params)
    restored = permute(permuted, [jnp.argsort(order) for order in orders], arch)
    assert zoo_fixtures.same_bits(restored, params)


def test_permutation_of_one_layer():
    """Only that layer and the next one change."""
    params = random_params(SMALL, 5)
    identity = [jnp.arange(units) for units in SMALL.permuted_units()]
    orders = [*identity[:2], jnp.array([3, 2, 1, 0]), identity[3]]
    permuted = permute(params, orders, SMALL)
    assert zoo_fixtures.same_bits(
        {**permuted, "conv3": 0, "fc1": 0}, {**params, "conv3": 0, "fc1": 0}
    )
    images = np.ones((1, 28, 28, 1), np.float32)
    logits = network(SMALL, "tanh")
    np.testing.assert_allclose(logits(permuted, images), logits(params, images), atol=1e-5)
    assert zoo_fixtures.same_bits(permute(params, identity, SMALL), params)


def test_batched_permutations_are_independent():
    keys, params = jax.random.split(jax.random.key(6), 16), random_params(SMALL, 6)
    orders, _ = jax.jit(jax.vmap(permuter(SMALL), (0, None)))(keys, params)
    for order in orders:
        assert len({tuple(one) for one in order.tolist()}) > 8
    single = permuter(SMALL)(keys[3], params)[0]
    assert zoo_fixtures.same_bits(single, tuple(order[3] for order in orders))


@dataclass(frozen=True)
class Residual(Architecture):
    """A hidden layer, added to a second one without bias, and a dense layer with two inputs."""

    def parameter_shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        return {
            "stem": {"kernel": (3, 5), "bias": (5,)},
            "block": {"kernel": (5, 5)},
            "head": {"kernel": (10, 2), "bias": (2,)},
        }

    @property
    def permutations(self) -> tuple[PermutationGroup, ...]:
        axes = [("stem/kernel", -1), ("stem/bias", -1), ("block/kernel", -2), ("block/kernel", -1)]
        return ((*(PermutedAxis(*each) for each in axes), PermutedAxis("head/kernel", -2, 2)),)


def test_groups_with_a_residual_connection():
    """One group may hold two axes of one parameter, and an axis the units at two positions."""
    arch = Residual("residual", 4, 1, 2)
    params = random_params(arch, 7)
    orders, permuted = permuter(arch)(jax.random.key(1), params)
    assert arch.permuted_units() == (5,)

    def run(params, x):
        hidden = np.tanh(x @ params["stem"]["kernel"] + params["stem"]["bias"])
        hidden = hidden + np.tanh(hidden @ params["block"]["kernel"])
        both = np.concatenate([hidden, hidden**2], axis=1)
        return both @ params["head"]["kernel"] + params["head"]["bias"]

    x = np.random.default_rng(0).standard_normal((4, 3), np.float32)
    permuted = jax.device_get(permuted)
    np.testing.assert_allclose(run(permuted, x), run(params, x), atol=1e-5)
    assert not np.array_equal(permuted["block"]["kernel"], params["block"]["kernel"])
    stacked = jax.tree.map(lambda w: np.stack([w, w]), params)
    again = permute(stacked, orders, arch)
    assert zoo_fixtures.same_bits(jax.tree.map(lambda w: w[1], again), permuted)


def test_architecture_without_permutations():
    class Fixed(Residual):
        @property
        def permutations(self) -> tuple[PermutationGroup, ...]:
            return ()

    arch = Fixed("fixed", 4, 1, 2)
    params = random_params(arch, 8)
    assert draw_permutation(jax.random.key(0), arch) == ()
    assert zoo_fixtures.same_bits(permute(params, (), arch), params)


@pytest.mark.parametrize(
    ("axis", "named"),
    [
        (PermutedAxis("head/kernel", -2), "different sizes"),
        (PermutedAxis("head/kernel", -2, 3), "head/kernel"),
        (PermutedAxis("head/kernel", -2, 0), "at 0 positions"),
        (PermutedAxis("head/kernel", 0, 2), "axis 0 of head/kernel"),
        (PermutedAxis("head/scale", -1), "head/scale"),
    ],
)
def test_axes_that_do_not_hold_the_units_are_refused(axis, named):
    class Mistaken(Residual):
        def module(self, activation, init, layers=PLAIN):
            return nn.Sequential([nn.Dense(2)])

        @property
        def permutations(self) -> tuple[PermutationGroup, ...]:
            return ((PermutedAxis("stem/bias", -1), axis),)

    with pytest.raises(ZoojaxError, match=named):
        draw_permutation(jax.random.key(0), Mistaken("mistaken", 4, 1, 2))


def random_tokens(seed: int) -> dict:
    return Tokenizer(SMALL).tokenize(random_params(SMALL, seed))


def test_noise_has_the_requested_standard_deviation():
    tokens = random_tokens(1)
    noisy = jit_add_noise(jax.random.key(0), tokens, 0.25)
    noise = np.concatenate([np.ravel(noisy[n] - tokens[n]) for n in tokens])
    assert noise.std() == pytest.approx(0.25, rel=0.05)
    assert noise.mean() == pytest.approx(0, abs=0.03)
    assert zoo_fixtures.same_bits(jit_add_noise(jax.random.key(0), tokens, 0.0), tokens)


def test_erased_tokens_are_one_run_of_bounded_length():
    """Over all keys, runs have varying lengths and reach every token, across layers."""
    tokens = random_tokens(2)
    lengths, positions = set(), set()
    for seed in range(100):
        remaining = jit_erase(jax.random.key(seed), tokens, 0.5)
        for name, x in remaining.items():
            kept = np.any(x, axis=1)
            assert zoo_fixtures.same_bits(np.asarray(x)[kept], np.asarray(tokens[name])[kept])
        erased = np.concatenate([~np.any(x, axis=1) for x in remaining.values()])
        at = np.flatnonzero(erased)
        assert at.size <= 24
        assert at.size == 0 or at[-1] - at[0] + 1 == at.size
        lengths.add(at.size)
        positions |= set(at.tolist())
    assert len(lengths) > 10 and positions == set(range(48))


def test_erase_with_fraction_zero_changes_nothing():
    tokens = random_tokens(3)
    assert zoo_fixtures.same_bits(jit_erase(jax.random.key(1), tokens, 0.0), tokens)
