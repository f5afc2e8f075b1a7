"""The contract of sparsifiers: every registered one, and one of a user."""

import functools

import numpy as np
import pytest
import torch

from tests.support import zoo_fixtures
from tests.support.contracts import (
    EPOCHS,
    create_twin,
    interrupted_and_resumed,
    options_of,
    twin,
)
from zoojax import Zoo
from zoojax.architectures.chain import Chain
from zoojax.architectures.parameters import kernels
from zoojax.architectures.registry import architecture
from zoojax.converters import from_torch, to_torch, verify
from zoojax.converters.layouts.networks import known_network
from zoojax.converters.layouts.torch_models import TorchChain
from zoojax.converters.zoo_to_torch import state_dict, trial_names
from zoojax.runtime import population
from zoojax.sparsifiers.dense import Dense
from zoojax.sparsifiers.registry import sparsifiers

SPARSIFIERS = [*(name for name in sparsifiers() if name != Dense.name), "moving_mask"]
# In the suite, all sparsifiers are tested on the MLP, and these also on the residual network.
TYPICAL = ("structured", "n_m", "moving_mask")
ARCHITECTURES = ("mlp-16-12", "small", "residual_cnn", "mlp")


def pairs(*, all_on_mlp: bool = True):
    """Parametrizes a test by architecture and sparsifier; most pairs are slow."""

    def pair(arch: str, name: str):
        on_mlp = arch == "mlp-16-12" and (all_on_mlp or name in TYPICAL)
        fast = on_mlp or (arch == "residual_cnn" and name in TYPICAL)
        return pytest.param(
            *(arch, name), marks=() if fast else pytest.mark.slow, id=f"{arch}-{name}"
        )

    every = [pair(arch, name) for arch in ARCHITECTURES for name in SPARSIFIERS]
    return pytest.mark.parametrize("arch, name", every)


IMAGES = np.random.default_rng(0).standard_normal((8, 28, 28, 1), np.float32)


def rows_of_first_parent(zoo: Zoo) -> np.ndarray:
    parents = zoo.members_table["parent_id"].to_numpy()
    return np.flatnonzero(parents == parents[0])


@pairs()
def test_sparsity_is_that_of_the_weights(tmp_path_factory, arch, name):
    """Pruned weights are exactly zero, at every epoch, and counted in the metrics."""
    zoo = twin(tmp_path_factory, arch, name)
    assert zoo.config.sparsifier == options_of(name).shared()
    assert zoo.epochs == list(range(EPOCHS + 1))
    assert zoo.metrics["finite"].all()
    for epoch in zoo.epochs:
        weights = kernels(zoo.sparse_params(epoch))
        for layer, mask in zoo.state(epoch).get("mask", {}).items():
            assert (weights[layer][~mask] == 0).all()
        metrics = zoo.metrics.filter(epoch=epoch)
        for layer, w in weights.items():
            fraction = (w == 0).reshape(len(zoo), -1).mean(1)
            np.testing.assert_allclose(metrics[f"sparsity_{layer}"], fraction, atol=1e-6)
        zeros = sum((w == 0).reshape(len(zoo), -1).sum(1) for w in weights.values())
        count = sum(w[0].size for w in weights.values())
        np.testing.assert_allclose(metrics["sparsity"], zeros / count, atol=1e-6)
    if zoo.config.sparsifier.sweep == "ratio":
        # Whole units are pruned, and fewer weights of groups that are not full.
        final = zoo.metrics.filter(epoch=EPOCHS)["sparsity"].to_numpy()
        assert (final > zoo.members_table["ratio"].to_numpy() - 0.05).all()


@pairs(all_on_mlp=False)
def test_killed_and_resumed_in_several_chunks(tmp_path_factory, tmp_path, arch, name):
    create = functools.partial(create_twin, tmp_path_factory, arch, name)
    resumed = interrupted_and_resumed(tmp_path / "twin", create)
    zoo_fixtures.assert_same_zoo(resumed, twin(tmp_path_factory, arch, name))


@pairs(all_on_mlp=False)
def test_members_do_not_depend_on_their_neighbors(tmp_path_factory, tmp_path, arch, name):
    """The first parent alone, killed and resumed in one chunk, gives the same bits."""
    whole = twin(tmp_path_factory, arch, name)
    create = functools.partial(create_twin, tmp_path_factory, arch, name, members=1)
    alone = interrupted_and_resumed(tmp_path / "twin", create)
    rows = rows_of_first_parent(whole)
    assert len(alone) == len(rows) < len(whole)
    for epoch in whole.epochs:
        expected = population.take(whole.state(epoch), rows)
        assert zoo_fixtures.same_bits(alone.state(epoch), expected), epoch
    shared = [column for column in alone.metrics.columns if not column.startswith("time")]
    first = whole.metrics.filter(whole.metrics["member"].is_in(alone.members["id"].to_list()))
    assert alone.metrics.select(shared).equals(first.select(shared))


@pairs()
def test_torch_and_back(tmp_path_factory, tmp_path, arch, name):
    """Members load strictly into torch's networks, and come back with the same weights."""
    network = architecture(arch, 1)
    if not isinstance(network, Chain):
        pytest.skip("no torch layout is known for this architecture")
    zoo = twin(tmp_path_factory, arch, name)
    variational = "log_sigma2" in zoo.state(0)
    logits = zoo.apply(IMAGES)
    for row, member in enumerate(zoo.members["id"]):
        module = TorchChain(known_network(network), "tanh", variational=variational)
        module.load_state_dict(state_dict(zoo, member), strict=True)
        if not variational:
            assert_logits(module, logits[row])
    trials, back = tmp_path / "trials", tmp_path / "back"
    to_torch(zoo, trials, format="prune", quiet=True)
    converted = from_torch(trials, back, quiet=True).zoo
    names = converted.members_table["trial"].to_list()
    order = np.array([names.index(trial) for trial in trial_names(zoo)])
    for epoch in zoo.epochs:
        weights = population.take(converted.sparse_params(epoch), order)
        assert zoo_fixtures.same_bits(weights, zoo.sparse_params(epoch)), epoch
    assert verify(converted, trials, images=4, quiet=True).difference <= 1e-5


def assert_logits(module: torch.nn.Module, expected: np.ndarray) -> None:
    with torch.no_grad():
        actual = module.eval()(torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-5)
