"""Conversion of every network, layer numbering and sparsifier."""

import numpy as np
import pytest
import torch

from tests.support.conversions import (
    assert_round_trip,
    assert_verified,
    converted,
    load_tensors,
)
from tests.support.torch_zoos import (
    SMALL,
    checkpoint,
    config,
    state,
    trials,
    write_trial,
    write_zoo,
)
from tests.support.zoo_fixtures import same_bits
from zoojax.architectures.cnn import large_cnn, small_cnn
from zoojax.architectures.registry import architecture
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.variational_dropout import VariationalDropout


@pytest.mark.parametrize("dropouts", [(0.0,), (0.1,), (0.0, 0.1)], ids=["0-3-6", "0-4-8", "mixed"])
@pytest.mark.parametrize(
    "net",
    [SMALL, small_cnn(3, 10), large_cnn(3, 10), architecture("small", 1, 26)],
    ids=["small-1", "small-3", "large-3", "26-classes"],
)
def test_layer_numberings_round_trip(tmp_path, net, dropouts):
    root = write_zoo(tmp_path / "root", net=net, dropouts=dropouts, epochs=[0])
    zoo = converted(root, tmp_path / "zoo").zoo
    assert zoo.config.shape == net
    assert assert_round_trip(zoo, root, tmp_path / "back") == 2
    shape = (2, net.size, net.size, net.channels)
    assert_verified(zoo, root, np.ones(shape, np.float32))


@pytest.mark.parametrize("kind, sparsifier", [
    ("mp", MagnitudePruning(ratios=(), scope="global")),
    ("vd", VariationalDropout("released")),
    ("corrected", VariationalDropout("corrected")),
])  # fmt: skip
def test_sparsifiers_of_twins(tmp_path, kind, sparsifier):
    root = write_zoo(tmp_path / "root", kind=kind, epochs=[0], dropouts=(0.0, 0.1))
    zoo = converted(root, tmp_path / "zoo").zoo
    assert zoo.config.sparsifier == sparsifier
    assert same_bits(zoo.metrics["sparsity"].to_numpy(), sparsities(zoo))
    assert assert_round_trip(zoo, root, tmp_path / "back", kind == "mp") == 2
    assert_verified(zoo, root)


def sparsities(zoo) -> np.ndarray:
    """Fraction of the weights that are zero in evaluation, by member."""
    kernels = [layer["kernel"].reshape(len(zoo), -1) for layer in zoo.sparse_params(0).values()]
    return (np.concatenate(kernels, axis=1) == 0).mean(axis=1).astype(np.float32)


def test_weights_under_a_mask_are_stored_but_not_evaluated(tmp_path):
    root = write_zoo(tmp_path / "root", kind="mp", epochs=[0])
    zoo = converted(root, tmp_path / "zoo").zoo
    raw, params = zoo.state(0, raw=True), zoo.params(0)
    for layer, mask in raw["mask"].items():
        kernel = raw["params"][layer]["kernel"]
        assert (kernel[~mask] != 0).any()
        assert same_bits(params[layer]["kernel"], np.where(mask, kernel, np.float32(0)))
    assert zoo.members_table["ratio"].to_list() == [0.5, 0.5]
    np.testing.assert_allclose(zoo.metrics["sparsity"], 0.5, atol=1e-3)


def test_unused_log_sigma2_bias_round_trips(tmp_path):
    root = write_zoo(tmp_path / "root", kind="vd", epochs=[0])
    for folder in trials(root):
        tensors = load_tensors(checkpoint(folder, 0))
        tensors["module_list.9.log_sigma2_bias"][0] = float("nan")
        torch.save(tensors, checkpoint(folder, 0))
    done = converted(root, tmp_path / "zoo")
    assert done.rejected == {}
    assert set(done.zoo.state(0, raw=True)["unused"]) == {"fc1", "fc2"}
    assert_round_trip(done.zoo, root, tmp_path / "back")


def test_network_in_params_json_is_ignored(tmp_path):
    wrong = {"model::o_dim": 50, "model::channels_in": 3, "model::use_bias": False}
    write_trial(tmp_path / "root", 1, {0: state(1)}, config(1, **wrong))
    zoo = converted(tmp_path / "root", tmp_path / "zoo").zoo
    assert (zoo.config.classes, zoo.config.channels) == (10, 1)
    assert_verified(zoo, tmp_path / "root")
