"""Views of a member: permutations change no function, noise and erasing are as asked."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import zoo_fixtures
from zoojax.architectures import cnn
from zoojax.architectures.base import architecture
from zoojax.hyper_representation.augmentation import add_noise, draw_permutation, erase, permute
from zoojax.hyper_representation.tokens import Tokenizer, shapes
from zoojax.sparsifiers import variational_dropout
from zoojax.sparsifiers.variational_dropout import VARIANTS

SMALL, LARGE = architecture("small", 1), architecture("large", 3)
ARCHITECTURES = [SMALL, architecture("small", 3), LARGE]
by_architecture = pytest.mark.parametrize(
    "arch", ARCHITECTURES, ids=lambda a: f"{a.name}-{a.channels}"
)
# Both flattens, odd, bounded and unbounded activations.
NETWORKS = [
    (SMALL, "tanh"),
    (SMALL, "leaky_relu"),
    (ARCHITECTURES[1], "sigmoid"),
    (LARGE, "gelu"),
]
IMAGES = 8


def made_up(arch, seed: int) -> dict:
    """Parameters as wide as trained ones, of which no two are equal."""
    rng = np.random.default_rng(seed)

    def drawn(shape: tuple[int, ...]) -> np.ndarray:
        width = 2 / np.sqrt(max(np.prod(shape[:-1]), 1))
        return rng.uniform(-width, width, shape).astype(np.float32)

    return {
        layer: {name: drawn(shape) for name, shape in leaves.items()}
        for layer, leaves in shapes(arch).items()
    }


def made_up_log_sigma2(params: dict, variant: str) -> dict:
    """On both sides of the threshold."""
    rng = np.random.default_rng(7)
    return jax.tree.map(
        lambda x: rng.uniform(-10, 4, x.shape).astype(np.float32),
        variational_dropout.init_log_sigma2(params, variant),
    )


@functools.cache
def network(arch, activation):
    """(parameters, images) -> logits."""
    model = cnn.CNN(arch, activation)
    return jax.jit(lambda params, images: cnn.logits(model, {"params": params}, images))


noised, erased = jax.jit(add_noise), jax.jit(erase)
permuted_alike = jax.jit(permute, static_argnums=2)
threshold = jax.jit(variational_dropout.apply_threshold)


@functools.cache
def permuter(arch):
    """(key, tree) -> (orders, the tree reordered)."""

    def run(key, tree):
        orders = draw_permutation(key, arch)
        return orders, permute(tree, orders, arch)

    return jax.jit(run)


@pytest.mark.parametrize(("arch", "activation"), NETWORKS)
def test_permutations_change_no_logit(arch, activation):
    """Of the weights as they are, and thresholded by log alphas that were permuted too."""
    images = np.random.default_rng(0).standard_normal(
        (IMAGES, arch.size, arch.size, arch.channels), np.float32
    )
    params = made_up(arch, 1)
    sigmas = made_up_log_sigma2(params, "released")
    logits = network(arch, activation)
    for seed in range(3):
        orders, permuted = permuter(arch)(jax.random.key(seed), params)
        reordered = permuted_alike(sigmas, orders, arch)
        np.testing.assert_allclose(logits(permuted, images), logits(params, images), atol=1e-5)
        np.testing.assert_allclose(
            logits(threshold(permuted, reordered), images),
            logits(threshold(params, sigmas), images),
            atol=1e-5,
        )
        assert not np.array_equal(permuted["conv1"]["kernel"], params["conv1"]["kernel"])


@by_architecture
@pytest.mark.parametrize("variant", VARIANTS)
def test_log_alphas_keep_to_their_weights(arch, variant):
    """Whatever has a log alpha finds it at the same place before and after."""
    params = made_up(arch, 2)
    sigmas = made_up_log_sigma2(params, variant)
    orders, permuted = permuter(arch)(jax.random.key(3), params)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
        variational_dropout.log_alphas(permuted, permute(sigmas, orders, arch)),
        permute(variational_dropout.log_alphas(params, sigmas), orders, arch),
    )
    # No two weights are equal, so that equal values are equal places.
    same = {layer: {n: params[layer][n] for n in leaves} for layer, leaves in sigmas.items()}
    moved = permute(same, orders, arch)
    assert zoo_fixtures.same_bits(
        moved, {layer: {n: permuted[layer][n] for n in leaves} for layer, leaves in sigmas.items()}
    )


@by_architecture
def test_hidden_units_are_permuted_and_outputs_are_not(arch):
    orders, permuted = permuter(arch)(jax.random.key(4), made_up(arch, 3))
    assert list(orders) == list(arch.layers[:-1])
    sizes = [*(conv.features for conv in arch.convs), arch.hidden]
    for order, size in zip(orders.values(), sizes, strict=True):
        assert sorted(order.tolist()) == list(range(size))
    assert zoo_fixtures.same_bits(permuted["fc2"]["bias"], made_up(arch, 3)["fc2"]["bias"])


@by_architecture
def test_the_inverse_permutation_undoes_it(arch):
    params = made_up(arch, 4)
    orders, permuted = permuter(arch)(jax.random.key(5), params)
    back = permute(permuted, {layer: jnp.argsort(o) for layer, o in orders.items()}, arch)
    assert zoo_fixtures.same_bits(back, params)


def test_some_layers_alone():
    """Orders of one layer leave all but it and the next as they were."""
    params = made_up(SMALL, 5)
    order = jnp.array([3, 2, 1, 0])
    permuted = permute(params, {"conv3": order}, SMALL)
    assert zoo_fixtures.same_bits(
        {**permuted, "conv3": 0, "fc1": 0}, {**params, "conv3": 0, "fc1": 0}
    )
    images = np.ones((1, 28, 28, 1), np.float32)
    logits = network(SMALL, "tanh")
    np.testing.assert_allclose(logits(permuted, images), logits(params, images), atol=1e-5)
    assert zoo_fixtures.same_bits(permute(params, {}, SMALL), params)


def test_every_member_of_a_batch_is_permuted_by_itself():
    keys, params = jax.random.split(jax.random.key(6), 16), made_up(SMALL, 6)
    orders, _ = jax.jit(jax.vmap(permuter(SMALL), (0, None)))(keys, params)
    for order in orders.values():
        assert len({tuple(one) for one in order.tolist()}) > 8
    alone = permuter(SMALL)(keys[3], params)[0]
    assert zoo_fixtures.same_bits(alone, {layer: order[3] for layer, order in orders.items()})


def made_up_tokens(seed: int) -> dict:
    return Tokenizer(SMALL).tokenize(made_up(SMALL, seed))


def test_noise_has_the_deviation_asked_for():
    tokens = made_up_tokens(1)
    noisy = noised(jax.random.key(0), tokens, 0.25)
    noise = np.concatenate([np.ravel(noisy[n] - tokens[n]) for n in tokens])
    assert noise.std() == pytest.approx(0.25, rel=0.05)
    assert noise.mean() == pytest.approx(0, abs=0.03)
    assert zoo_fixtures.same_bits(noised(jax.random.key(0), tokens, 0.0), tokens)


def test_erased_is_one_run_of_at_most_the_share():
    """Over the whole sequence, its ends and the borders of layers too; drawn anew by key."""
    tokens = made_up_tokens(2)
    lengths, ever = set(), set()
    for seed in range(100):
        left = erased(jax.random.key(seed), tokens, 0.5)
        for name, x in left.items():
            kept = np.any(x, axis=1)
            assert zoo_fixtures.same_bits(np.asarray(x)[kept], np.asarray(tokens[name])[kept])
        gone = np.concatenate([~np.any(x, axis=1) for x in left.values()])
        at = np.flatnonzero(gone)
        assert at.size <= 24
        assert at.size == 0 or at[-1] - at[0] + 1 == at.size
        lengths.add(at.size)
        ever |= set(at.tolist())
    assert len(lengths) > 10 and ever == set(range(48))


def test_nothing_is_erased_at_a_share_of_zero():
    tokens = made_up_tokens(3)
    assert zoo_fixtures.same_bits(erased(jax.random.key(1), tokens, 0.0), tokens)
