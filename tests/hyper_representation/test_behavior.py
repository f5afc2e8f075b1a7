"""Probes and queries: predictions of members as input and as target of an autoencoder."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

from tests.support import representations, zoo_fixtures
from zoojax import Zoo, ZoojaxError, open_zoo
from zoojax.hyper_representation import api, trainer
from zoojax.hyper_representation.augmentation import draw_permutation, permute
from zoojax.hyper_representation.behavior import behavior_gap, choose_images
from zoojax.hyper_representation.codec import PROBES, Codec
from zoojax.hyper_representation.dataset import Normalization, read_samples
from zoojax.hyper_representation.losses import divergence
from zoojax.hyper_representation.representation import Representation, open_representation
from zoojax.hyper_representation.trainer import train_autoencoder
from zoojax.hyper_representation.training_inputs import answers
from zoojax.runtime import population
from zoojax.storage.zoo_images import load_images
from zoojax.training import inference

SETTINGS = replace(
    representations.SETTINGS,
    epochs=2,
    latent=128,
    probes=5,
    behavior=1.0,
    queries=4,
)


@pytest.fixture(scope="module")
def zoos(tmp_path_factory) -> list[Zoo]:
    """A dense zoo and its variational-dropout twin."""
    return [representations.dense(tmp_path_factory), representations.twin(tmp_path_factory)]


@pytest.fixture(scope="module")
def images(zoos) -> np.ndarray:
    return load_images(zoos[0], None).train.images


@pytest.fixture(scope="module")
def trained(tmp_path_factory, zoos, images) -> Representation:
    out = tmp_path_factory.mktemp("behaving") / "rep"
    return train_autoencoder(out, zoos, SETTINGS, images=images)


def codec_of(zoo: Zoo) -> Codec:
    """A codec that does not normalize."""
    arch = zoo.config.shape
    plain = Normalization(dict.fromkeys(arch.layers, 0.0), dict.fromkeys(arch.layers, 1.0))
    return Codec(SETTINGS, arch, plain, {layer: ("kernel",) for layer in arch.layers}, {}, "tanh")


def test_log_probabilities_are_those_of_the_members(zoos, images):
    (twin,) = zoos[1:]
    codec = codec_of(twin)
    weights = read_samples(twin, [3, 1], [2])
    alphas = weights.alphas
    assert alphas is not None
    thresholded = answers(codec, weights, images[:7], thresholded=True)
    expected = jax.nn.log_softmax(inference.logits(twin, images[:7], 2, [3, 1]))
    np.testing.assert_allclose(thresholded, np.maximum(expected, -12), rtol=1e-5, atol=1e-5)
    whole = answers(codec, weights, images[:7], thresholded=False)
    assert np.abs(whole - thresholded).max() > 1e-3


def test_terms_of_the_loss(trained):
    """Are recorded for both splits; their weighted sum is the loss."""
    losses = trained.losses
    for part in ("train", "val"):
        at = {name: losses[f"{part}_{name}"] for name in api_terms()}
        s = SETTINGS
        whole = at["weights"] + at["alphas"] + s.probe_loss * at["probes"]
        whole += s.behavior * at["behavior"]
        expected = s.gamma * at["contrastive"] + (1 - s.gamma) * whole
        np.testing.assert_allclose(at["loss"], expected, rtol=1e-5)
        assert (at["behavior"] > 0).all()


def api_terms() -> tuple[str, ...]:
    return ("loss", "contrastive", "weights", "alphas", "probes", "behavior")


def test_probes_are_stored_and_normalized(trained, zoos, images):
    """The linear part of z does not depend on the order of the hidden units."""
    probes = trained.variables[PROBES]
    chosen, _ = choose_images(images, SETTINGS.probes, 512, SETTINGS.seed)
    np.testing.assert_array_equal(probes["images"], chosen)
    found = []
    for zoo, entry in zip(zoos, trained.config.zoos, strict=True):
        samples = read_samples(zoo, entry.members.train)
        found.append(np.exp(answers(trained.codec, samples, chosen, thresholded=False)))
    flat = np.concatenate(found).reshape(-1, trained.codec.probed)
    np.testing.assert_allclose(probes["mean"], flat.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(probes["std"], np.maximum(flat.std(axis=0), 1e-3), rtol=1e-3)
    params, arch = zoos[0].params(50), trained.config.shape
    moved = permute(params, draw_permutation(jax.random.key(1), arch), arch)
    z, permuted = trained.embed(params), trained.embed(moved)
    count = SETTINGS.probe_latent
    first = trained.codec.module.global_size - count
    linear = slice(first, first + count)
    np.testing.assert_allclose(z[:, linear], permuted[:, linear], rtol=1e-4, atol=1e-4)
    assert np.abs(z - permuted).max() > 1e-3


def test_resume_gives_the_same_bits(trained, zoos, images, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "_SAVE_INTERVAL", -1.0)

    def stop(progress):
        if progress.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_autoencoder(tmp_path / "rep", zoos, SETTINGS, images=images, report=stop)
    assert open_representation(tmp_path / "rep").epoch == 1
    resumed = train_autoencoder(tmp_path / "rep", zoos, SETTINGS, images=images)
    assert resumed.fingerprint == trained.fingerprint
    assert zoo_fixtures.same_bits(resumed.variables, trained.variables)


def test_gradient_of_behavior_reaches_weights_and_log_alphas(zoos, images):
    """The threshold is exact; its gradient is that of a sigmoid around it."""
    twin = zoos[1]
    codec = codec_of(twin)
    weights = population.take(twin.params(0), np.array([0, 1]))
    tokens = codec.tokens(weights)
    low = jax.tree.map(lambda x: jnp.full_like(x, -0.01), tokens)
    kept = codec.thresholded([tokens, low])
    assert zoo_fixtures.same_bits(kept, weights)
    removed = codec.thresholded([tokens, jax.tree.map(lambda x: -x, low)])
    assert not np.any(removed["fc1"]["kernel"])
    assert zoo_fixtures.same_bits(removed["fc1"]["bias"], kept["fc1"]["bias"])
    queries = jnp.asarray(images[:4])
    true = codec.behavior(weights, queries)

    def loss(tokens, alphas):
        out = [tokens, alphas]
        return divergence(true, codec.behavior(codec.thresholded(out), queries))

    at = jax.tree.map(lambda x: x + 0.1, tokens), low
    value, (by_weights, by_alphas) = jax.value_and_grad(loss, (0, 1))(*at)
    assert value > 0 and float(loss(tokens, low)) == pytest.approx(0, abs=1e-5)
    for gradient in (by_weights, by_alphas):
        assert all(float(jnp.abs(x).max()) > 0 for x in gradient.values())


def test_images_are_drawn_without_overlap(images):
    probes, queries = choose_images(images, 6, 10, 3)
    again = choose_images(images, 6, 10, 3)
    assert np.array_equal(probes, again[0]) and np.array_equal(queries, again[1])
    flat = np.concatenate([probes, queries]).reshape(16, -1)
    assert len(np.unique(flat, axis=0)) == 16
    few = choose_images(images[:8], 6, 10, 3)
    assert [len(x) for x in few] == [6, 2]
    with pytest.raises(ZoojaxError, match=r"^6 training images are too few for 6 probes"):
        choose_images(images[:6], 6, 10, 3)


def with_members(zoo: Zoo, tmp_path, column: pl.Expr) -> Zoo:
    copy = open_zoo(zoo_fixtures.copied(zoo, tmp_path / "copy"))
    copy.members_table = copy.members_table.with_columns(column)
    return copy


def test_zoos_whose_behavior_cannot_be_used(zoos, tmp_path):
    assert behavior_gap(zoos) is None
    unknown = Zoo(zoos[0].store, replace(zoos[0].config, data_hash=None))
    assert behavior_gap([unknown]) == f"{unknown.path} records no images"
    assert behavior_gap([zoos[1], unknown]) == "the zoos have different images"
    mixed = pl.Series("activation", ["tanh", "relu", *["tanh"] * 7])
    copy = with_members(zoos[0], tmp_path, pl.lit(mixed))
    assert behavior_gap([copy]) == "the members have several activations"


def test_behavior_is_left_out_with_a_warning(zoos):
    unknown = Zoo(zoos[1].store, replace(zoos[1].config, data_hash=None))
    with pytest.warns(
        api.BehaviorWarning, match="trains without the behavior of members: .*vd rec"
    ):
        plain = api._behaving(SETTINGS, [unknown], False)
    assert not plain.uses_behavior
    assert api._behaving(SETTINGS, zoos, True) == plain
    assert api._behaving(SETTINGS, zoos, False) is SETTINGS


def test_library_needs_images(zoos, tmp_path):
    with pytest.raises(ZoojaxError, match="probes or a loss of behavior need images"):
        train_autoencoder(tmp_path / "rep", zoos, SETTINGS)
