"""Errors for invalid zoos, settings and folders of hyper-representations."""

import json
import shutil
from dataclasses import replace

import flax.linen as nn
import jax.numpy as jnp
import polars as pl
import pytest

import zoojax.cli.represent.train
from tests.support import representations, zoo_fixtures
from zoojax import Zoo, ZoojaxError, open_zoo
from zoojax.architectures.linen import LinenArchitecture
from zoojax.cli.main import main
from zoojax.hyper_representation import trainer
from zoojax.hyper_representation.representation import (
    CONFIG,
    LOSSES,
    STATES,
    Representation,
    open_representation,
)
from zoojax.hyper_representation.settings import PRESETS
from zoojax.hyper_representation.trainer import train_autoencoder
from zoojax.hyper_representation.training_data import (
    PermutationWarning,
    check_architecture,
    default_alpha_epoch,
)

SETTINGS = representations.SETTINGS


@pytest.fixture(scope="module")
def twin(tmp_path_factory) -> Zoo:
    """A twin with nine members and epochs 0 to 3."""
    return representations.twin(tmp_path_factory)


@pytest.fixture(scope="module")
def representation(tmp_path_factory) -> Representation:
    """Trained on the twin for one epoch."""
    return representations.reconstructing(tmp_path_factory)


@pytest.fixture
def command(monkeypatch):
    """The command line in this process, with JAX already configured."""
    monkeypatch.setattr(zoojax.cli.represent.train, "configure_jax", lambda: None)
    return main


def test_layers_within_modules_are_refused():
    inner = nn.Sequential((nn.Dense(10),))
    net = LinenArchitecture("net", 28, 1, 10, nn.Sequential((inner,)))
    with pytest.raises(ZoojaxError, match="layers within modules, such as layers_0/layers_0"):
        check_architecture(net)


def test_missing_permutations_are_reported():
    net = LinenArchitecture("net", 28, 1, 10, nn.Sequential((nn.Dense(10),)))
    with pytest.warns(PermutationWarning, match="trains without permutation augmentation"):
        check_architecture(net)


def test_folder_with_other_files_is_refused(twin, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ZoojaxError, match="is not a hyper-representation"):
        train_autoencoder(tmp_path, twin, SETTINGS)
    with pytest.raises(ZoojaxError, match="is a file"):
        train_autoencoder(tmp_path / "notes.txt", twin, SETTINGS)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_non_finite_loss_stops_training(twin, tmp_path, monkeypatch):
    def diverging(codec, samples):
        return lambda state, data, queries, epoch: (state, {"loss": jnp.nan})

    monkeypatch.setattr(trainer, "epoch_program", diverging)
    with pytest.raises(ZoojaxError, match=r"epoch 1 is not finite.*smaller learning rate"):
        train_autoencoder(tmp_path / "rep", twin, SETTINGS)


@pytest.mark.parametrize("options", [{"epochs": [0, 99]}, {"alphas_of": 99}])
def test_missing_epoch(twin, tmp_path, options):
    with pytest.raises(ZoojaxError, match="no epoch 99"):
        train_autoencoder(tmp_path / "rep", twin, SETTINGS, **options)


@pytest.mark.parametrize("options", [{}, {"alphas_of": 3, "weights_only": True}])
def test_task_sparsify_needs_the_log_alphas_of_an_epoch(twin, tmp_path, options):
    with pytest.raises(ZoojaxError, match="predicts the log alphas of one epoch"):
        train_autoencoder(tmp_path / "rep", twin, replace(SETTINGS, task="sparsify"), **options)


def test_default_alpha_epoch(twin, tmp_path):
    """The first epoch with a mean sparsity of 80 %, or the last if none reaches it."""
    assert default_alpha_epoch(twin) == 3
    zoo = open_zoo(zoo_fixtures.copied(twin, tmp_path / "sparse"))
    table = zoo.metrics_history.with_columns(sparsity=(pl.col("epoch") * 0.41).clip(0, 1))
    table.write_parquet(zoo.path / "metrics.parquet")
    assert default_alpha_epoch(zoo) == 2


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"epochs": 0}, "epochs"),
        ({"chunk_length": 0}, "chunk_length"),
        ({"latent": -1}, "latent"),
        ({"width": 10, "heads": 4}, "multiple of 4 heads"),
        ({"batch_size": 1}, "at least 2"),
        ({"dropout": 1.0}, "dropout"),
        ({"gamma": -0.1}, "gamma"),
        ({"erase": float("nan")}, "erase"),
        ({"temperature": 0.0}, "temperature"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"alpha_radius": -1.0}, "alpha_radius"),
        ({"noise": -0.1}, "noise"),
        ({"weight_decay": float("nan")}, "weight_decay"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
    ],
)
def test_settings_out_of_range(twin, tmp_path, changes, named):
    with pytest.raises(ZoojaxError, match=named):
        train_autoencoder(tmp_path / "rep", twin, replace(SETTINGS, **changes))
    assert not (tmp_path / "rep").exists()


def test_presets_are_valid():
    assert {name: s.validate() for name, s in PRESETS.items()} == PRESETS
    paper = PRESETS["paper"]
    assert (paper.width, paper.heads, paper.layers, paper.latent) == (800, 4, 2, 700)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda text: text[:-20], "damaged"),
        (lambda text: text.replace('"width"', '"breadth"'), "damaged"),
        (lambda text: text.replace("zoojax-representation", "zoojax"), "does not describe a hyper"),
        (lambda text: text.replace('"schema": 4', '"schema": 99'), "schema 99.*upgrade"),
        (lambda text: text.replace('"zoos"', '"parks"'), "damaged"),
        (lambda text: "[]", "damaged"),
    ],
)
def test_damaged_or_foreign_config(representation, tmp_path, change, named):
    copy = tmp_path / "rep"
    shutil.copytree(representation.path, copy)
    (copy / CONFIG).write_text(change((copy / CONFIG).read_text()))
    with pytest.raises(ZoojaxError, match=named):
        open_representation(copy)


def test_damaged_losses_and_checkpoints(representation, tmp_path):
    copy = tmp_path / "rep"
    shutil.copytree(representation.path, copy)
    largest = max((copy / STATES).rglob("*"), key=lambda f: f.stat().st_size)
    largest.write_bytes(b"x" + largest.read_bytes()[1:])
    with pytest.raises(ZoojaxError, match="damaged"):
        _ = open_representation(copy).variables
    (copy / LOSSES).write_bytes(b"not a table")
    with pytest.raises(ZoojaxError, match=rf"{LOSSES} is damaged"):
        _ = open_representation(copy).epoch


def test_opening_an_empty_folder(tmp_path):
    with pytest.raises(ZoojaxError, match=f"has no {CONFIG}"):
        open_representation(tmp_path)


def test_reopened_representation_has_the_same_config(representation):
    opened = open_representation(representation.path)
    assert opened.config == representation.config
    assert "reconstruct, 8 dimensions, epoch 1" in repr(opened)


def test_training_zoo_is_found_by_path_or_option(representation, twin, tmp_path_factory):
    assert representation.training_zoo().fingerprint == twin.fingerprint
    assert representation.training_zoo(twin.path).path == twin.path
    with pytest.raises(ZoojaxError, match=r"is not a zoo that .* was trained on"):
        representation.training_zoo(representations.dense(tmp_path_factory).path)


def test_zoo_with_different_architecture_is_refused(representation, twin):
    representation.check_architecture(twin)
    config = replace(twin.config, architecture="large", channels=3)
    with pytest.raises(ZoojaxError, match=r"large CNN with 3 channels.*small CNN with 1"):
        representation.check_architecture(Zoo(twin.path, config))


def test_members_with_nan_are_excluded_and_counted(command, twin, tmp_path, monkeypatch, capsys):
    """Training is stubbed out, because members are selected before it."""
    for name in ("epoch_program", "validation_program"):
        monkeypatch.setattr(trainer, name, lambda codec, samples: untrained)
    zoo = open_zoo(zoo_fixtures.copied(twin, tmp_path / "zoo"))
    nan = (pl.col("member") == 3) & (pl.col("epoch") == 1)
    table = zoo.metrics_history.with_columns(finite=pl.col("finite") & ~nan)
    table.write_parquet(zoo.path / "metrics.parquet")
    out = tmp_path / "rep"
    sizes = ["--epochs", "1", "--batch-size", "8", "--latent", "64", "--seed", "5"]
    sizes.append("--without-behavior")
    assert command(["represent", "train", str(zoo.path), "--out", str(out), *sizes]) == 0
    assert "note: excluded 1 member with NaN" in capsys.readouterr().out
    created = open_representation(out)
    assert created.config.zoos[0].left_out == 1
    assert 3 not in {m for part in created.config.zoos[0].members for m in part}
    options = {"epochs": 1, "batch_size": 8, "latent": 64, "seed": 5}
    options |= {"probes": 0, "behavior": 0.0}
    assert created.codec.settings == replace(PRESETS["small"], **options)


def untrained(state, data, queries, epoch=None):
    """Replaces the training and the validation program."""
    parts = {"loss": jnp.float32(1)}
    return parts if epoch is None else (state, parts)


def test_command_suggests_weights_only(command, tmp_path, tmp_path_factory, capsys):
    dense, out = representations.dense(tmp_path_factory), tmp_path / "rep"
    assert command(["represent", "train", str(dense.path), "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("zoojax: ") and "log alphas" in line and "--weights-only" in line


def test_config_is_strict_json(representation):
    content = json.loads((representation.path / CONFIG).read_text())
    assert content["schema"] == 4 and content["zoos"][0]["left_out"] == 0
    assert content["zoos"][0]["path"].endswith("vd") and content["variational"]["fc1"] == ["kernel"]
