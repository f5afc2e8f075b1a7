"""Sparse twins: initial states, options, and what is refused."""

import functools
from typing import Any

import numpy as np
import pytest

from tests.support import zoo_fixtures
from zoojax import (
    ZoojaxError,
    open_zoo,
)
from zoojax.runtime import population
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.variational_dropout import VariationalDropout

TWIN: dict[str, Any] = {"epochs": 1, "chunk": zoo_fixtures.CHUNK}


def test_pruned_twin(tmp_path_factory, dense):
    """Also at ratio 0, which prunes nothing: epoch 0 equals the parent."""
    twin = zoo_fixtures.pruned(tmp_path_factory)
    assert twin.members_table["ratio"].to_list() == [0.0, 0.5, 0.9] * 3
    assert twin.members_table["seed"].to_list() == sorted([1, 2, 3] * 3)
    parent = population.take(dense.params(), np.repeat(np.arange(3), 3))
    num_weights = 2416
    for epoch in twin.epochs:
        state = twin.state(epoch)
        assert zoo_fixtures.same_bits(state["mask"], twin.state(0)["mask"])
        num_kept = np.zeros(9, int)
        for layer, mask in state["mask"].items():
            kernel = state["params"][layer]["kernel"]
            assert (kernel[~mask] == 0).all()
            assert (kernel[mask] != 0).all()
            num_kept += mask.reshape(9, -1).sum(1)
            if epoch == 0:
                np.testing.assert_array_equal(kernel, np.where(mask, parent[layer]["kernel"], 0.0))
                assert zoo_fixtures.same_bits(state["params"][layer]["bias"], parent[layer]["bias"])
        pruned = [0, round(0.5 * num_weights), round(0.9 * num_weights)] * 3
        assert (num_weights - num_kept).tolist() == pruned
        sparsity = twin.metrics.filter(epoch=epoch)["sparsity"].to_numpy()
        np.testing.assert_allclose(sparsity, np.array(pruned) / num_weights, rtol=1e-6)
    layers = [k.reshape(9, -1) for k in (np.abs(parent[x]["kernel"]) for x in sorted(parent))]
    masks = [twin.state(0)["mask"][x].reshape(9, -1) for x in sorted(parent)]
    magnitudes, kept = np.concatenate(layers, 1), np.concatenate(masks, 1)
    for i in range(9):
        if not kept[i].all():
            assert magnitudes[i][~kept[i]].max() <= magnitudes[i][kept[i]].min()


def test_pruning_by_layer(dense, tmp_path):
    twin = zoo_fixtures.prune(
        tmp_path / "mp", dense, [0.5], scope="layer", epochs=0, chunk=zoo_fixtures.CHUNK
    )
    assert twin.config.sparsifier == MagnitudePruning((), "layer")
    for column in twin.metrics.select("^sparsity.*$"):
        assert column.to_list() == [0.5] * 3


def test_variational_dropout_twin(tmp_path_factory, dense):
    """Starts as its parent, with each log sigma squared at -10."""
    twin = zoo_fixtures.variational_dropout(tmp_path_factory)
    state = twin.state(0)
    assert zoo_fixtures.same_bits(state["params"], dense.params())
    variational = {k: sorted(v) for k, v in state["log_sigma2"].items()}
    conv, fc = ["bias", "kernel"], ["kernel"]
    assert variational == {"conv1": conv, "conv2": conv, "conv3": conv, "fc1": fc, "fc2": fc}
    for layer, leaves in state["log_sigma2"].items():
        for name, leaf in leaves.items():
            assert leaf.shape == state["params"][layer][name].shape
            assert (leaf == -10).all()
    assert not zoo_fixtures.same_bits(twin.state(2)["log_sigma2"], state["log_sigma2"])
    assert twin.config.sparsifier == VariationalDropout("released")


def test_corrected_variant_has_no_variational_bias(dense, tmp_path):
    twin = zoo_fixtures.train_variational(
        tmp_path / "vd", dense, variant="corrected", epochs=0, chunk=zoo_fixtures.CHUNK
    )
    assert {tuple(v) for v in twin.state()["log_sigma2"].values()} == {("kernel",)}


def test_learning_rate_of_twins(dense, tmp_path):
    for make in (
        zoo_fixtures.train_variational,
        lambda out, zoo, **o: zoo_fixtures.prune(out, zoo, [0.5], **o),
    ):
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        own = make(out, dense, epochs=0, chunk=zoo_fixtures.CHUNK)
        assert own.members_table["learning_rate"].to_list() == [1e-2] * 3
        other = make(out.with_name(f"{out.name}-b"), dense, learning_rate=5e-6, epochs=0, chunk=4)
        assert other.members_table["learning_rate"].to_list() == [5e-6] * 3
        for rate in (0.0, -1.0, float("nan")):
            with pytest.raises(ZoojaxError, match="learning rate"):
                make(tmp_path / "c", dense, learning_rate=rate)


def test_twin_of_an_earlier_epoch(dense, tmp_path):
    twin = zoo_fixtures.train_variational(
        tmp_path / "vd", dense, epoch=1, epochs=0, chunk=zoo_fixtures.CHUNK
    )
    assert twin.config.parent is not None
    assert twin.config.parent.epoch == 1
    assert zoo_fixtures.same_bits(twin.params(), dense.params(1))
    with pytest.raises(ZoojaxError, match="no epoch 9"):
        zoo_fixtures.train_variational(tmp_path / "other", dense, epoch=9)


def test_twin_of_the_first_members(tmp_path_factory, dense, tmp_path):
    """Its members equal those of the twin of all members."""
    prune = functools.partial(zoo_fixtures.prune, ratios=[0.0, 0.5, 0.9])
    for make, full_twin, rows in (
        (zoo_fixtures.train_variational, zoo_fixtures.variational_dropout(tmp_path_factory), 2),
        (prune, zoo_fixtures.pruned(tmp_path_factory), 6),
    ):
        out = tmp_path / full_twin.config.sparsifier.method
        twin = make(out, dense, members=2, epochs=1, chunk=zoo_fixtures.CHUNK)
        assert twin.members_table["parent_id"].unique().to_list() == [0, 1]
        assert zoo_fixtures.same_bits(
            twin.state(1), population.take(full_twin.state(1), np.s_[:rows])
        )
        for members in (0, 4):
            with pytest.raises(ZoojaxError, match=f"{members} members requested; .* has 3"):
                make(tmp_path / "other", dense, members=members)


@pytest.mark.parametrize("kind", ["mp", "vd"])
def test_twin_of_a_twin_is_refused(tmp_path_factory, tmp_path, kind):
    twin = zoo_fixtures.KINDS[kind](tmp_path_factory)
    with pytest.raises(ZoojaxError, match=f"{twin.path} is itself a twin"):
        zoo_fixtures.prune(tmp_path / "a", twin, [0.5])
    with pytest.raises(ZoojaxError, match=f"{twin.path} is itself a twin"):
        zoo_fixtures.train_variational(tmp_path / "b", twin)
    assert not list(tmp_path.iterdir())


def test_incomplete_parent_needs_an_explicit_epoch(dense, tmp_path):
    path = zoo_fixtures.copied(dense, tmp_path / "dense")
    file = path / "zoo.json"
    file.write_text(file.read_text().replace('"epochs": 2', '"epochs": 3'))
    parent = open_zoo(path)
    assert parent.config.epochs == 3
    for make in (
        zoo_fixtures.train_variational,
        lambda out, zoo, **o: zoo_fixtures.prune(out, zoo, [0.5], **o),
    ):
        with pytest.raises(ZoojaxError, match=r"epoch 2 of 3.*--epoch 2"):
            make(tmp_path / "twin", parent, **TWIN)
    assert not (tmp_path / "twin").exists()
    twin = zoo_fixtures.train_variational(
        tmp_path / "twin", parent, epoch=2, epochs=0, chunk=zoo_fixtures.CHUNK
    )
    assert zoo_fixtures.same_bits(twin.params(), dense.params(2))


def test_images_other_than_the_parents_are_refused(dense, tmp_path_factory, tmp_path):
    """Even at the same path: their hash differs."""
    path = zoo_fixtures.copied(dense, tmp_path / "dense")
    file, name = path / "zoo.json", str(zoo_fixtures.images(tmp_path_factory))
    file.write_text(
        file.read_text().replace(name, str(zoo_fixtures.other_images(tmp_path_factory)))
    )
    with pytest.raises(ZoojaxError, match=r"other\.npz contains different images"):
        zoo_fixtures.prune(tmp_path / "mp", open_zoo(path), [0.5], **TWIN)
    with pytest.raises(ZoojaxError, match=r"other\.npz contains different images"):
        zoo_fixtures.train_variational(tmp_path / "vd", open_zoo(path), **TWIN)


@pytest.mark.parametrize(
    ("ratios", "options", "message"),
    [
        ([], {}, "ratios"),
        ([0.5, 0.5], {}, "each once"),
        ([0.5, 1.0], {}, "pruning ratio 1 "),
        ([-0.1], {}, "pruning ratio -0.1"),
        ([float("nan")], {}, "pruning ratio nan"),
        ([0.5], {"scope": "channel"}, "no pruning scope named 'channel'"),
        ([0.5], {"epochs": -1}, "-1 epochs"),
        ([0.5], {"chunk": 0}, "chunk 0"),
    ],
)
def test_invalid_pruning_arguments(dense, tmp_path, ratios, options, message):
    with pytest.raises(ZoojaxError, match=message):
        zoo_fixtures.prune(tmp_path / "mp", dense, ratios, **options)
    assert not list(tmp_path.iterdir())


def test_unknown_variant(dense, tmp_path):
    with pytest.raises(ZoojaxError, match="no variant named 'improved'"):
        zoo_fixtures.train_variational(tmp_path / "vd", dense, variant="improved")
    assert not list(tmp_path.iterdir())
