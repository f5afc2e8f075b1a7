"""The comparison of all methods, on made-up twins."""

import numpy as np
import polars as pl
import pytest

from tests.support import synthetic_zoos
from tests.support.masked_twins import random_twin
from zoojax import MagnitudePruning, RandomPruning
from zoojax.analysis.compared_methods import (
    method_accuracy,
    method_cost,
    method_crossings,
    method_differences,
    method_ranking,
)
from zoojax.analysis.mask_overlap import chance_overlap, mask_overlap, method_layers, overlap
from zoojax.analysis.measured import accuracies_at, interpolate
from zoojax.analysis.pairing import nearest_ratio, ratio_sparsities
from zoojax.analysis.results import Analysis
from zoojax.storage import timing

RATIOS = (0.5, 0.8, 0.9)
MEMBERS = 12


def accuracies(slope: float, noise: float, seed: int):
    """Accuracies that fall with the ratio, from the members' own."""

    def of(table: pl.DataFrame) -> np.ndarray:
        noisy = noise * np.random.default_rng(seed).standard_normal(len(table))
        best = synthetic_zoos.quality(table["seed"].to_numpy())
        return best - slope * table["ratio"].to_numpy() ** 4 + noisy

    return of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("compared")


@pytest.fixture(scope="module")
def zoo(folder):
    return synthetic_zoos.dense(folder / "dense", MEMBERS)


@pytest.fixture(scope="module")
def two(folder, zoo) -> Analysis:
    """Magnitude pruning, clearly better at 90 % only; random pruning with other masks."""

    def crossing(table: pl.DataFrame) -> np.ndarray:
        bonus = np.where(table["ratio"].to_numpy() > 0.85, 0.05, -0.05)
        return accuracies(0.1, 0.001, 3)(table) + bonus

    mp = random_twin(folder / "mp", zoo, MagnitudePruning(RATIOS), crossing, 1)
    rp = random_twin(folder / "rp", zoo, RandomPruning(RATIOS), accuracies(0.1, 0.001, 4), 2)
    return Analysis(zoo, [mp, rp])


def test_method_compared_with_itself_gives_no_difference(folder, zoo):
    twins = [
        random_twin(folder / name, zoo, MagnitudePruning(RATIOS), accuracies(0.2, 0.01, 5), 5)
        for name in ("same-1", "same-2")
    ]
    table = method_differences(Analysis(zoo, twins))
    assert table["method"].to_list() == ["mp"] * 3
    assert table["other_method"].to_list() == ["mp-2"] * 3
    for name, expected in (("difference", 0), ("low", 0), ("high", 0), ("wins", 0.5), ("p", 1)):
        assert table[name].to_list() == [expected] * 3
    assert table["p_holm"].to_list() == [1] * 3 and set(table["better"]) == {""}
    assert method_crossings(Analysis(zoo, twins)).is_empty()
    masks = mask_overlap(Analysis(zoo, twins))
    assert masks["overlap"].to_list() == [1.0] * 3


def test_differences_are_paired_by_member(two):
    table = method_differences(two)
    assert table["sparsity"].to_list() == list(RATIOS)
    metrics = {t.config.sparsifier.method: t for t in two.twins}
    for row in table.iter_rows(named=True):
        values = []
        for method in ("mp", "rp"):
            twin = metrics[method]
            members = twin.members_table.filter(pl.col("ratio") == row["sparsity"])
            last = twin.metrics.filter(epoch=1).filter(pl.col("member").is_in(members["id"]))
            values.append(last.sort("member")["test_acc"].to_numpy().astype(float))
        difference = values[0] - values[1]
        assert row["difference"] == pytest.approx(difference.mean())
        assert row["wins"] == (difference > 0).mean()
        assert (row["members"], row["budget"], row["interpolated"]) == (MEMBERS, 51, 0)
    assert table["better"].to_list() == ["RP", "RP", "MP"]
    (crossing,) = method_crossings(two).rows(named=True)
    assert (crossing["method"], crossing["other_method"]) == ("rp", "mp")
    assert (crossing["above"], crossing["below"]) == (0.8, 0.9)
    assert crossing["above_difference"] > 0 > crossing["below_difference"]


def test_ranking_and_accuracy(two):
    ranking = method_ranking(two)
    assert ranking["method"].to_list() == ["rp", "mp", "rp", "mp", "mp", "rp"]
    assert ranking["rank"].to_list() == [1, 2] * 3
    assert ranking["better"].to_list() == [0, 1] * 3
    assert ranking["worse"].to_list() == [1, 0] * 3
    table = method_accuracy(two)
    assert table["setting"].to_list() == [f"ratio {ratio}" for ratio in RATIOS] * 2
    assert (table["test_acc_low"] < table["test_acc"]).all()
    assert table["change"].to_numpy() == pytest.approx(table["test_acc"] - table["dense_acc"])


def test_overlap_of_independent_masks_is_that_of_chance(two):
    """Both twins keep random weights; the interval of chance covers what is measured."""
    table = mask_overlap(two)
    assert table["sparsity"].to_list() == list(RATIOS)
    for row in table.iter_rows(named=True):
        assert row["chance_low"] < row["overlap"] < row["chance_high"]
        kept = 1 - row["sparsity"]
        assert row["chance"] == pytest.approx(kept / (2 - kept), abs=0.01)


@pytest.mark.parametrize("kept", [(30, 5), (200, 15), (0, 0), (300, 20)])
def test_chance_overlap_equals_simulation(kept):
    """Mean and spread of the overlap of random masks of two layers."""
    rng, sizes, other, n = np.random.default_rng(0), (300, 20), (100, 10), 4000

    def draw(counts):
        layers = [
            rng.random((n, size)).argsort(1).argsort(1) < count
            for size, count in zip(sizes, counts, strict=True)
        ]
        return np.concatenate(layers, 1)

    found = overlap(draw(kept), draw(other))
    chance = chance_overlap(np.array(kept), np.array(other), np.array(sizes))
    assert float(chance.mean) == pytest.approx(found.mean(), abs=4 * found.std() / n**0.5 + 1e-4)
    assert float(chance.std) == pytest.approx(found.std(), rel=0.1, abs=1e-12)
    assert chance_overlap(np.array([0]), np.array([0]), np.array([3])).mean == 1


def test_layers(two):
    table = method_layers(two)
    assert len(table) == 2 * len(RATIOS) * 5
    assert table["kept"].is_between(0, 1).all()


def test_interpolation_is_limited():
    at, value = np.array([0.5, 0.6, 0.9]), np.array([1.0, 0.8, 0.2])
    result, measured = interpolate(at, value, np.array([0.49, 0.55, 0.75, 0.9, 0.99]))
    assert result == pytest.approx([1.0, 0.9, np.nan, 0.2, np.nan], nan_ok=True)
    assert measured.tolist() == [True, False, False, True, False]
    assert np.isnan(interpolate(at[:1], value[:1], np.array([0.6]))[0]).all()


def test_times_are_those_recorded(two, zoo):
    """Without times of all epochs, none are shown."""
    twin = two.twins[0]
    timing.record(twin.path, 0, timing.Duration(2.0, 3.0))
    assert method_cost(two)["seconds"].to_list() == [None] * 3
    timing.record(twin.path, 1, timing.Duration(4.0, 6.0))
    row = method_cost(two).filter(method="mp").row(0, named=True)
    assert (row["epochs"], row["parent_epochs"], row["budget"]) == (1, 50, 51)
    assert row["seconds"] == 6 and row["cpu_seconds_per_member"] == 9 / len(twin)
    (twin.path / timing.TIMING).unlink()


def test_ratios_that_are_not_sparsities(folder, zoo):
    """A ratio that prunes more weights is compared at the sparsity that was measured."""
    denser = MagnitudePruning((0.5, 0.8))
    twin = random_twin(folder / "denser", zoo, denser, accuracies(0.1, 0, 6), 6)
    metrics = twin.metrics_history.with_columns(pl.col("sparsity") * 1.1)
    metrics.write_parquet(twin.path / "metrics.parquet")
    known = ratio_sparsities(twin)
    assert list(known) == [0.5, 0.8]
    assert list(known.values()) == pytest.approx([0.55, 0.88], abs=1e-3)
    # 70 % is nearer to the ratio 0.8, but nearer to the sparsity of 0.5.
    assert nearest_ratio(twin, 0.7) == 0.5
    rp = random_twin(folder / "rp-2", zoo, RandomPruning(RATIOS), accuracies(0.1, 0, 4), 2)
    found = accuracies_at(Analysis(zoo, [twin, rp]))
    # Random pruning was measured at 50 %, which is too far from 55 %, and on both sides of 88 %.
    assert found.targets == pytest.approx([0.88], abs=2e-3)
    assert found.interpolated.tolist() == [[0], [1]]
