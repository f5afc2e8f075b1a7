"""Mask transfer: the masks of the twins, their counts, resumption, and refusals."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from tests.support import zoo_fixtures
from zoojax import MagnitudePruning, ZoojaxError, geometry, sparsify
from zoojax.geometry import transfer

RATIOS = (0.5, 0.9)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    return zoo_fixtures.dense(tmp_path_factory)


@pytest.fixture(scope="module")
def twin(zoo):
    return sparsify(zoo, MagnitudePruning(RATIOS), epochs=1, quiet=True)


@pytest.fixture(scope="module")
def transferred(zoo, twin, tmp_path_factory):
    return geometry.transfer_masks(
        zoo, twin, tmp_path_factory.mktemp("transfer"), epochs=1, quiet=True
    )


def masks(zoo, ratio):
    """Masks of the weights by parent."""
    rows = zoo.members_table.with_row_index("row").filter(ratio=ratio)
    params = zoo.sparse_params()
    return {
        parent: {path: leaves["kernel"][row] != 0 for path, leaves in params.items()}
        for parent, row in rows.select("parent_id", "row").iter_rows()
    }


@pytest.mark.parametrize("ratio", RATIOS)
def test_masks_are_those_of_the_sources(zoo, twin, transferred, ratio):
    own, pairs = masks(twin, ratio), geometry.member_pairs(zoo.members)
    found = {way: masks(each, ratio) for way, each in transferred.items()}
    for source, target in pairs.iter_rows():
        for path, mask in own[source].items():
            unaligned = found["unaligned"][target][path]
            assert np.array_equal(unaligned, mask)
            # Alignment and shuffling keep the counts of the layers.
            for way in ("aligned", "random"):
                assert found[way][target][path].sum() == mask.sum()
        moved = [
            not np.array_equal(found["random"][target][path], mask)
            for path, mask in own[source].items()
            if 0 < mask.sum() < mask.size
        ]
        assert moved and all(moved)
    overlap = geometry.mask_overlap(zoo, twin).filter(ratio=ratio)
    for target, iou in overlap.select("target", "aligned").iter_rows():
        one, other = (
            {path: m[None] for path, m in each.items()}
            for each in (found["aligned"][target], own[target])
        )
        assert geometry.mask_iou(one, other)[0] == pytest.approx(iou)


def test_random_masks_are_nested_and_differ_between_members(transferred):
    at_half, at_most = (masks(transferred["random"], ratio) for ratio in RATIOS)
    for target, mask in at_most.items():
        assert all((~at_half[target][path] & kept).sum() == 0 for path, kept in mask.items())
    layers = [mask["conv2"] for mask in at_half.values()]
    assert not np.array_equal(layers[0], layers[1])


def test_twins_are_trained_like_the_one_whose_masks_are_used(zoo, twin, transferred):
    for way, each in transferred.items():
        assert each.config.parent is not None and twin.config.parent is not None
        assert each.config.parent.epoch == twin.config.parent.epoch
        assert each.config.origin.endswith(way)
        assert each.members_table["learning_rate"].equals(twin.members_table["learning_rate"])
        assert each.epochs == twin.epochs


def test_own_masks_give_the_same_twin(zoo, twin):
    """A transfer from a member to itself is the twin, bit for bit."""
    pruned = geometry.members_at(twin)
    _, levels = transfer.mask_levels(twin, pruned)
    scores = {path: np.stack([levels[i][path] for i in levels]) for path in levels[0]}
    again = sparsify(
        zoo,
        MagnitudePruning(RATIOS),
        epochs=1,
        quiet=True,
        scores=lambda params: scores,
        origin="its own masks",
    )
    assert zoo_fixtures.same_bits(again.state(1), twin.state(1))


def test_a_finished_transfer_is_opened_again(zoo, twin, transferred):
    folder = transferred["aligned"].path.parent
    before = zoo_fixtures.contents(folder)
    again = geometry.transfer_masks(zoo, twin, folder, epochs=1, quiet=True)
    assert {way: z.fingerprint for way, z in again.items()} == {
        way: z.fingerprint for way, z in transferred.items()
    }
    assert zoo_fixtures.contents(folder) == before


def test_table(zoo, twin, transferred):
    table = geometry.transfer_table(zoo, twin, transferred)
    assert len(table) == 3 * len(RATIOS) * 2 * 4
    assert table.columns == ["target", "ratio", "epoch", "mask", "test_acc", "dense_acc"]
    own = table.filter(mask="own", epoch=1, ratio=0.5).sort("target")
    expected = (
        twin.metrics.filter(epoch=1)
        .join(twin.members_table, left_on="member", right_on="id")
        .filter(ratio=0.5)
        .sort("parent_id")
    )
    assert own["test_acc"].equals(expected["test_acc"])


def test_some_members(zoo, twin):
    found = geometry.transfer_masks(
        zoo, twin, ways=("unaligned",), members=[0, 2], epochs=0, quiet=True
    )
    table = found["unaligned"].members_table
    assert table["parent_id"].to_list() == [0, 0, 2, 2]


def test_scope_layer(zoo):
    layerwise = sparsify(zoo, MagnitudePruning((0.5,), "layer"), epochs=0, quiet=True)
    found = geometry.transfer_masks(zoo, layerwise, ways=("aligned",), quiet=True)
    assert found["aligned"].config.sparsifier == MagnitudePruning((), "layer")


def test_refusals(zoo, twin):
    with pytest.raises(ZoojaxError, match="no way named 'upside'"):
        geometry.transfer_masks(zoo, twin, ways=("upside",))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ZoojaxError, match="ways is empty"):
        geometry.transfer_masks(zoo, twin, ways=())
    with pytest.raises(ZoojaxError, match="no member 9"):
        geometry.transfer_masks(zoo, twin, members=[9])


def test_masks_that_cannot_be_carried_over(twin):
    pruned = geometry.members_at(twin)
    without = replace(pruned, table=pruned.table.drop("ratio"))
    with pytest.raises(ZoojaxError, match="have no pruning ratios"):
        transfer.mask_levels(twin, without)
    ones = jax.tree.map(np.ones_like, pruned.params)
    with pytest.raises(ZoojaxError, match=r"member 0 .* does not have the number of weights"):
        transfer.mask_levels(twin, replace(pruned, params=ones))
    # The last member in another order: as many weights, but others than at the smaller ratio.
    moved = jax.tree.map(np.copy, pruned.params)
    for leaves in moved.values():
        leaves["kernel"][-1] = (
            leaves["kernel"][-1].ravel()[::-1].reshape(leaves["kernel"][-1].shape)
        )
    with pytest.raises(ZoojaxError, match=r"masks of member 2 .* are not nested"):
        transfer.mask_levels(twin, replace(pruned, params=moved))
