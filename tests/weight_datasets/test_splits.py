"""Splits of members, groups of members, twins and published splits."""

import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.support.weight_zoos import random_zoo, twin_of
from zoojax import Grid, WeightDataset, ZoojaxError, open_zoo
from zoojax.weight_datasets.sides import member_identities
from zoojax.weight_datasets.splits import SPLITS, side_of

# The splits of a zoo of 16 seeds (second letters), by the seed of the split. They never change.
RECORDED = {0: "rrrarrerrerrrere", 1: "reerrarrararraar", 7: "rrerrrarrrrrrrrr"}
GRID = Grid(learning_rates=(0.1, 0.2, 0.3), seeds=20)


@pytest.fixture(scope="module")
def grid_zoo(tmp_path_factory):
    """A zoo whose members share 20 seeds."""
    folder = tmp_path_factory.mktemp("grid") / "zoo"
    return random_zoo(folder, "chain-28-v9-f-d", epochs=0, grid=GRID)


def sides_of(dataset: WeightDataset) -> dict[int, str]:
    return dict(dataset.table.select("member", "split").iter_rows())


def test_splits_depend_on_members_alone(zoo, twin, cache, tmp_path):
    sides = {}
    for split in SPLITS:
        dataset = WeightDataset(zoo, split=split, cache=cache)
        table = dataset.table
        assert set(table["split"]) == {split}
        # All epochs of a member are on its side.
        assert table.group_by("member").len()["len"].to_list() == [3] * table["member"].n_unique()
        sides |= dict.fromkeys(table["member"], split)
    assert len(sides) == 40
    # More members and another order do not move members; twins are with their parents.
    larger = random_zoo(tmp_path / "larger", members=60, epochs=0)
    grown = WeightDataset(larger[::-1], cache=cache).table
    assert {m: s for m, s in grown.select("member", "split").iter_rows() if m < 40} == sides
    joined = WeightDataset([zoo, twin], epochs=0, cache=cache).table.filter(zoo=str(twin.path))
    parents = dict(twin.members_table.select("id", "parent_id").iter_rows())
    for member, side in joined.select("member", "split").iter_rows():
        assert side == sides[parents[member]]
    # A twin alone is on the same sides: its parent is found in its folder.
    alone = WeightDataset(twin[::-1], epochs=0, cache=cache).table.sort("member")
    assert alone["split"].to_list() == joined.sort("member")["split"].to_list()
    other = WeightDataset(zoo, seed=1, cache=cache).table
    assert dict(other.select("member", "split").iter_rows()) != sides


def test_sides_do_not_depend_on_ids():
    """As in a grid zoo, whose ids change if seeds are added."""
    two, four = (replace(Grid(learning_rates=(0.1, 0.2)), seeds=n).members() for n in (2, 4))
    merged = two.join(four, on=["seed", "learning_rate"])
    assert not merged["id"].equals(merged["id_right"]) and len(merged) == len(two)
    names = dict(zip(four["id"], member_identities(four), strict=True))
    assert len(set(names.values())) == len(four)
    for name, member in zip(member_identities(two), merged["id_right"], strict=True):
        assert names[member] == name
    unknown = two.with_columns(seed=pl.lit(None, pl.Int64))
    assert len(set(member_identities(unknown))) == len(unknown)


def test_a_twin_without_parent_has_no_split(zoo, tmp_path, cache):
    moved = twin_of(tmp_path / "far" / "away" / "twin", zoo)
    shutil.move(moved.path, tmp_path / "twin")
    alone = open_zoo(tmp_path / "twin")
    with pytest.raises(ZoojaxError, match="is split like its parent, which was not found"):
        WeightDataset(alone, split="train", cache=cache)
    assert WeightDataset(alone, cache=cache).table["split"].null_count() == len(alone)
    assert len(WeightDataset([alone, zoo], split="train", cache=cache)) > 0


def test_shares_of_splits():
    sides = [side_of(str(member), 0, (0.5, 0.3, 0.2)) for member in range(20_000)]
    shares = [sides.count(split) / len(sides) for split in SPLITS]
    np.testing.assert_allclose(shares, [0.5, 0.3, 0.2], atol=0.015)
    assert {side_of(str(m), 0, (0.0, 0.0, 1.0)) for m in range(100)} == {"test"}
    assert {side_of(str(m), 0, (1.0, 0.0, 0.0)) for m in range(100)} == {"train"}


def test_published_splits_are_used(tmp_path, cache):
    split: list[str | None] = ["test", "train", "val", "train"]
    zoo = random_zoo(tmp_path / "zoo", members=4, epochs=1, split=split)
    own = twin_of(tmp_path / "twin", zoo)
    table = WeightDataset([zoo, own], epochs=0, cache=cache).table
    assert table.filter(zoo=str(zoo.path))["split"].to_list() == split
    assert table.filter(zoo=str(own.path))["split"].to_list() == [s for s in split for _ in "12"]
    drawn = WeightDataset(zoo, epochs=0, published=False, cache=cache).table["split"].to_list()
    names = member_identities(zoo.members_table)
    assert drawn == [side_of(name, 0, (0.7, 0.15, 0.15)) for name in names]
    unclear = random_zoo(tmp_path / "unclear", members=2, epochs=0, split=["train", "a\nb"])
    with pytest.raises(ZoojaxError, match=r"member 1 is a\\nb.*published=False"):
        WeightDataset(unclear, cache=cache)


@pytest.mark.parametrize("seed", RECORDED)
def test_splits_stay_the_same(seed):
    names = member_identities(Grid(seeds=16).members())
    assert "".join(side_of(each, seed, (0.7, 0.15, 0.15))[1] for each in names) == RECORDED[seed]


def test_members_of_a_group_are_in_one_split(grid_zoo, cache, tmp_path):
    seeds = dict(grid_zoo.members.select("id", "seed").iter_rows())

    def groups(dataset: WeightDataset) -> dict[int, set[str]]:
        found = {seed: set() for seed in seeds.values()}
        for member, side in sides_of(dataset).items():
            found[seeds[member]].add(side)
        return found

    apart = groups(WeightDataset(grid_zoo, cache=cache))
    assert max(map(len, apart.values())) > 1
    together = groups(WeightDataset(grid_zoo, split_by="seed", cache=cache))
    assert set(map(len, together.values())) == {1}
    assert set().union(*together.values()) == set(SPLITS)
    parts = [WeightDataset(grid_zoo, split=s, split_by=["seed"], cache=cache) for s in SPLITS]
    assert sum(map(len, parts)) == 60
    for split, part in zip(SPLITS, parts, strict=True):
        assert {seeds[member] for member in sides_of(part)} == {
            seed for seed, sides in together.items() if sides == {split}
        }
    # Other combinations and more seeds do not change it; twins are with their parents.
    larger = replace(GRID, learning_rates=(0.1, 0.5), activations=("tanh", "relu"), seeds=25)
    other = random_zoo(tmp_path / "larger", "chain-28-v9-f-d", epochs=0, grid=larger)
    ids = dict(other.members.select("id", "seed").iter_rows())
    for member, side in sides_of(WeightDataset(other, split_by="seed", cache=cache)).items():
        assert ids[member] > 20 or together[ids[member]] == {side}
    twin = twin_of(tmp_path / "twin", grid_zoo, epoch=0)
    roots = dict(twin.members_table.select("id", "parent_id").iter_rows())
    for member, side in sides_of(WeightDataset(twin, split_by="seed", cache=cache)).items():
        assert together[seeds[roots[member]]] == {side}


def test_groups_of_other_columns(grid_zoo, cache):
    rates = dict(grid_zoo.members.select("id", "learning_rate").iter_rows())
    dataset = WeightDataset(grid_zoo, split_by="learning_rate", cache=cache)
    assert len({(rates[member], side) for member, side in sides_of(dataset).items()}) == 3
    both = WeightDataset(grid_zoo, split_by=("seed", "learning_rate"), cache=cache)
    assert len(set(map(str, sides_of(both).items()))) == 60
    # An optional column that the zoo does not have: all members have the default.
    same = WeightDataset(grid_zoo, split_by="momentum", cache=cache)
    assert len(set(sides_of(same).values())) == 1


def test_members_without_a_seed_are_groups_of_their_own():
    table = GRID.members().with_columns(
        seed=pl.when(pl.col("id") < 3).then(pl.lit(None, pl.Int64)).otherwise("seed")
    )
    names = member_identities(table, ("seed",))
    assert len(set(names)) == 3 + 20


def test_tables_have_the_splits_of_their_own_arguments(zoo, cache):
    """Also without a selected split, when all other files are the same."""
    changed = {"seed": 5}, {"fractions": (1, 0, 0)}, {"split_by": "seed"}
    arguments: list[dict[str, Any]] = [{}, *changed, {}]
    found = [
        WeightDataset(zoo, epochs=1, cache=cache, **options).table["split"].to_list()
        for options in arguments
    ]
    assert found[0] == found[-1] and len(set(map(str, found))) == 4


@pytest.mark.parametrize(
    ("split_by", "message"),
    [
        ("color", "has no column color to split by; it has seed, activation"),
        ("id", "has no column id to split by"),
        (["seed", "a\nb"], r"has no column a\\nb to split by"),
        ([], r"split_by is \[\]; give each column once, or None"),
        (["seed", "seed"], "give each column once"),
        (3, "split_by is 3; give the names of columns"),
        ([None], "give the names of columns"),
    ],
)
def test_invalid_columns_are_refused(zoo, twin, cache, split_by, message):
    for each in (zoo, twin):
        with pytest.raises(ZoojaxError, match=message) as caught:
            WeightDataset(each, split="train", split_by=split_by, cache=cache)
        assert "\n" not in str(caught.value) and "parent" not in str(caught.value)


def test_groups_that_leave_a_split_empty(zoo, cache):
    with pytest.raises(ZoojaxError, match="none of the 40 members, split by init; give other"):
        for split in SPLITS:
            WeightDataset(zoo, split=split, split_by="init", cache=cache)


def test_published_splits_and_groups_exclude_each_other(tmp_path, cache):
    split: list[str | None] = ["train", "val", "test"]
    zoo = random_zoo(tmp_path / "zoo", "chain-28-v9-f-d", members=3, epochs=0, split=split)
    with pytest.raises(ZoojaxError, match=r"split of its own .*split_by needs published=False"):
        WeightDataset(zoo, split_by="seed", cache=cache)
    assert len(WeightDataset(zoo, split_by="seed", published=False, cache=cache)) == 3
