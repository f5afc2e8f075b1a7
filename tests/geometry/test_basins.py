"""Barriers between parents, twins and members, against a direct evaluation of midpoints."""

import jax
import numpy as np
import optax
import pytest

from tests.support import zoo_fixtures
from zoojax import ZoojaxError, geometry
from zoojax.storage.zoo_images import load_images


def test_barriers_of_parents_twins_and_pairs(tmp_path_factory):
    zoo, twin = zoo_fixtures.dense(tmp_path_factory), zoo_fixtures.pruned(tmp_path_factory)
    table = geometry.basins(zoo, twin, points=3)
    test = load_images(zoo, None).test
    module = zoo.config.shape.module("tanh", "uniform")

    @jax.jit
    def measure(params):
        outputs = module.apply({"params": params}, test.images)
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, test.labels)
        return losses.mean(), (outputs.argmax(axis=1) == test.labels).mean()

    parents, pruned = zoo.params(), twin.sparse_params()
    row = {
        (parent, ratio): i
        for i, (parent, ratio) in enumerate(
            twin.members_table.select("parent_id", "ratio").iter_rows()
        )
    }
    for found in table.filter(~table["aligned"]).iter_rows(named=True):
        ratio, target, source = found["ratio"], found["target"], found["source"]
        first = parents, target
        second = parents, source
        if found["line"] != "two dense members":
            second = pruned, row[source, ratio]
        if found["line"] == "two twins":
            first = pruned, row[target, ratio]
        ends = [jax.tree.map(lambda x, i=i: x[i], params) for params, i in (first, second)]
        middle = jax.tree.map(lambda a, b: (a + b) / 2, *ends)
        (loss_a, acc_a), (loss_b, acc_b), (loss, acc) = map(measure, (*ends, middle))
        assert found["target_loss"] == pytest.approx(float(loss_a), rel=1e-4)
        assert found["source_acc"] == pytest.approx(float(acc_b), abs=1e-6)
        loss_barrier = max(float(loss - (loss_a + loss_b) / 2), 0)
        assert found["loss_barrier"] == pytest.approx(loss_barrier, abs=1e-4)
        acc_barrier = max(float((acc_a + acc_b) / 2 - acc), 0)
        assert found["acc_barrier"] == pytest.approx(acc_barrier, abs=1e-6)
    own = table.filter(line="parent and twin")
    assert own["target"].equals(own["source"])
    assert own["ratio"].to_list() == [0.0] * 3 + [0.5] * 3 + [0.9] * 3
    assert np.isfinite(table["loss_barrier"].to_numpy()).all()
    pairs = geometry.member_pairs(zoo.members).select("target", "source").rows()
    for line in ("two dense members", "two twins"):
        found = table.filter(line=line, aligned=True)
        assert found.select("target", "source").rows()[:3] == pairs


def test_basins_refuse_other_zoos(tmp_path_factory):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    with pytest.raises(ZoojaxError, match="is not a twin of"):
        geometry.basins(zoo, zoo)
