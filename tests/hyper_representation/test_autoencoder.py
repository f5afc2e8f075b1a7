"""Training of a hyper-representation, resume after interruptions, and inference."""

import functools
from dataclasses import replace

import jax
import numpy as np
import pytest

import zoojax.cli.represent.train
from tests.support import representations, zoo_fixtures
from zoojax import Zoo, ZoojaxError
from zoojax.architectures.cnn import small_cnn
from zoojax.cli.main import main
from zoojax.hyper_representation import train_step, trainer
from zoojax.hyper_representation.augmentation import draw_permutation, permute
from zoojax.hyper_representation.codec import Codec
from zoojax.hyper_representation.dataset import Normalization, fit_normalization, read_samples
from zoojax.hyper_representation.representation import (
    STATES,
    Representation,
    open_representation,
)
from zoojax.hyper_representation.settings import PRESETS, Settings
from zoojax.hyper_representation.trainer import train_autoencoder
from zoojax.runtime import population

SETTINGS = replace(representations.SETTINGS, epochs=3)
PARTS = ("alphas", "contrastive", "loss", "weights")
OVERFITTING = Settings(
    width=128,
    heads=4,
    layers=1,
    feed_forward=128,
    latent=32,
    local=0.0,
    gamma=0.0,
    noise=0.0,
    erase=0.0,
    epochs=300,
    batch_size=16,
    learning_rate=4e-3,
)


class Stopped(Exception):
    """Stands in for a killed process."""


@pytest.fixture(autouse=True, scope="module")
def cached_programs():
    """Compiles the programs of each codec once per file instead of once per training."""

    def cached(make):
        programs = {}

        def look_up(codec: Codec, samples: int):
            key = (repr(codec), samples)
            if key not in programs:
                programs[key] = make(codec, samples)
            return programs[key]

        return look_up

    with pytest.MonkeyPatch.context() as patch:
        for name in ("epoch_program", "validation_program"):
            patch.setattr(trainer, name, cached(getattr(trainer, name)))
        yield


@pytest.fixture(scope="module")
def twin(tmp_path_factory) -> Zoo:
    """A twin with nine members and epochs 0 to 3."""
    return representations.twin(tmp_path_factory)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, twin) -> Representation:
    """Trained without interruption."""
    return train_autoencoder(tmp_path_factory.mktemp("trained") / "rep", twin, SETTINGS)


def assert_same(a: Representation, b: Representation) -> None:
    """Asserts that network, optimizer state and losses are bit-identical."""
    assert a.epoch == b.epoch
    assert zoo_fixtures.same_bits(a.load_state(), b.load_state())
    assert zoo_fixtures.same_bits(zoo_fixtures.bits(a.losses), zoo_fixtures.bits(b.losses))


def stop_after(epoch: int):
    """Returns a progress callback that stops training after an epoch."""

    def report(progress) -> None:
        if progress.epoch == epoch:
            raise Stopped

    return report


def test_losses_table_has_all_terms(trained):
    losses = trained.losses
    assert losses.columns == ["epoch", *(f"{s}_{p}" for s in ("train", "val") for p in PARTS)]
    assert losses["epoch"].to_list() == [1, 2, 3] and trained.epoch == 3
    assert np.isfinite(losses.to_numpy()).all()
    assert losses["train_weights"][2] < losses["train_weights"][0]
    for part in ("train", "val"):
        weights, alphas, contrastive, loss = (
            losses[f"{part}_{name}"] for name in ("weights", "alphas", "contrastive", "loss")
        )
        expected = SETTINGS.gamma * contrastive + (1 - SETTINGS.gamma) * (weights + alphas)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_normalization_uses_training_members_only(trained, twin):
    config = trained.config
    normalization = fit_normalization(read_samples(twin, config.zoos[0].members.train).weights)
    assert (config.mean, config.deviation) == tuple(normalization)
    assert config.deviation != fit_normalization(read_samples(twin, range(9)).weights).std
    assert [len(part) for part in config.zoos[0].members] == [7, 1, 1]


@pytest.mark.parametrize("epoch", [1, 2])
def test_resume_from_saved_epoch_matches_uninterrupted_run(
    trained, twin, tmp_path, monkeypatch, epoch
):
    monkeypatch.setattr(trainer, "_SAVE_INTERVAL", -1.0)
    out = tmp_path / "rep"
    with pytest.raises(Stopped):
        train_autoencoder(out, twin, SETTINGS, report=stop_after(epoch))
    assert open_representation(out).epoch == epoch
    calls = []
    assert_same(train_autoencoder(out, twin, SETTINGS, report=calls.append), trained)
    assert [progress.epoch for progress in calls] == list(range(epoch, 4))
    assert [p.name for p in (out / STATES).iterdir()] == ["3"]


def test_interruption_before_first_save_restarts_training(trained, twin, tmp_path):
    out = tmp_path / "rep"
    with pytest.raises(Stopped):
        train_autoencoder(out, twin, SETTINGS, report=stop_after(2))
    interrupted = open_representation(out)
    assert interrupted.epoch == 0
    with pytest.raises(ZoojaxError, match="no completed epoch yet"):
        interrupted.embed(twin.params(0))
    assert_same(train_autoencoder(out, twin, SETTINGS), trained)


@pytest.mark.parametrize(("name", "usable"), [("write_table", 1), ("atomic_rmtree", 2)])
def test_resume_after_kill_during_save(trained, twin, tmp_path, monkeypatch, name, usable):
    """An epoch is complete once both its checkpoint and its losses are written."""
    monkeypatch.setattr(trainer, "_SAVE_INTERVAL", -1.0)
    out = tmp_path / "rep"
    with pytest.raises(Stopped):
        train_autoencoder(out, twin, SETTINGS, report=stop_after(1))

    def killed(*_, **__):
        raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(trainer, name, killed)
        train_autoencoder(out, twin, SETTINGS)
    assert {p.name for p in (out / STATES).iterdir()} == {"1", "2"}
    interrupted = open_representation(out)
    assert interrupted.epoch == usable
    assert interrupted.load_state().keys() == {"variables", "optimizer"}
    assert_same(train_autoencoder(out, twin, SETTINGS), trained)


def test_complete_run_is_returned_unchanged(trained, twin):
    before, calls = zoo_fixtures.contents(trained.path), []
    assert_same(train_autoencoder(trained.path, twin, SETTINGS, report=calls.append), trained)
    assert zoo_fixtures.contents(trained.path) == before
    assert [(progress.epoch, progress.done == progress.total) for progress in calls] == [(3, True)]


@pytest.mark.parametrize(
    ("settings", "options", "named"),
    [
        (replace(SETTINGS, gamma=0.2), {}, "settings"),
        (replace(SETTINGS, seed=2), {}, "settings"),
        (SETTINGS, {"epochs": [0, 1]}, "zoos"),
        (SETTINGS, {"weights_only": True}, "variational"),
    ],
)
def test_different_options_for_existing_folder_are_refused(trained, twin, settings, options, named):
    before = zoo_fixtures.contents(trained.path)
    with pytest.raises(ZoojaxError, match=f"created with different {named}.*another folder"):
        train_autoencoder(trained.path, twin, settings, **options)
    assert zoo_fixtures.contents(trained.path) == before


def test_different_zoo_for_existing_folder_is_refused(trained, tmp_path_factory):
    dense = representations.dense(tmp_path_factory)
    with pytest.raises(ZoojaxError, match="created with different"):
        train_autoencoder(trained.path, dense, SETTINGS, weights_only=True)


def test_embedding_does_not_depend_on_other_members(trained, twin):
    """Neither on their order, nor on a member with NaN in the same batch."""
    params = population.concatenate([twin.params(epoch) for epoch in twin.epochs])
    count = 9 * len(twin.epochs)
    embedded = trained.embed(params)
    assert embedded.shape == (count, SETTINGS.latent) and embedded.dtype == np.float32
    assert len(np.unique(embedded[:9].round(3), axis=0)) == 9
    order = np.random.default_rng(0).permutation(count)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    close(trained.embed(population.take(params, order)), embedded[order])
    close(trained.embed(population.take(params, np.array([5]))), embedded[5:6])
    with_nan = jax.tree.map(np.array, params)
    with_nan["fc1"]["kernel"][0] = np.nan
    actual = trained.embed(with_nan)
    assert np.isnan(actual[0]).all()
    close(actual[1:], embedded[1:])


def test_mean_over_views_reduces_dependence_on_unit_order(trained, twin):
    params, arch = twin.params(0), trained.config.shape
    reordered = jax.jit(lambda key: permute(params, draw_permutation(key, arch), arch))(
        jax.random.key(7)
    )

    def difference(views: int | None) -> float:
        before, after = trained.embed(params, views=views), trained.embed(reordered, views=views)
        assert before.shape == (9, SETTINGS.latent) and before.dtype == np.float32
        return float(np.square(after - before).sum())

    assert difference(16) < difference(None) / 3


def test_more_samples_than_the_inference_batch(trained, twin):
    params = population.take(twin.params(0), np.arange(70) % 9)
    embedded = trained.embed(params)
    np.testing.assert_allclose(embedded[63:], embedded[:7], rtol=1e-5, atol=1e-5)


def test_reconstruction_is_decoded_embedding(trained, twin):
    """With the structure of a twin's state."""
    state = twin.state(3)
    weights, alphas = trained.reconstruct(state["params"])
    assert alphas is not None
    assert jax.tree.map(np.shape, weights) == jax.tree.map(np.shape, state["params"])
    assert jax.tree.map(np.shape, alphas) == jax.tree.map(np.shape, state["log_sigma2"])
    decoded = trained.decode(trained.embed(state["params"]))
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
        decoded,
        (weights, alphas),
    )


def test_weights_only_for_a_dense_zoo(tmp_path, tmp_path_factory):
    dense = representations.dense(tmp_path_factory)
    with pytest.raises(ZoojaxError, match=r"no log alphas.*--weights-only"):
        train_autoencoder(tmp_path / "rep", dense, SETTINGS)
    assert not (tmp_path / "rep").exists()
    representation = train_autoencoder(
        tmp_path / "rep", dense, replace(SETTINGS, epochs=1), weights_only=True
    )
    assert representation.losses.columns == [
        "epoch",
        *(f"{s}_{p}" for s in ("train", "val") for p in ("contrastive", "loss", "weights")),
    ]
    weights, alphas = representation.reconstruct(dense.params(50))
    assert alphas is None and weights["fc2"]["bias"].shape == (9, 10)


@pytest.mark.slow
def test_sixteen_samples_are_overfitted(monkeypatch):
    """R2 of weights and scaled alphas if only the network limits it.

    Permutations are disabled, because they would multiply the number of distinct samples.
    """

    def unpermuted(key, arch):
        return tuple(np.arange(units) for units in arch.permuted_units())

    monkeypatch.setattr(train_step, "draw_permutation", unpermuted)
    arch, count = small_cnn(1, 10), 16
    variational = {layer: ("kernel",) for layer in arch.layers}
    rng = np.random.default_rng(0)
    weights = {
        layer: {n: rng.standard_normal((count, *s)).astype(np.float32) for n, s in leaves.items()}
        for layer, leaves in arch.parameter_shapes().items()
    }
    alphas = {
        layer: {"kernel": rng.uniform(-3, 9, weights[layer]["kernel"].shape).astype(np.float32)}
        for layer in variational
    }
    identity = dict.fromkeys(arch.layers, 0.0), dict.fromkeys(arch.layers, 1.0)
    codec = Codec(OVERFITTING, arch, Normalization(*identity), variational, {})
    data = jax.device_put(train_step.Data(*codec.targets(weights, alphas)))
    state = population.jit_fast_compile(lambda: train_step.init(codec, count))()
    queries = np.zeros((1, *arch.image_shape), np.float32)
    program = jax.jit(
        train_step.epoch_program(codec, count),
        donate_argnums=0,
        # A long run, for which optimized code compensates the compile time.
        compiler_options={"xla_backend_optimization_level": 3},
    )
    parts = {}
    for epoch in range(1, OVERFITTING.epochs + 1):
        state, parts = program(state, data, queries, np.int32(epoch))
    variance = np.var(np.concatenate([np.ravel(x) for x in jax.tree.leaves(data.alphas)]))
    assert 1 - float(parts["weights"]) > 0.99
    assert 1 - float(parts["alphas"]) / variance > 0.99


@pytest.fixture
def command(monkeypatch):
    """The command line in this process, with JAX already configured."""
    monkeypatch.setattr(zoojax.cli.represent.train, "configure_jax", lambda: None)
    return main


def test_command_matches_library(command, trained, twin, tmp_path, monkeypatch, capsys):
    """Bit-identical results; a complete run is reported and different settings are refused."""
    monkeypatch.setitem(PRESETS, "small", SETTINGS)
    out = tmp_path / "reps" / "tiny"
    words = ["represent", "train", str(twin.path), "--preset", "small", "--out", str(out)]
    assert command(words) == 0
    assert f"{out}: epoch 3; validation losses: alphas " in capsys.readouterr().out
    assert_same(open_representation(out), trained)
    assert command(words) == 0
    assert "already complete (epoch 3)" in capsys.readouterr().err
    assert command([*words, "--latent", "32"]) == 2
    assert "created with different settings" in capsys.readouterr().err
