"""What zoojax makes goes to torch users: loadable, in the original layout, to the bit."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
import torch
import zoos
from safetensors.numpy import load_file
from torch import nn
from torch.nn.utils import prune
from torch_zoos import network, state

from converters import layout
from converters.sources import from_trials
from converters.torch_checkpoints import read_state
from converters.torch_models import CNN
from converters.torch_to_zoo import convert
from converters.zoo_to_torch import state_dict, trial_names, verify, write_safetensors, write_trials
from zoojax import models, population
from zoojax.errors import ZoojaxError

IMAGES = np.random.default_rng(0).standard_normal((5, 28, 28, 1), np.float32)


@pytest.fixture(params=["dense", "mp", "vd"])
def zoo(request, tmp_path_factory):
    """A zoo that zoojax has trained."""
    return zoos.KINDS[request.param](tmp_path_factory)


def load(file) -> dict[str, torch.Tensor]:
    """What plain torch reads."""
    return torch.load(file, weights_only=True)


def ours(zoo, position: int, epoch: int) -> np.ndarray:
    """Logits of a member as zoojax evaluates it."""
    params = population.take(zoo.effective(epoch), position)
    run = compiled(zoo.config.shape, zoo.roster["activation"][position])
    return np.asarray(run({"params": params}, jnp.asarray(IMAGES)))


@functools.cache
def compiled(shape: models.Architecture, activation: str):
    """A network, compiled once."""
    return jax.jit(models.CNN(shape, activation).apply)


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
    zoo = zoos.pruned(tmp_path_factory)
    write_trials(zoo, tmp_path, prune_keys=True)
    for position, name in enumerate(trial_names(zoo)):
        tensors = load(tmp_path / name / "checkpoint_000002" / "checkpoints")
        module = network("mp", zoo.config.shape)
        assert list(tensors) == list(module.state_dict())
        module.load_state_dict(tensors, strict=True)
        np.testing.assert_allclose(theirs(module), ours(zoo, position, 2), atol=1e-5)
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                prune.remove(layer, "weight")
        plain = state_dict(zoo, zoo.roster["id"][position], 2)
        removed = module.state_dict()
        assert plain.keys() == removed.keys()
        assert all(torch.equal(plain[key], removed[key]) for key in plain)


def test_the_variational_keys_are_the_originals(reference, tmp_path_factory):
    file = next(reference.glob("cnn_small_usps_ard/*/checkpoint_000000/checkpoints"))
    original = load(file)
    made = state_dict(zoos.dropped_out(tmp_path_factory), 0)
    assert list(made) == list(original) == list(state(0, "vd"))
    assert {k: v.shape for k, v in made.items()} == {k: v.shape for k, v in original.items()}


def test_what_is_written_converts_back_to_the_same_zoo(zoo, tmp_path):
    write_trials(zoo, tmp_path / "trials", prune_keys=True)
    sources = from_trials(tmp_path / "trials")
    back = convert(sources, tmp_path / "back", name="back").zoo
    assert back.epochs == zoo.epochs
    trained = list(zoo.state(0))
    order = [trial_names(zoo).index(trial) for trial in back.roster["trial"]]
    for epoch in zoo.epochs:
        a, b = zoo.state(epoch), back.state(epoch)
        assert zoos.same_bits(population.take(a, np.array(order)), {k: b[k] for k in trained})
    columns = ["seed", "activation", "init", "optimizer", "learning_rate", "dropout"]
    assert back.roster.select(columns).equals(zoo.roster[order].select(columns))
    accuracies = [z.metrics.sort("epoch", "member")["test_acc"] for z in (zoo, back)]
    expected = accuracies[0].to_numpy().reshape(len(zoo.epochs), -1)[:, order]
    np.testing.assert_array_equal(accuracies[1].to_numpy(), expected.ravel())
    found = verify(back, sources, IMAGES, sample=None)
    assert found.unequal == []
    assert found.difference <= 1e-5


def test_trial_folders_say_what_they_are(zoo, tmp_path):
    write_trials(zoo, tmp_path)
    for row, name in zip(zoo.roster.iter_rows(named=True), trial_names(zoo), strict=True):
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
    zoo = zoos.dense(tmp_path_factory)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_trials(zoo, tmp_path, report=stop)
    before = {k: v for k, v in zoos.contents(tmp_path).items() if k.endswith("checkpoints")}
    assert len(before) == len(zoo)
    assert write_trials(zoo, tmp_path) == len(zoo.metrics)
    after = zoos.contents(tmp_path)
    assert {k: after[k] for k in before} == before
    assert sum(k.endswith("checkpoints") for k in after) == len(zoo.metrics)


def test_stacked_safetensors(zoo, tmp_path):
    assert write_safetensors(zoo, tmp_path, epochs=[2]) == 1
    stacked = load_file(tmp_path / "epoch_000002.safetensors")
    write_trials(zoo, tmp_path / "trials", epochs=[2], prune_keys=True)
    for position, name in enumerate(trial_names(zoo)):
        one = read_state(tmp_path / "trials" / name / "checkpoint_000002" / "checkpoints")
        assert zoos.same_bits({k: v[position] for k, v in stacked.items()}, one)
    assert pl.read_parquet(tmp_path / "members.parquet").equals(zoo.roster)
    assert pl.read_parquet(tmp_path / "metrics.parquet").equals(zoo.metrics)


def test_one_member(tmp_path_factory):
    zoo = zoos.dense(tmp_path_factory)
    tensors = state_dict(zoo, 1)
    module = CNN(zoo.config.shape, zoo.roster["activation"][1])
    module.load_state_dict(tensors, strict=True)
    np.testing.assert_allclose(theirs(module), ours(zoo, 1, zoos.EPOCHS), atol=1e-5)
    expected = layout.params_to_torch(zoo.member(1), zoo.config.shape, dropout=False)
    assert zoos.same_bits({k: v.numpy() for k, v in tensors.items()}, expected)
    first = state_dict(zoo, 1, 0)
    assert not torch.equal(first["module_list.0.weight"], tensors["module_list.0.weight"])


def test_what_is_not_there(tmp_path_factory, tmp_path):
    zoo = zoos.dense(tmp_path_factory)
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
