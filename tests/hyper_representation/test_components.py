"""Principal components divide z among tokens, and training starts from them."""

from unittest import mock

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import representations
from zoojax.architectures.cnn import small_cnn
from zoojax.hyper_representation import evaluation, training_data
from zoojax.hyper_representation.codec import Codec
from zoojax.hyper_representation.components import (
    Components,
    divide,
    principal_components,
    start_from,
    start_probes_from,
    token_components,
)
from zoojax.hyper_representation.dataset import Normalization
from zoojax.hyper_representation.settings import Settings
from zoojax.hyper_representation.tokens import Tokenizer

ARCH = small_cnn(1, 10)
TOKENIZER = Tokenizer(ARCH)
GROUPS = {group.name: group for group in TOKENIZER.groups}


def components(variances: dict[str, np.ndarray]) -> dict[str, Components]:
    return {
        name: Components(np.zeros(len(each)), np.eye(len(each)), each)
        for name, each in variances.items()
    }


def total(slices) -> int:
    return sum(GROUPS[name].count * size for name, size in slices.items())


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 3000), st.integers(0, 2**32 - 1))
def test_division_leaves_the_smallest_error(available, seed):
    """No exchange of a dimension of one group for dimensions of others reduces the error."""
    rng = np.random.default_rng(seed)
    variances = {
        name: np.sort(rng.exponential(rng.uniform(0.1, 3), group.width))[::-1]
        for name, group in GROUPS.items()
    }
    slices = divide(TOKENIZER, components(variances), available)
    assert list(slices) == list(GROUPS) and total(slices) <= available
    assert all(0 <= size <= GROUPS[name].width for name, size in slices.items())
    left = available - total(slices)
    for name, size in slices.items():
        if size < GROUPS[name].width and GROUPS[name].count <= left:
            pytest.fail(f"{name} could have another dimension")
        # Dropping a dimension for a better one of another group with as many tokens or fewer.
        for other, n in slices.items():
            fits = n < GROUPS[other].width and GROUPS[other].count <= GROUPS[name].count + left
            if size and fits and GROUPS[other].count == GROUPS[name].count:
                assert variances[name][size - 1] >= variances[other][n]


def test_division_with_space_for_all_is_complete():
    full = {name: np.ones(group.width) for name, group in GROUPS.items()}
    slices = divide(TOKENIZER, components(full), TOKENIZER.num_parameters)
    assert slices == {name: group.width for name, group in GROUPS.items()}


def test_division_follows_variance():
    """A layer whose tokens vary in three directions gets three dimensions for each."""
    flat = {name: np.zeros(group.width) for name, group in GROUPS.items()}
    flat["fc1"][:3] = 5.0
    slices = divide(TOKENIZER, components(flat), 3 * GROUPS["fc1"].count)
    assert slices == dict.fromkeys(GROUPS, 0) | {"fc1": 3}


def test_components_are_those_of_numpy():
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((500, 4)) * [3, 1, 2, 0.5] + 7).astype(np.float32)
    mean, directions, variances = principal_components(x)
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(variances, np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1])
    np.testing.assert_allclose(directions.T @ directions, np.eye(4), atol=1e-12)
    assert np.abs(directions[[0, 2, 1, 3], range(4)]).min() > 0.9


@pytest.mark.parametrize("shape", [(5, 40), (300, 3000)])
def test_components_of_wide_data(shape):
    """Rows fewer than columns: directions are orthonormal and explain all of the variance."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((shape[0], 4)) @ rng.standard_normal((4, shape[1]))
    mean, directions, variances = principal_components(x)
    assert directions.shape == (shape[1], 4) and variances.shape == (4,)
    np.testing.assert_allclose(directions.T @ directions, np.eye(4), atol=1e-9)
    np.testing.assert_allclose((x - mean) @ directions @ directions.T + mean, x, atol=1e-9)
    assert variances.sum() == pytest.approx(x.var(axis=0).sum())


def test_rows_of_very_wide_data_are_thinned_out():
    x = np.random.default_rng(0).standard_normal((5000, 2100)).astype(np.float32)
    assert principal_components(x).variances.shape == (1666,)


def test_constant_tokens_have_no_components():
    constant = {
        layer: {name: np.ones((3, *shape), np.float32) for name, shape in leaves.items()}
        for layer, leaves in ARCH.parameter_shapes().items()
    }
    plain = Normalization(dict.fromkeys(ARCH.layers, 0.0), dict.fromkeys(ARCH.layers, 1.0))
    found = token_components(TOKENIZER, plain, constant, 1)
    assert divide(TOKENIZER, found, 2000) == dict.fromkeys(GROUPS, 0)
    assert divide(TOKENIZER, {}, 2000) == dict.fromkeys(GROUPS, 0)


def stacked(count: int, seed: int) -> dict:
    """Weights of random units that vary in few directions, around a mean."""
    rng, result = np.random.default_rng(seed), {}
    fixed = np.random.default_rng(99)
    for layer, leaves in ARCH.parameter_shapes().items():
        result[layer] = {}
        for name, shape in leaves.items():
            inputs = int(np.prod(shape[:-1]))
            directions = fixed.standard_normal((2, inputs))
            x = rng.standard_normal((count, shape[-1], 2)) @ directions + 0.5
            result[layer][name] = x.transpose(0, 2, 1).reshape(count, *shape).astype(np.float32)
    return result


def codec_of(latent: int, weights: dict, **options) -> tuple[Codec, dict[str, Components]]:
    chosen = Settings(width=16, heads=2, feed_forward=16, latent=latent, noise=0.0, **options)
    plain = Normalization(dict.fromkeys(ARCH.layers, 0.0), dict.fromkeys(ARCH.layers, 1.0))
    found = token_components(TOKENIZER, plain, weights, 1)
    slices = divide(TOKENIZER, found, chosen.local_latent)
    return Codec(chosen, ARCH, plain, {}, slices), found


def test_untrained_autoencoder_reconstructs_linearly():
    """Before training, the linear maps project held-out tokens onto the components."""
    weights, held_out = stacked(60, 0), stacked(5, 1)
    codec, found = codec_of(2600, weights, local=0.98)
    variables = jax.jit(codec.init)(jax.random.key(0))
    params = start_from(variables["params"], found, codec.slices)
    # Without the maps that are not linear in tokens.
    params = {
        name: jax.tree.map(lambda x: 0 * x, each) if "decompress" in name else each
        for name, each in params.items()
    }
    for group in TOKENIZER.groups:
        for part in (f"heads_0_{group.name}", f"compress_local_{group.name}"):
            params[part] = params[part] | {"kernel": 0 * params[part]["kernel"]}
    rebuilt = jax.jit(codec.reconstruct)({"params": params}, held_out)[0]
    tokens, decoded = codec.tokens(held_out), codec.tokens(rebuilt)
    for name, size in codec.slices.items():
        mean, directions, variances = found[name]
        kept = directions[:, :size]
        x = np.asarray(tokens[name]) - mean
        np.testing.assert_allclose(decoded[name], x @ kept @ kept.T + mean, atol=1e-3)
        assert size == len(variances)
    # Dimensions that no component needs stay in the global part.
    assert total(codec.slices) < codec.settings.local_latent


def test_probes_start_as_whitened_components():
    rng = np.random.default_rng(0)
    probed = rng.standard_normal((300, 3)) @ rng.standard_normal((3, 8)) + 1
    params = {
        "compress_probes": {"kernel": np.ones((8, 4)), "bias": np.ones(4)},
        "predict_probes": {"kernel": np.ones((6, 8)), "bias": np.zeros(8)},
    }
    started = start_probes_from(params, probed, 4, 2)
    z = probed @ started["compress_probes"]["kernel"] + started["compress_probes"]["bias"]
    # The data has three components; the fourth dimension keeps its initial map.
    np.testing.assert_allclose(np.cov(z[:, :3].T, bias=True), np.eye(3), atol=1e-9)
    np.testing.assert_array_equal(started["compress_probes"]["kernel"][:, 3], np.ones(8))
    out, before = started["predict_probes"], rng.standard_normal((300, 2))
    np.testing.assert_allclose(
        np.concatenate([before, z], axis=1) @ out["kernel"] + out["bias"], probed, atol=1e-9
    )


def test_slices_are_stored_and_start_the_training(tmp_path, tmp_path_factory):
    twin = representations.twin(tmp_path_factory)
    chosen = representations.SETTINGS
    trained = representations.train_stub(tmp_path / "rep", twin, chosen)
    slices = trained.config.slices
    assert 0 < total(slices) <= chosen.local_latent and trained.codec.slices == slices
    assert trained.codec.module.global_size == chosen.latent - total(slices)
    (used,) = [name for name, size in slices.items() if size]
    kernel = np.asarray(trained.variables["params"][f"linear_in_{used}"]["kernel"])
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(slices[used]), atol=1e-5)
    features = evaluation._features(trained, twin.params(1))
    shared = trained.codec.module.global_size
    np.testing.assert_array_equal(
        features["embedding, global part"], features["embedding"][:, :shared]
    )
    # Slices may differ by rounding errors on another processor; a complete run is not refused.
    altered = dict.fromkeys(slices, 0)
    with mock.patch.object(training_data, "divide", lambda *_: altered):
        again = representations.train_stub(tmp_path / "rep", twin, chosen)
    assert again.config.slices == slices
