"""What zoojax makes goes to torch users: loadable, in the original layout, to the bit."""

import functools
import json
import os
import resource
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn
from torch.nn.utils import prune

from tests.support import zoo_fixtures
from tests.support.torch_zoos import network, state
from zoojax import open_zoo
from zoojax.architectures import cnn
from zoojax.architectures.base import Architecture
from zoojax.converters import export, layout
from zoojax.converters.safe_load import read_state
from zoojax.converters.sources import from_trials
from zoojax.converters.torch_models import CNN
from zoojax.converters.torch_to_zoo import convert
from zoojax.converters.zoo_to_torch import (
    state_dict,
    trial_names,
    verify,
    write_safetensors,
    write_trials,
)
from zoojax.errors import ZoojaxError
from zoojax.runtime import population

IMAGES = np.random.default_rng(0).standard_normal((5, 28, 28, 1), np.float32)


@pytest.fixture(params=["dense", "mp", "vd"])
def zoo(request, tmp_path_factory):
    """A zoo that zoojax has trained."""
    return zoo_fixtures.KINDS[request.param](tmp_path_factory)


def load(file) -> dict[str, torch.Tensor]:
    """What plain torch reads."""
    return torch.load(file, weights_only=True)


def ours(zoo, position: int, epoch: int) -> np.ndarray:
    """Logits of a member as zoojax evaluates it."""
    params = population.take(zoo.sparse_params(epoch), position)
    run = compiled(zoo.config.shape, zoo.members_table["activation"][position])
    return np.asarray(run({"params": params}, jnp.asarray(IMAGES)))


@functools.cache
def compiled(shape: Architecture, activation: str):
    """A network, compiled once."""
    return jax.jit(cnn.CNN(shape, activation).apply)


def theirs(module: nn.Module) -> np.ndarray:
    """Logits of a torch network."""
    with torch.no_grad():
        return module.eval()(torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).copy())).numpy()


def test_every_state_loads_strictly_and_means_the_same(zoo, tmp_path):
    assert write_trials(zoo, tmp_path) == len(zoo.metrics)
    kind = "vd" if zoo.config.kind == "vd" else "dense"
    for position, name in enumerate(trial_names(zoo)):
        for epoch in zoo.epochs:
            tensors = load(tmp_path / name / f"checkpoint_{epoch:06d}" / "checkpoints")
            module = network(kind, zoo.config.shape)
            assert list(tensors) == list(module.state_dict())
            module.load_state_dict(tensors, strict=True)
            if kind == "dense":
                difference = np.abs(theirs(module) - ours(zoo, position, epoch)).max()
                assert difference <= 1e-5


def test_pruned_members_load_under_torchs_own_pruning(tmp_path_factory, tmp_path):
    zoo = zoo_fixtures.pruned(tmp_path_factory)
    write_trials(zoo, tmp_path, keep_masks=True)
    for position, name in enumerate(trial_names(zoo)):
        tensors = load(tmp_path / name / "checkpoint_000002" / "checkpoints")
        module = network("mp", zoo.config.shape)
        assert list(tensors) == list(module.state_dict())
        module.load_state_dict(tensors, strict=True)
        np.testing.assert_allclose(theirs(module), ours(zoo, position, 2), atol=1e-5)
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                prune.remove(layer, "weight")
        plain = state_dict(zoo, zoo.members_table["id"][position], 2)
        removed = module.state_dict()
        assert plain.keys() == removed.keys()
        assert all(torch.equal(plain[key], removed[key]) for key in plain)


def test_the_variational_keys_are_the_originals(reference, tmp_path_factory):
    file = next(reference.glob("cnn_small_usps_ard/*/checkpoint_000000/checkpoints"))
    original = load(file)
    made = state_dict(zoo_fixtures.dropped_out(tmp_path_factory), 0)
    assert list(made) == list(original) == list(state(0, "vd"))
    assert {k: v.shape for k, v in made.items()} == {k: v.shape for k, v in original.items()}


def test_what_is_written_converts_back_to_the_same_zoo(zoo, tmp_path):
    write_trials(zoo, tmp_path / "trials", keep_masks=True)
    sources = from_trials(tmp_path / "trials")
    back = convert(sources, tmp_path / "back", name="back").zoo
    assert back.epochs == zoo.epochs
    trained = list(zoo.state(0))
    order = [trial_names(zoo).index(trial) for trial in back.members_table["trial"]]
    for epoch in zoo.epochs:
        a, b = zoo.state(epoch), back.state(epoch)
        assert zoo_fixtures.same_bits(
            population.take(a, np.array(order)), {k: b[k] for k in trained}
        )
    columns = ["seed", "activation", "init", "optimizer", "learning_rate", "dropout"]
    assert back.members_table.select(columns).equals(zoo.members_table[order].select(columns))
    accuracies = [z.metrics.sort("epoch", "member")["test_acc"] for z in (zoo, back)]
    expected = accuracies[0].to_numpy().reshape(len(zoo.epochs), -1)[:, order]
    np.testing.assert_array_equal(accuracies[1].to_numpy(), expected.ravel())
    found = verify(back, sources, IMAGES, sample=None)
    assert found.unequal == []
    assert found.difference <= 1e-5


def test_trial_folders_say_what_they_are(zoo, tmp_path):
    write_trials(zoo, tmp_path)
    for row, name in zip(zoo.members_table.iter_rows(named=True), trial_names(zoo), strict=True):
        params = json.loads((tmp_path / name / "params.json").read_text())
        assert params["seed"] == row["seed"]
        assert params["optim::lr"] == row["learning_rate"]
        assert params["model::o_dim"] == zoo.config.classes
        assert params["model::type"] == ("CNN_ARD" if zoo.config.kind == "vd" else "CNN")
        assert params.get("prune::amount") == row.get("ratio")
        lines = (tmp_path / name / "result.json").read_text().splitlines()
        mine = zoo.metrics.filter(pl.col("member") == row["id"]).sort("epoch")
        reported = [json.loads(line) for line in lines]
        assert [r["training_iteration"] for r in reported] == zoo.epochs
        assert [r["test_acc"] for r in reported] == mine["test_acc"].to_list()
        assert all(r["config"] == params for r in reported)


def test_whole_files_are_not_written_again(tmp_path_factory, tmp_path):
    zoo = zoo_fixtures.dense(tmp_path_factory)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_trials(zoo, tmp_path, report=stop)
    before = {k: v for k, v in zoo_fixtures.contents(tmp_path).items() if k.endswith("checkpoints")}
    assert len(before) == len(zoo)
    assert write_trials(zoo, tmp_path) == len(zoo.metrics)
    after = zoo_fixtures.contents(tmp_path)
    assert {k: after[k] for k in before} == before
    assert sum(k.endswith("checkpoints") for k in after) == len(zoo.metrics)


def test_stacked_safetensors(zoo, tmp_path):
    assert write_safetensors(zoo, tmp_path, epochs=[2]) == 1
    stacked = load_file(tmp_path / "epoch_000002.safetensors")
    write_trials(zoo, tmp_path / "trials", epochs=[2], keep_masks=True)
    for position, name in enumerate(trial_names(zoo)):
        one = read_state(tmp_path / "trials" / name / "checkpoint_000002" / "checkpoints")
        assert zoo_fixtures.same_bits({k: v[position] for k, v in stacked.items()}, one)
    assert pl.read_parquet(tmp_path / "members.parquet").equals(zoo.members_table)
    assert pl.read_parquet(tmp_path / "metrics.parquet").equals(zoo.metrics)


def test_one_member(tmp_path_factory):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    tensors = state_dict(zoo, 1)
    module = CNN(zoo.config.shape, zoo.members_table["activation"][1])
    module.load_state_dict(tensors, strict=True)
    np.testing.assert_allclose(theirs(module), ours(zoo, 1, zoo_fixtures.EPOCHS), atol=1e-5)
    expected = layout.params_to_torch(zoo.member(1), zoo.config.shape, dropout=False)
    assert zoo_fixtures.same_bits({k: v.numpy() for k, v in tensors.items()}, expected)
    first = state_dict(zoo, 1, 0)
    assert not torch.equal(first["module_list.0.weight"], tensors["module_list.0.weight"])


def test_what_is_not_there(tmp_path_factory, tmp_path):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    with pytest.raises(ZoojaxError, match="has no member 99"):
        state_dict(zoo, 99)
    for write in (write_trials, write_safetensors):
        with pytest.raises(ZoojaxError, match="has no epoch 7"):
            write(zoo, tmp_path / "out", epochs=[0, 7])
        assert not (tmp_path / "out").exists()
        (tmp_path / "file").write_text("")
        with pytest.raises(ZoojaxError, match="cannot create"):
            write(zoo, tmp_path / "file" / "out")
    with pytest.raises(ZoojaxError, match="was not converted from torch"):
        verify(zoo, [], IMAGES)


# Whose folder it is, and names in it


def renamed(zoo, to: Path, **columns: list):
    """A copy of a zoo whose members table has other columns."""
    shutil.copytree(zoo.path, to)
    table = zoo.members_table.with_columns(
        pl.Series(name, values) for name, values in columns.items()
    )
    table.write_parquet(to / "members.parquet")
    return open_zoo(to)


def inventory(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder, links as such."""
    found = {}
    for path in sorted(folder.rglob("*")):
        regular = path.is_file() and not path.is_symlink()
        found[str(path.relative_to(folder))] = path.read_bytes() if regular else None
    return found


HOSTILE = [
    "/tmp/evil_trainable_", "../evil_trainable_", "..", ".", "", None, "a/b_trainable_", "a\\b",
    "nul\0_trainable_", "line\n_trainable_", "\x1b[31m_trainable_", "\u202e_trainable_",
    "x" * 256, "é" * 128, "CON", "con.txt", "Lpt1.a", "dot.", "space ", " space", "zoojax.json",
    "ZOOJAX.JSON",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: repr(name)[:20])
def test_a_name_that_is_no_folder_is_replaced(tmp_path_factory, tmp_path, name):
    good = "Good:trainable,lr=0.1"
    zoo = renamed(
        zoo_fixtures.dense(tmp_path_factory), tmp_path / "zoo", trial=[name, good, good.upper()]
    )
    before, out, notes = inventory(tmp_path / "zoo"), tmp_path / "in" / "out", []
    assert write_trials(zoo, out, epochs=[0], note=notes.append) == 3
    expected = ["NN_tune_trainable_00000_seed=1", good, "NN_tune_trainable_00002_seed=3"]
    assert trial_names(zoo) == expected
    assert sorted(p.name for p in out.iterdir()) == sorted([*expected, export.MARKER])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "zoo"]
    assert [p.name for p in (tmp_path / "in").iterdir()] == ["out"]
    assert inventory(tmp_path / "zoo") == before
    (note,) = notes
    assert note.startswith("2 trial name(s) cannot name a folder or are there twice")
    assert len(note) < 300 and note.isprintable()


def test_a_replacement_is_not_the_name_of_another(tmp_path_factory, tmp_path):
    trials = ["..", "nn_tune_trainable_00000_SEED=1", "NN_tune_trainable_00000_seed=1_2"]
    zoo = renamed(zoo_fixtures.dense(tmp_path_factory), tmp_path / "zoo", trial=trials)
    assert trial_names(zoo) == ["NN_tune_trainable_00000_seed=1_3", *trials[1:]]


@pytest.mark.parametrize("layers", [
    ["a"], ["a"] * 5, ["a", "b", "c", "d", None], ["a", "b", "c", "d", "e\n"], list("abcdef"),
    ["a", "b", "c", "d", "e" * 1000],
], ids=["one", "same", "null", "line", "six", "long"])  # fmt: skip
def test_layers_of_no_names_are_refused(tmp_path_factory, tmp_path, layers):
    zoo = renamed(zoo_fixtures.dense(tmp_path_factory), tmp_path / "zoo", layers=[layers] * 3)
    for write in (write_trials, write_safetensors):
        with pytest.raises(ZoojaxError, match=r"members\.parquet is damaged.*5 names"):
            write(zoo, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_is_of_one_zoo_in_one_form(tmp_path_factory, tmp_path):
    zoo, twin = zoo_fixtures.dense(tmp_path_factory), zoo_fixtures.pruned(tmp_path_factory)
    out = tmp_path / "out"
    assert write_trials(zoo, out, epochs=[0]) == 3
    before = inventory(tmp_path)
    with pytest.raises(ZoojaxError, match="out holds the export of another zoo"):
        write_trials(twin, out)
    with pytest.raises(ZoojaxError, match="out was exported as trial, not prune"):
        write_trials(zoo, out, keep_masks=True)
    with pytest.raises(ZoojaxError, match="out was exported as trial, not safetensors"):
        write_safetensors(zoo, out)
    assert inventory(tmp_path) == before
    assert write_trials(zoo, out) == 9


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": "zoojax-export"}'])
def test_a_marker_that_says_nothing(tmp_path_factory, tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / export.MARKER).write_text(content)
    before = inventory(tmp_path)
    with pytest.raises(ZoojaxError, match="out"):
        write_trials(zoo_fixtures.dense(tmp_path_factory), tmp_path / "out")
    assert inventory(tmp_path) == before


def test_what_others_have_written_is_not_overwritten(tmp_path_factory, tmp_path):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    out = tmp_path / "out"
    other = out / trial_names(zoo)[1]
    other.mkdir(parents=True)
    (other / "params.json").write_text("mine")
    (out / "members.parquet").write_text("mine")
    (out / "notes.txt").write_text("mine")
    before = inventory(tmp_path)
    for write, name in ((write_trials, other.name), (write_safetensors, "members.parquet")):
        with pytest.raises(ZoojaxError, match=f"{name} is there, and not of this export"):
            write(zoo, out)
        assert inventory(tmp_path) == before
    shutil.rmtree(other)
    assert write_trials(zoo, out) == 9
    assert (out / "notes.txt").read_text() == "mine"


def test_links_in_the_folder_lead_nowhere(tmp_path_factory, tmp_path):
    zoo, out, outside = zoo_fixtures.dense(tmp_path_factory), tmp_path / "out", tmp_path / "outside"
    assert write_trials(zoo, out, epochs=[0]) == 3
    outside.mkdir()
    folder = out / trial_names(zoo)[1]
    (folder / "checkpoint_000001").symlink_to(outside)
    with pytest.raises(ZoojaxError, match="checkpoint_000001 is not a folder"):
        write_trials(zoo, out)
    shutil.rmtree(folder)
    folder.symlink_to(outside)
    with pytest.raises(ZoojaxError, match=f"{folder.name} is not a folder"):
        write_trials(zoo, out)
    assert not list(outside.iterdir())
    # A file in place of which there is a link is written, and not what it leads to.
    folder.unlink()
    write_trials(zoo, out, epochs=[1])
    state = folder / "checkpoint_000001" / "checkpoints"
    content = state.read_bytes()
    state.unlink()
    (outside / "file").write_text("mine")
    state.symlink_to(outside / "file")
    write_trials(zoo, out)
    assert (outside / "file").read_text() == "mine"
    assert state.read_bytes() == content and not state.is_symlink()


def test_files_are_as_readable_as_any(tmp_path_factory, tmp_path):
    before = os.umask(0o027)
    try:
        write_safetensors(zoo_fixtures.dense(tmp_path_factory), tmp_path / "out")
        write_trials(zoo_fixtures.dense(tmp_path_factory), tmp_path / "trials")
    finally:
        os.umask(before)
    for folder in ("out", "trials"):
        for file in (f for f in (tmp_path / folder).rglob("*") if f.is_file()):
            assert file.stat().st_mode & 0o777 == 0o640, file


def test_a_full_disk_is_one_line(tmp_path_factory, tmp_path):
    """Files may have so many bytes and no more; the same call goes on when they may."""
    zoo = zoo_fixtures.dense(tmp_path_factory)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for write, limits in ((write_trials, (50, 400, 5000)), (write_safetensors, (50, 5000, 20_000))):
        out = tmp_path / write.__name__
        for limit in limits:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            try:
                with pytest.raises(ZoojaxError, match=r"cannot write .*: .") as caught:
                    write(zoo, out)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            assert "\n" not in str(caught.value)
            assert not [p for p in out.rglob("*") if ".tmp-" in p.name]
        write(zoo, out)
        whole = tmp_path / "whole" / write.__name__
        write(zoo, whole)
        one, other = inventory(out), inventory(whole)
        for name in (n for n in list(one) if n.endswith(".safetensors")):
            # The library writes what it knows about the arrays in a random order.
            del one[name], other[name]
            assert zoo_fixtures.same_bits(load_file(out / name), load_file(whole / name))
        assert one == other
