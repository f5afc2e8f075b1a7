"""Hyper-representations trained on a dense zoo and its twins."""

import shutil
from dataclasses import replace

import jax
import numpy as np
import polars as pl
import pytest

import zoojax.cli.represent.train
from tests.support import representations, synthetic_zoos, zoo_fixtures
from zoojax import Zoo, ZoojaxError, train_representation
from zoojax.cli.main import main
from zoojax.hyper_representation.dataset import fit_normalization, join_samples, read_samples
from zoojax.hyper_representation.evaluation import evaluate
from zoojax.hyper_representation.evaluation_tables import (
    ALL_ZOOS,
    FOLDER,
    Evaluation,
    find_error,
    read_evaluation,
    write,
)
from zoojax.hyper_representation.representation import Representation, open_representation
from zoojax.hyper_representation.settings import PRESETS
from zoojax.hyper_representation.training_zoos import number_origins, split_members, split_zoos
from zoojax.runtime import population
from zoojax.sparsifiers.variational_dropout import init_log_sigma2, log_alphas

SETTINGS = representations.SETTINGS


@pytest.fixture(scope="module")
def dense(tmp_path_factory) -> Zoo:
    """Nine members, epochs 0 and 50."""
    return representations.dense(tmp_path_factory)


@pytest.fixture(scope="module")
def twin(tmp_path_factory) -> Zoo:
    """Its variational-dropout twin, epochs 0 to 3."""
    return representations.twin(tmp_path_factory)


@pytest.fixture(scope="module")
def pruned(tmp_path_factory, dense) -> Zoo:
    """Its magnitude-pruned twin: two members per dense member, epochs 0 and 15."""
    return synthetic_zoos.pruned(tmp_path_factory.mktemp("several") / "mp", dense, (0.5, 0.9))


@pytest.fixture(scope="module")
def representation(tmp_path_factory, dense, twin, pruned) -> Representation:
    """Trained on all three."""
    out = tmp_path_factory.mktemp("rep") / "rep"
    return representations.train_stub(out, [dense, twin, pruned], SETTINGS)


def parents(zoo: Zoo, ids: list[int]) -> set[int]:
    """The dense members from which members come."""
    table = zoo.members_table[zoo.row_indices(ids)]
    return set(table["parent_id" if "parent_id" in table.columns else "id"].to_list())


def test_member_and_its_twins_are_in_the_same_split(dense, twin, pruned):
    """In any order of the zoos, and for twins whose parent is not among them."""
    splits = split_zoos([dense, twin, pruned], 1)
    for parts in zip(*splits, strict=True):
        groups = [parents(z, p) for z, p in zip((dense, twin, pruned), parts, strict=True)]
        assert groups[0] == groups[1] == groups[2]
    assert [len(part) for part in splits[2]] == [14, 2, 2]
    assert split_zoos([pruned, dense, twin], 1) == [splits[2], splits[0], splits[1]]
    assert split_zoos([twin, pruned], 1) == [splits[1], splits[2]]
    assert split_zoos([twin], 1) == [splits[1]]
    assert [set(part) for part in split_zoos([dense], 1)[0]] == list(split_members(range(9), 1))


def test_members_of_one_dense_member_have_one_number(dense, twin, pruned):
    first, second, third = number_origins([dense, twin, pruned])
    assert first == {member: member for member in range(9)} == second
    parent_ids = pruned.members_table["parent_id"].to_list()
    assert third == dict(zip(pruned.members_table["id"], parent_ids, strict=True))
    assert number_origins([pruned]) == [third]


def test_unrelated_zoos_are_split_as_if_alone(tmp_path, dense):
    other = synthetic_zoos.dense(tmp_path / "other", 20, spec=dense.config.data)
    first, second = split_zoos([dense, other], 1)
    for split, count in ((first, 9), (second, 20)):
        assert sorted(member for part in split for member in part) == list(range(count))
    assert [first, second] == [split_zoos([zoo], 1)[0] for zoo in (dense, other)]


def test_states_without_log_alphas_have_the_initial_ones(dense, twin, pruned):
    """Log sigma squared is -10; pruned weights are above the threshold."""
    names = {layer: tuple(x) for layer, x in twin.state(0)["log_sigma2"].items()}
    samples = read_samples(dense, [4, 2], [50], variational=names)
    params = population.take(dense.params(50), np.array([4, 2]))
    expected = jax.device_get(log_alphas(params, init_log_sigma2(params, "released")))
    assert zoo_fixtures.same_bits(samples.alphas, expected)
    own = read_samples(twin, [4, 2], [3], variational=names)
    assert zoo_fixtures.same_bits(own.alphas, read_samples(twin, [4, 2], [3]).alphas)
    sparse = read_samples(pruned, [1], [15], variational=names)
    assert sparse.alphas is not None
    zero = sparse.weights["fc1"]["kernel"] == 0
    assert zero.any() and (sparse.alphas["fc1"]["kernel"][zero] > 3).all()


def test_all_zoos_are_recorded_and_opened(representation, dense, twin, pruned):
    config = representation.config
    zoos = [dense, twin, pruned]
    assert [each.fingerprint for each in config.zoos] == [zoo.fingerprint for zoo in zoos]
    assert [each.epochs for each in config.zoos] == [[0, 50], [0, 1, 2, 3], [0, 15]]
    assert [zoo.path.resolve() for zoo in representation.training_zoos()] == [
        zoo.path.resolve() for zoo in zoos
    ]
    opened = representation.training_zoos([pruned, dense.path])
    assert opened[2] is pruned and opened[0].path == dense.path
    assert representation.training_zoo().fingerprint == dense.fingerprint
    assert representation.training_zoo(twin) is twin
    assert representation.entry(pruned).members == config.zoos[2].members


def test_normalization_uses_all_zoos(representation, dense, twin, pruned):
    config, parts = representation.config, []
    for zoo, entry in zip((dense, twin, pruned), config.zoos, strict=True):
        parts.append(read_samples(zoo, entry.members.train, variational=config.variational))
    assert (config.mean, config.deviation) == tuple(fit_normalization(join_samples(parts).weights))
    assert sum(map(len, parts)) == 7 * 2 + 7 * 4 + 14 * 2


def test_moved_zoo(representation, dense, twin, tmp_path):
    moved = shutil.copytree(dense.path, tmp_path / "moved")
    entry = replace(representation.config.zoos[0], path="../nowhere")
    config = replace(representation.config, zoos=[entry, *representation.config.zoos[1:]])
    copy = Representation(representation.path, config)
    with pytest.raises(ZoojaxError, match=r"it was the training zoo of .* give its new folder"):
        copy.training_zoos()
    assert copy.training_zoos([moved])[0].path == moved
    assert copy.fingerprint == representation.fingerprint


@pytest.mark.parametrize(
    ("chosen", "options", "message"),
    [
        ((), {}, "^no training zoo; give at least one$"),
        (("dense", "dense"), {"weights_only": True}, "are the same zoo; give it once$"),
        (("dense", "pruned"), {}, "has no log alphas, unlike variational-dropout twins"),
        (("dense", "twin"), {"epochs": [0, 50]}, "vd has no epoch 50; its last is 3$"),
        (("dense", "large"), {"weights_only": True}, "large has another architecture than .*dense"),
    ],
)
def test_zoos_that_do_not_fit_are_refused(request, tmp_path, chosen, options, message):
    zoos = [
        representations.large(tmp_path / name) if name == "large" else request.getfixturevalue(name)
        for name in chosen
    ]
    with pytest.raises(ZoojaxError, match=message):
        representations.train_stub(tmp_path / "rep", zoos, SETTINGS, **options)
    assert not (tmp_path / "rep").exists()


def test_masks_are_predicted_from_one_twin(dense, twin, tmp_path):
    settings = replace(SETTINGS, task="sparsify")
    with pytest.raises(ZoojaxError, match="takes one twin with log alphas, not several zoos"):
        representations.train_stub(tmp_path / "rep", [dense, twin], settings, alphas_of=3)


def test_run_with_other_zoos_is_refused(representation, dense, twin):
    with pytest.raises(ZoojaxError, match="was created with different zoos"):
        representations.train_stub(representation.path, [dense, twin], SETTINGS)


def test_command_and_library(dense, twin, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(zoojax.cli.represent.train, "configure_jax", lambda: None)
    monkeypatch.setitem(PRESETS, "small", SETTINGS)
    monkeypatch.setattr(
        "zoojax.hyper_representation.api.train_autoencoder", representations.train_stub
    )
    out = tmp_path / "rep"
    words = ["represent", "train", str(dense.path), str(twin.path), "--out", str(out)]
    assert main(words) == 0, capsys.readouterr().err
    ours = train_representation([dense, twin.path], tmp_path / "again", quiet=True)
    assert ours.fingerprint == open_representation(out).fingerprint
    assert [len(zoo.epochs) for zoo in ours.config.zoos] == [2, 4]


def test_embeddings_do_not_depend_on_the_zoo(representation, dense):
    """A dense state has one embedding, whichever zoo it was read from."""
    z = representation.embed(dense.params(50))
    assert z.shape == (9, SETTINGS.latent) and np.isfinite(z).all()


def test_evaluation_of_all_zoos_and_of_each(representation, dense, twin, pruned):
    """Figures of one zoo are those of its states alone; members are resampled with their twins."""
    zoos = [dense, twin, pruned]
    labels = representation.config.labels
    tables = evaluate(representation, zoos, [None] * 3).tables
    assert tables["summary"]["zoo"].unique(maintain_order=True).to_list() == [ALL_ZOOS, *labels]
    states = tables["embeddings"].group_by("zoo", maintain_order=True).len()
    assert states.rows() == [(labels[0], 18), (labels[1], 36), (labels[2], 36)]
    counts = tables["reconstruction"].filter(part="test", quantity="weights", layer="all")
    assert counts["zoo"].to_list() == [ALL_ZOOS, *labels]
    size = sum(x[0].size for leaves in dense.params(0).values() for x in leaves.values())
    assert counts["count"].to_list() == [size * n for n in (2 + 4 + 4, 2, 4, 4)]
    assert "functional" not in tables
    write(Evaluation(tables), representation.path / FOLDER)
    assert read_evaluation(representation).tables.keys() == tables.keys()
    broken = tables["embeddings"].with_columns(zoo=pl.lit(labels[0]))
    assert "zoo" in str(find_error(representation.config, "embeddings", broken))
    epochs = tables["embeddings"].filter(zoo=labels[1]).with_columns(zoo=pl.lit(labels[0]))
    error = find_error(representation.config, "embeddings", epochs)
    assert error == f"column epoch: contains epochs on which {labels[0]} was not trained"
