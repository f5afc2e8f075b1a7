"""Overlap of masks: against sets, simulated chance, and planted permutations."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import zoo_fixtures
from zoojax import ZoojaxError, geometry
from zoojax.geometry.matched_pairs import aligned_tree


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.9))
def test_iou_is_that_of_sets(seed, density):
    generator = np.random.default_rng(seed)
    one, other = (
        {"a": generator.random((3, 4, 5)) < density, "b": generator.random((3, 2)) < density}
        for _ in range(2)
    )
    for i, found in enumerate(geometry.mask_iou(one, other)):
        kept = [{(path, k) for path in m for k in np.flatnonzero(m[path][i])} for m in (one, other)]
        if kept[0] | kept[1]:
            assert found == pytest.approx(len(kept[0] & kept[1]) / len(kept[0] | kept[1]))
        else:
            assert np.isnan(found)


def test_chance_is_the_mean_of_independent_masks():
    """Counts that differ between layers and masks: 20,000 draws of small layers."""
    generator = np.random.default_rng(0)

    def draws(size, kept):
        order = np.argsort(generator.random((20_000, size)), axis=1)
        return order < kept

    one = {"a": draws(30, 10), "b": draws(12, 2)}
    other = {"a": draws(30, 14), "b": draws(12, 9)}
    simulated = geometry.mask_iou(one, other).mean()
    chance = geometry.chance_iou(one, other)
    assert np.ptp(chance) == 0
    assert chance[0] == pytest.approx(simulated, abs=2e-3)
    # The plug-in formula, without the second order, would be further off.
    assert geometry.chance_iou({"a": one["a"]}, {"a": one["a"]})[0] > 1 / 5


def test_pairs_have_different_seeds_and_each_member_once():
    table = pl.DataFrame(
        {
            "id": [5, 6, 7, 8, 9, 10],
            "seed": [1, 1, 2, 2, 3, 9],
            "activation": ["tanh"] * 5 + ["relu"],
        }
    )
    pairs = geometry.member_pairs(table)
    assert pairs["target"].to_list() == [5, 6, 7, 8, 9]
    assert sorted(pairs["source"].to_list()) == [5, 6, 7, 8, 9]
    seeds = dict(table.select("id", "seed").iter_rows())
    assert all(seeds[source] != seeds[target] for source, target in pairs.iter_rows())
    with pytest.raises(ZoojaxError, match="two or more members"):
        geometry.member_pairs(table.tail(2))


def test_overlap_of_members(tmp_path_factory):
    zoo, twin = zoo_fixtures.dense(tmp_path_factory), zoo_fixtures.pruned(tmp_path_factory)
    table = geometry.mask_overlap(zoo, twin)
    assert table["ratio"].to_list() == [0.0] * 3 + [0.5] * 3 + [0.9] * 3
    # Without pruning, all masks are full.
    unpruned = table.filter(ratio=0.0).select("iou", "aligned", "chance", "shuffled")
    assert unpruned.to_numpy().tolist() == [[1.0] * 4] * 3
    weights = sum(leaves["kernel"][0].size for leaves in zoo.params().values())
    half = table.filter(ratio=0.5)
    np.testing.assert_allclose(half["sparsity"], round(weights / 2) / weights)
    masks = {path: leaves["kernel"] != 0 for path, leaves in twin.sparse_params().items()}
    rows = twin.members_table.with_row_index("row").filter(ratio=0.5)
    row = dict(rows.select("parent_id", "row").iter_rows())
    for source, target, iou in half.select("source", "target", "iou").iter_rows():
        one, other = ({p: m[row[i]][None] for p, m in masks.items()} for i in (source, target))
        assert iou == geometry.mask_iou(one, other)[0]


def test_permuted_copies_overlap_after_alignment(tmp_path_factory):
    """Members that are permuted copies of the first have the same masks once aligned."""
    zoo = zoo_fixtures.dense(tmp_path_factory)
    members = geometry.members_at(zoo)
    arch, generator = zoo.config.shape, np.random.default_rng(3)
    orders = tuple(
        np.stack([generator.permutation(units) for _ in range(3)])
        for units in arch.permuted_units()
    )
    identity = geometry.Transform.identity(arch.permuted_units(), 3)
    planted = geometry.Transform(orders, identity.factors)
    kernels = {path: np.abs(x["kernel"]) > 0.1 for path, x in members.params.items()}
    pairs = pl.DataFrame({"source": [0, 1, 2], "target": [0, 1, 2]})
    moved = aligned_tree(
        members, pairs, planted.moved(arch, members.params), planted.moved(arch, kernels)
    )
    assert geometry.mask_iou(moved, kernels).tolist() == [1, 1, 1]
    assert (geometry.mask_iou(planted.moved(arch, kernels), kernels) < 0.9).all()


def test_overlap_refuses_other_zoos(tmp_path_factory):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    with pytest.raises(ZoojaxError, match="is not a twin of"):
        geometry.mask_overlap(zoo, zoo)
