"""Learning a hyper-representation: what it finds, and going on after interruptions."""

import functools
from dataclasses import replace

import jax
import numpy as np
import pytest

import zoojax.cli.represent.train
from tests.support import representations, zoo_fixtures
from zoojax import Zoo, ZoojaxError
from zoojax.architectures.base import architecture
from zoojax.cli.main import main
from zoojax.hyper_representation import train_step, trainer
from zoojax.hyper_representation.augmentation import draw_permutation, permute
from zoojax.hyper_representation.codec import Codec
from zoojax.hyper_representation.dataset import Normalization, normalisation, read
from zoojax.hyper_representation.representation import (
    STATES,
    Representation,
    open_representation,
)
from zoojax.hyper_representation.settings import PRESETS, Settings
from zoojax.hyper_representation.tokens import shapes
from zoojax.hyper_representation.trainer import train_representation
from zoojax.runtime import population

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SETTINGS = replace(representations.SETTINGS, epochs=3)
PARTS = ("alphas", "contrastive", "loss", "weights")
BY_HEART = Settings(
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
    """What stands for a kill."""


@pytest.fixture(autouse=True, scope="module")
def remembered_programs():
    """Programs of one codec are compiled once in this file, not once a training."""

    def remembered(make):
        made = {}

        def look_up(codec: Codec, samples: int):
            key = (repr(codec), samples)
            if key not in made:
                made[key] = make(codec, samples)
            return made[key]

        return look_up

    with pytest.MonkeyPatch.context() as patch:
        for name in ("epoch_program", "validation_program"):
            patch.setattr(trainer, name, remembered(getattr(trainer, name)))
        yield


@pytest.fixture(scope="module")
def twin(tmp_path_factory) -> Zoo:
    """Nine members, epochs 0 to 3."""
    return representations.twin(tmp_path_factory)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, twin) -> Representation:
    """Trained without interruption."""
    return train_representation(tmp_path_factory.mktemp("whole") / "rep", twin, SETTINGS)


def assert_same(a: Representation, b: Representation) -> None:
    """To the bit: the network, the optimiser and all losses."""
    assert a.epoch == b.epoch
    assert zoo_fixtures.same_bits(a.saved(), b.saved())
    assert zoo_fixtures.same_bits(zoo_fixtures.bits(a.losses), zoo_fixtures.bits(b.losses))


def stop_after(epoch: int):
    """A report that ends training once an epoch is done."""

    def report(at) -> None:
        if at.epoch == epoch:
            raise Stopped

    return report


def test_the_parts_of_the_loss_are_kept(whole):
    losses = whole.losses
    assert losses.columns == ["epoch", *(f"{s}_{p}" for s in ("train", "val") for p in PARTS)]
    assert losses["epoch"].to_list() == [1, 2, 3] and whole.epoch == 3
    assert np.isfinite(losses.to_numpy()).all()
    assert losses["train_weights"][2] < losses["train_weights"][0]
    for part in ("train", "val"):
        weights, alphas, contrastive, loss = (
            losses[f"{part}_{name}"] for name in ("weights", "alphas", "contrastive", "loss")
        )
        expected = SETTINGS.gamma * contrastive + (1 - SETTINGS.gamma) * (weights + alphas)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_only_training_members_decide_the_normalisation(whole, twin):
    config = whole.config
    of_training = normalisation(read(twin, config.members.train).weights)
    assert (config.mean, config.deviation) == tuple(of_training)
    assert config.deviation != normalisation(read(twin, range(9)).weights).deviation
    assert [len(part) for part in config.members] == [7, 1, 1]


@pytest.mark.parametrize("epoch", [1, 2])
def test_going_on_is_exact(whole, twin, tmp_path, monkeypatch, epoch):
    """Interrupted once an epoch was saved."""
    monkeypatch.setattr(trainer, "_SAVE_EVERY", -1.0)
    out = tmp_path / "rep"
    with pytest.raises(Stopped):
        train_representation(out, twin, SETTINGS, report=stop_after(epoch))
    assert open_representation(out).epoch == epoch
    told = []
    assert_same(train_representation(out, twin, SETTINGS, report=told.append), whole)
    assert [at.epoch for at in told] == list(range(epoch, 4))
    assert [p.name for p in (out / STATES).iterdir()] == ["3"]


def test_interrupted_before_anything_was_saved_it_begins_anew(whole, twin, tmp_path):
    out = tmp_path / "rep"
    with pytest.raises(Stopped):
        train_representation(out, twin, SETTINGS, report=stop_after(2))
    begun = open_representation(out)
    assert begun.epoch == 0
    with pytest.raises(ZoojaxError, match="no epoch yet"):
        begun.embed(twin.params(0))
    assert_same(train_representation(out, twin, SETTINGS), whole)


@pytest.mark.parametrize(("name", "usable"), [("write_table", 1), ("atomic_rmtree", 2)])
def test_killed_while_saving(whole, twin, tmp_path, monkeypatch, name, usable):
    """Between state and losses, the epoch before counts; after both, the new one."""
    monkeypatch.setattr(trainer, "_SAVE_EVERY", -1.0)
    out = tmp_path / "rep"
    with pytest.raises(Stopped):
        train_representation(out, twin, SETTINGS, report=stop_after(1))

    def killed(*_, **__):
        raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(trainer, name, killed)
        train_representation(out, twin, SETTINGS)
    assert {p.name for p in (out / STATES).iterdir()} == {"1", "2"}
    found = open_representation(out)
    assert found.epoch == usable
    assert found.saved().keys() == {"variables", "optimizer"}
    assert_same(train_representation(out, twin, SETTINGS), whole)


def test_a_finished_one_is_returned(whole, twin):
    before, calls = zoo_fixtures.contents(whole.path), []
    assert_same(train_representation(whole.path, twin, SETTINGS, report=calls.append), whole)
    assert zoo_fixtures.contents(whole.path) == before
    assert [(at.epoch, at.done == at.total) for at in calls] == [(3, True)]


@pytest.mark.parametrize(
    ("settings", "options", "named"),
    [
        (replace(SETTINGS, gamma=0.2), {}, "settings"),
        (replace(SETTINGS, seed=2), {}, "settings"),
        (SETTINGS, {"epochs": [0, 1]}, "epochs"),
        (SETTINGS, {"weights_only": True}, "variational"),
    ],
)
def test_other_options_on_the_same_folder_are_refused(whole, twin, settings, options, named):
    before = zoo_fixtures.contents(whole.path)
    with pytest.raises(ZoojaxError, match=f"begun with other {named}.*another folder"):
        train_representation(whole.path, twin, settings, **options)
    assert zoo_fixtures.contents(whole.path) == before


def test_another_zoo_on_the_same_folder_is_refused(whole, tmp_path_factory):
    dense = representations.dense(tmp_path_factory)
    with pytest.raises(ZoojaxError, match="begun with other"):
        train_representation(whole.path, dense, SETTINGS, weights_only=True)


def test_embeddings_are_of_each_member_alone(whole, twin):
    """Whatever the order and the company, even of a member with NaN."""
    params = population.concatenate([twin.params(epoch) for epoch in twin.epochs])
    count = 9 * len(twin.epochs)
    embedded = whole.embed(params)
    assert embedded.shape == (count, SETTINGS.latent) and embedded.dtype == np.float32
    assert len(np.unique(embedded[:9].round(3), axis=0)) == 9
    order = np.random.default_rng(0).permutation(count)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    close(whole.embed(population.take(params, order)), embedded[order])
    close(whole.embed(population.take(params, np.array([5]))), embedded[5:6])
    company = jax.tree.map(np.array, params)
    company["fc1"]["kernel"][0] = np.nan
    found = whole.embed(company)
    assert np.isnan(found[0]).all()
    close(found[1:], embedded[1:])


def test_means_over_orders_of_units_hang_less_on_their_order(whole, twin):
    params, arch = twin.params(0), whole.config.shape
    reordered = jax.jit(lambda key: permute(params, draw_permutation(key, arch), arch))(
        jax.random.key(7)
    )

    def moved(views: int | None) -> float:
        before, after = whole.embed(params, views=views), whole.embed(reordered, views=views)
        assert before.shape == (9, SETTINGS.latent) and before.dtype == np.float32
        return float(np.square(after - before).sum())

    assert moved(16) < moved(None) / 3


def test_more_samples_than_pass_through_at_once(whole, twin):
    params = population.take(twin.params(0), np.arange(70) % 9)
    embedded = whole.embed(params)
    np.testing.assert_allclose(embedded[63:], embedded[:7], rtol=1e-5, atol=1e-5)


def test_reconstructions_are_decoded_embeddings(whole, twin):
    """They have the structure of what a twin's state has."""
    state = twin.state(3)
    weights, alphas = whole.reconstruct(state["params"])
    assert alphas is not None
    assert jax.tree.map(np.shape, weights) == jax.tree.map(np.shape, state["params"])
    assert jax.tree.map(np.shape, alphas) == jax.tree.map(np.shape, state["log_sigma2"])
    decoded = whole.decode(whole.embed(state["params"]))
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
        decoded,
        (weights, alphas),
    )


def test_weights_alone_of_a_dense_zoo(tmp_path, tmp_path_factory):
    dense = representations.dense(tmp_path_factory)
    with pytest.raises(ZoojaxError, match=r"no log alphas.*--weights-only"):
        train_representation(tmp_path / "rep", dense, SETTINGS)
    assert not (tmp_path / "rep").exists()
    found = train_representation(
        tmp_path / "rep", dense, replace(SETTINGS, epochs=1), weights_only=True
    )
    assert found.losses.columns == [
        "epoch",
        *(f"{s}_{p}" for s in ("train", "val") for p in ("contrastive", "loss", "weights")),
    ]
    weights, alphas = found.reconstruct(dense.params(50))
    assert alphas is None and weights["fc2"]["bias"].shape == (9, 10)


@pytest.mark.slow
def test_sixteen_samples_are_learned_by_heart(monkeypatch):
    """R2 of weights and of scaled alphas, where nothing but the network limits them.

    Their units stay in order: sixteen samples under every permutation are no sixteen.
    """
    monkeypatch.setattr(train_step, "draw_permutation", lambda key, arch: {})
    arch, count = architecture("small", 1), 16
    variational = {layer: ("kernel",) for layer in arch.layers}
    rng = np.random.default_rng(0)
    weights = {
        layer: {n: rng.standard_normal((count, *s)).astype(np.float32) for n, s in leaves.items()}
        for layer, leaves in shapes(arch).items()
    }
    alphas = {
        layer: {"kernel": rng.uniform(-3, 9, weights[layer]["kernel"].shape).astype(np.float32)}
        for layer in variational
    }
    plain = dict.fromkeys(arch.layers, 0.0), dict.fromkeys(arch.layers, 1.0)
    codec = Codec(BY_HEART, arch, Normalization(*plain), variational)
    data = jax.device_put(train_step.Data(*codec.targets(weights, alphas)))
    state = population.jit_fast_compile(lambda: train_step.init(codec, count))()
    program = jax.jit(
        train_step.epoch_program(codec, count),
        donate_argnums=0,
        # It runs for a while.
        compiler_options={"xla_backend_optimization_level": 3},
    )
    parts = {}
    for number in range(1, BY_HEART.epochs + 1):
        state, parts = program(state, data, np.int32(number))
    variance = np.var(np.concatenate([np.ravel(x) for x in jax.tree.leaves(data.alphas)]))
    assert 1 - float(parts["weights"]) > 0.99
    assert 1 - float(parts["alphas"]) / variance > 0.99


@pytest.fixture
def command(monkeypatch):
    """The command line in this process, whose JAX is prepared already."""
    monkeypatch.setattr(zoojax.cli.represent.train, "configure_jax", lambda: None)
    return main


def test_the_command_line(command, whole, twin, tmp_path, monkeypatch, capsys):
    """From end to end, to the bit what the library makes; finished, it says so."""
    monkeypatch.setitem(PRESETS, "small", SETTINGS)
    out = tmp_path / "reps" / "tiny"
    words = ["represent", "train", str(twin.path), "--preset", "small", "--out", str(out)]
    assert command(words) == 0
    assert f"{out}: epoch 3; validation losses: alphas " in capsys.readouterr().out
    assert_same(open_representation(out), whole)
    assert command(words) == 0
    assert "already complete (epoch 3)" in capsys.readouterr().err
    assert command([*words, "--latent", "32"]) == 2
    assert "begun with other settings" in capsys.readouterr().err
