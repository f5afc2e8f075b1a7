"""Export of zoos that zoojax has trained: loadable by torch, in the original layout, lossless."""

import functools
import json
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from torch import nn
from torch.nn.utils import prune

from tests.support import zoo_fixtures
from tests.support.conversions import load_tensors, write_safetensors
from tests.support.torch_models import params_to_torch
from tests.support.torch_zoos import network, state
from zoojax import VariationalDropout, sparsify
from zoojax.architectures.base import Architecture
from zoojax.architectures.parameters import apply_mask, kernels
from zoojax.converters.checkpoint_files import read_state
from zoojax.converters.layouts.networks import known_network
from zoojax.converters.layouts.torch_models import TorchChain
from zoojax.converters.sources import from_trials
from zoojax.converters.torch_to_zoo import convert
from zoojax.converters.verification import verify
from zoojax.converters.zoo_to_torch import (
    state_dict,
    trial_names,
    write_trials,
)
from zoojax.errors import ZoojaxError
from zoojax.hyper_representation.dataset import has_log_alphas
from zoojax.runtime import population
from zoojax.sparsifiers import registry
from zoojax.sparsifiers.base import Sparsifier
from zoojax.storage.writer import create_or_resume

IMAGES = np.random.default_rng(0).standard_normal((5, 28, 28, 1), np.float32)


@pytest.fixture(params=["dense", "mp", "vd"])
def zoo(request, tmp_path_factory):
    """A zoo that zoojax has trained."""
    return zoo_fixtures.KINDS[request.param](tmp_path_factory)


def zoojax_logits(zoo, position: int, epoch: int) -> np.ndarray:
    """Logits of a member as zoojax evaluates it."""
    params = population.take(zoo.sparse_params(epoch), position)
    run = compiled_network(zoo.config.shape, zoo.members_table["activation"][position])
    return np.asarray(run({"params": params}, jnp.asarray(IMAGES)))


@functools.cache
def compiled_network(shape: Architecture, activation: str):
    """A network that is compiled once."""
    return jax.jit(shape.module(activation, "uniform").apply)


def torch_logits(module: nn.Module) -> np.ndarray:
    """Logits of a torch network."""
    with torch.no_grad():
        return module.eval()(torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).copy())).numpy()


def test_states_load_strictly_and_have_the_same_logits(zoo, tmp_path):
    assert write_trials(zoo, tmp_path) == len(zoo.metrics)
    kind = "dense" if zoo.config.sparsifier.method == "mp" else zoo.config.sparsifier.method
    for position, name in enumerate(trial_names(zoo)):
        for epoch in zoo.epochs:
            tensors = load_tensors(tmp_path / name / f"checkpoint_{epoch:06d}" / "checkpoints")
            module = network(kind, zoo.config.shape)
            assert list(tensors) == list(module.state_dict())
            module.load_state_dict(tensors, strict=True)
            if kind == "dense":
                difference = np.abs(
                    torch_logits(module) - zoojax_logits(zoo, position, epoch)
                ).max()
                assert difference <= 1e-5


def test_masks_load_into_torch_pruning(tmp_path_factory, tmp_path):
    zoo = zoo_fixtures.pruned(tmp_path_factory)
    write_trials(zoo, tmp_path, keep_masks=True)
    for position, name in enumerate(trial_names(zoo)):
        tensors = load_tensors(tmp_path / name / "checkpoint_000002" / "checkpoints")
        module = network("mp", known_network(zoo.config.shape))
        assert list(tensors) == list(module.state_dict())
        module.load_state_dict(tensors, strict=True)
        np.testing.assert_allclose(torch_logits(module), zoojax_logits(zoo, position, 2), atol=1e-5)
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                prune.remove(layer, "weight")
        plain = state_dict(zoo, zoo.members_table["id"][position], 2)
        removed = module.state_dict()
        assert plain.keys() == removed.keys()
        assert all(torch.equal(plain[key], removed[key]) for key in plain)


def test_variational_keys_match_the_original_code(reference, tmp_path_factory):
    file = next(reference.glob("cnn_small_usps_ard/*/checkpoint_000000/checkpoints"))
    original = load_tensors(file)
    exported = state_dict(zoo_fixtures.variational_dropout(tmp_path_factory), 0)
    assert list(exported) == list(original) == list(state(0, "vd"))
    assert {k: v.shape for k, v in exported.items()} == {k: v.shape for k, v in original.items()}


def test_exported_zoo_converts_back_to_the_same_zoo(zoo, tmp_path):
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
    result = verify(back, sources, IMAGES, sample=None)
    assert result.unequal == []
    assert result.difference <= 1e-5


def test_configs_and_reports_of_trial_folders(zoo, tmp_path):
    write_trials(zoo, tmp_path)
    for row, name in zip(zoo.members_table.iter_rows(named=True), trial_names(zoo), strict=True):
        params = json.loads((tmp_path / name / "params.json").read_text())
        assert params["seed"] == row["seed"]
        assert params["optim::lr"] == row["learning_rate"]
        assert params["model::o_dim"] == zoo.config.classes
        assert params["model::type"] == (
            "CNN_ARD" if zoo.config.sparsifier.method == "vd" else "CNN"
        )
        assert params.get("prune::amount") == row.get("ratio")
        lines = (tmp_path / name / "result.json").read_text().splitlines()
        metrics = zoo.metrics.filter(pl.col("member") == row["id"]).sort("epoch")
        reported = [json.loads(line) for line in lines]
        assert [r["training_iteration"] for r in reported] == zoo.epochs
        assert [r["test_acc"] for r in reported] == metrics["test_acc"].to_list()
        assert all(r["config"] == params for r in reported)


def test_complete_files_are_not_written_again(tmp_path_factory, tmp_path):
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
    file = tmp_path / "epoch_000002.safetensors"
    with safe_open(file, "np") as content:
        assert content.metadata()["kind"] == zoo.config.sparsifier.method
    stacked = load_file(file)
    write_trials(zoo, tmp_path / "trials", epochs=[2], keep_masks=True)
    for position, name in enumerate(trial_names(zoo)):
        single = read_state(tmp_path / "trials" / name / "checkpoint_000002" / "checkpoints")
        assert zoo_fixtures.same_bits({k: v[position] for k, v in stacked.items()}, dict(single))
    assert pl.read_parquet(tmp_path / "members.parquet").equals(zoo.members_table)
    assert pl.read_parquet(tmp_path / "metrics.parquet").equals(zoo.metrics)


def test_state_dict_of_one_member(tmp_path_factory):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    tensors = state_dict(zoo, 1)
    module = TorchChain(known_network(zoo.config.shape), zoo.members_table["activation"][1])
    module.load_state_dict(tensors, strict=True)
    np.testing.assert_allclose(
        torch_logits(module), zoojax_logits(zoo, 1, zoo_fixtures.EPOCHS), atol=1e-5
    )
    expected = params_to_torch(zoo.member(1), zoo.config.shape, dropout=False)
    assert zoo_fixtures.same_bits({k: v.numpy() for k, v in tensors.items()}, expected)
    first = state_dict(zoo, 1, 0)
    assert not torch.equal(first["module_list.0.weight"], tensors["module_list.0.weight"])


@dataclass(frozen=True)
class Halved(Sparsifier):
    """Stores only parameters, and evaluates members with half of them."""

    name: ClassVar = "halved"
    label: ClassVar = "halved"
    short: ClassVar = "HA"
    color: ClassVar = "#CC79A7"

    def effective(self, trainable, fixed):
        return jax.tree.map(lambda x: x / 2, trainable["params"])


@dataclass(frozen=True)
class HalvedAndMasked(Halved):
    """Stores parameters and a mask."""

    def init(self, params, values):
        return {"params": params}, {"mask": {layer: w > 0 for layer, w in kernels(params).items()}}

    def effective(self, trainable, fixed):
        return apply_mask(super().effective(trainable, fixed), fixed["mask"])


@pytest.mark.parametrize("sparsifier", [Halved(), HalvedAndMasked()], ids=["params", "mask"])
def test_sparsifier_without_layout_is_written_as_it_is_evaluated(
    tmp_path_factory, tmp_path, monkeypatch, sparsifier
):
    """With plain weights, and with torch's masks if it has some."""
    monkeypatch.setitem(registry._registered, sparsifier.name, type(sparsifier))
    dense = zoo_fixtures.dense(tmp_path_factory)
    config = replace(dense.config, sparsifier=sparsifier)
    trainable, fixed = sparsifier.init(dense.params(0), {})
    with create_or_resume(tmp_path / "twin", config, dense.members_table) as writer:
        writer.append(0, {**trainable, **fixed}, None, dense.metrics.filter(pl.col("epoch") == 0))
    twin, masked = writer.zoo, bool(fixed)
    net = known_network(twin.config.shape)
    module = network("dense", net)
    module.load_state_dict(state_dict(twin, 1), strict=True)
    expected = zoojax_logits(twin, 1, 0)
    np.testing.assert_allclose(torch_logits(module), expected, atol=1e-5)
    write_trials(twin, tmp_path / "prune", keep_masks=True)
    module = network("mp" if masked else "dense", net)
    file = tmp_path / "prune" / trial_names(twin)[1] / "checkpoint_000000" / "checkpoints"
    module.load_state_dict(load_tensors(file), strict=True)
    np.testing.assert_allclose(torch_logits(module), expected, atol=1e-5)
    # Weights under the mask are kept.
    assert not masked or (load_tensors(file)["module_list.0.weight_orig"] != 0).all()
    back = convert(from_trials(tmp_path / "prune"), tmp_path / "back", name="back").zoo
    assert back.config.sparsifier.name == ("magnitude_pruning" if masked else "dense")
    position = back.members_table["trial"].to_list().index(trial_names(twin)[1])
    actual, stored = (
        population.take(z.sparse_params(0), p) for z, p in ((back, position), (twin, 1))
    )
    assert zoo_fixtures.same_bits(actual, stored)


def test_another_threshold_is_applied_before_writing(tmp_path_factory):
    """Torch files do not name it."""
    dense = zoo_fixtures.dense(tmp_path_factory)
    twin = sparsify(dense, VariationalDropout(threshold=-4.0), epochs=0, quiet=True)
    tensors = state_dict(twin, 1)
    module = network("dense", known_network(twin.config.shape))
    module.load_state_dict(tensors, strict=True)
    assert 0.05 < (tensors["module_list.0.weight"] == 0).float().mean() < 0.95
    np.testing.assert_allclose(torch_logits(module), zoojax_logits(twin, 1, 0), atol=1e-5)
    assert not has_log_alphas(twin.config)
    assert has_log_alphas(zoo_fixtures.variational_dropout(tmp_path_factory).config)


def test_missing_members_epochs_and_folders(tmp_path_factory, tmp_path):
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
