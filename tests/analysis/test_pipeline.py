"""Complete analyses: tables, notes, and zoos that do not belong together."""

import os
import subprocess
import time
from dataclasses import replace

import jax
import numpy as np
import polars as pl
import pytest

from tests.support import ROOT, synthetic_zoos, zoo_fixtures
from tests.support.altered_zoos import with_diverged_member, with_metrics
from zoojax import analysis
from zoojax.analysis.notes import add_notes
from zoojax.errors import ZoojaxError
from zoojax.presets import PRESETS
from zoojax.storage.zoo import CONFIG, MEMBERS, METRICS, open_zoo

KINDS = ("dense", "mp", "vd")


def test_synthetic_zoos_have_one_twin_per_member(family):
    assert pl.read_parquet(family["vd"].path / MEMBERS)["parent_id"].to_list() == list(range(48))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(family["dense"].params(50)))


def test_tables_of_a_zoo_with_both_twins(result):
    assert set(result.tables) == {
        *("members", "trajectories", "layer_sparsity", "hyperparameters", "correlation"),
        *("friendliness", "consistency", "predictability", "pruning_frequency"),
        *("pairings", "methods", "crossing", "agreement", "agreement_summary"),
        "change_by_hyperparameters",
        *(f"added_method_{name}" for name in ("accuracy", "differences", "ranking")),
        *("added_method_layers", "added_method_cost", "added_mask_overlap"),
    }
    # The variational-dropout twin has only five epochs.
    few, sparsity = result.notes
    assert few == (
        "18 of 18 rows of predictability have no value: too few members (fewer than 100)."
    )
    assert "no epoch within 3 points of 80% mean sparsity" in sparsity
    assert set(result.tables["trajectories"]["method"]) == set(KINDS)
    assert all(matrix.shape == (48, 48) for matrix in result.matrices.values())
    assert len(result.matrices) == 5


def test_zoo_without_twins(family):
    result = analysis.analyze(family["dense"], [])
    assert set(result.tables) == {"members", "trajectories", "hyperparameters"}
    assert result.notes == []


@pytest.mark.parametrize(("preset", "names"), [("usps-s-seed", True), ("digits-s-seed", False)])
def test_missing_twins_of_a_paper_zoo_are_noted(family, preset, names):
    zoo = open_zoo(family["dense"].path)
    zoo.config = replace(zoo.config, preset=preset)
    notes = analysis.Analysis(zoo, [family["mp"]])
    add_notes(notes)
    assert ("No twin by variational dropout was given." in notes.notes) == names
    assert not any("magnitude pruning was given" in note for note in notes.notes)


def test_diverged_member_is_noted(family, tmp_path):
    twin = with_diverged_member(family["vd"], tmp_path / "vd", 5, epoch=3)
    result = analysis.analyze(family["dense"], [twin])
    assert any("1 of 48 members" in note for note in result.notes)
    table = result.tables["correlation"]
    assert table.filter(pl.col("epoch") == 4)["diverged"].to_list() == [1]
    assert 5 not in result.tables["friendliness"]["parent_id"].to_list()


def test_single_member_has_no_correlation(tmp_path):
    zoo = synthetic_zoos.dense(tmp_path / "dense", 1)
    result = analysis.analyze(zoo, [synthetic_zoos.pruned(tmp_path / "mp", zoo, (0.5,))])
    assert result.tables["correlation"]["pearson"].null_count() == 16
    assert any("too few members (fewer than 20)" in note for note in result.notes)


def test_empty_population(family, tmp_path):
    """All members of one ratio diverge: its rows are empty, the others do not change."""
    lost = family["mp"].members_table.filter(pl.col("ratio") == 0.9)["id"].to_list()
    diverged = pl.col("member").is_in(lost)
    twin = with_metrics(
        family["mp"],
        tmp_path / "mp",
        lambda table: table.with_columns(pl.col("finite") & ~diverged),
    )
    assert analysis.pruning_frequency(twin, 15, 0.9).is_empty()
    table = analysis.compare_methods(family["dense"], twin, family["vd"])
    complete = analysis.compare_methods(family["dense"], family["mp"], family["vd"])
    assert table["members"].to_list() == [*complete["members"].to_list()[:2], 0]
    assert table.head(2).equals(complete.head(2))
    result = analysis.analyze(family["dense"], [twin])
    assert any("rows of correlation have no value" in note for note in result.notes)


def test_missing_parent_states_are_noted(family, tmp_path):
    """Tables that need no weights are still computed."""
    copy = zoo_fixtures.copied(family["dense"], tmp_path / "dense")
    for file in sorted((copy / "states/50").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    (copy / "states/50").rmdir()
    result = analysis.analyze(open_zoo(copy), [family["vd"]])
    assert any("lacks the states" in note for note in result.notes)
    assert "agreement" not in result.tables and "correlation" in result.tables


def other_parent(family, folder):
    zoo = synthetic_zoos.dense(folder / "other", 2)
    return zoo, [synthetic_zoos.pruned(folder / "twin", zoo, (0.5,)), family["vd"]]


def other_images(family, folder):
    copy = zoo_fixtures.copied(family["vd"], folder / "vd")
    text = (copy / CONFIG).read_text().replace(family["vd"].config.data_hash, "0" * 64)
    (copy / CONFIG).write_text(text)
    return family["dense"], [open_zoo(copy)]


def same_twin_twice(family, folder):
    return family["dense"], [
        family["vd"],
        open_zoo(zoo_fixtures.copied(family["vd"], folder / "vd")),
    ]


def twin_first(family, folder):
    return family["vd"], [family["mp"]]


def dense_as_twin(family, folder):
    return family["dense"], [family["dense"]]


def no_epoch(family, folder):
    copy = zoo_fixtures.copied(family["dense"], folder / "dense")
    (copy / METRICS).unlink()
    return open_zoo(copy), []


def no_parent_metrics(family, folder):
    zoo = with_metrics(
        family["dense"], folder / "dense", lambda table: table.filter(pl.col("epoch") < 50)
    )
    return zoo, [family["vd"]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (other_parent, "twin of another zoo"),
        (other_images, "other images"),
        (same_twin_twice, "are the same twin; give it once"),
        (twin_first, "is itself a twin"),
        (dense_as_twin, "is a dense zoo, not a twin"),
        (no_epoch, "no completed epoch yet"),
        (no_parent_metrics, "no metrics of epoch 50"),
    ],
)
def test_zoos_that_do_not_belong_together_are_refused(family, tmp_path, make, message):
    zoo, twins = make(family, tmp_path)
    with pytest.raises(ZoojaxError, match=message):
        analysis.analyze(zoo, twins)


@pytest.mark.slow
def test_time_and_memory_of_a_thousand_members(data_dir, tmp_path):
    """Under ten minutes and four gigabytes, including figures and the report."""
    spec = PRESETS["usps-s-seed"].data
    zoo = synthetic_zoos.dense(tmp_path / "dense", 1000, preset="usps-s-seed", spec=spec)
    synthetic_zoos.pruned(tmp_path / "mp", zoo)
    synthetic_zoos.variational_dropout(tmp_path / "vd", zoo)
    start = time.monotonic()
    command = [*zoo_fixtures.COMMAND, "analyze", *(str(tmp_path / kind) for kind in KINDS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*command, "--out", str(tmp_path / "out")], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds, page = time.monotonic() - start, tmp_path / "out/report.html"
    print(
        f"{seconds:.0f} s, {usage.ru_maxrss / 2**20:.2f} GiB, {page.stat().st_size / 2**20:.1f} MiB"
    )
    assert process.returncode == 0
    assert seconds < 600 and usage.ru_maxrss < 4 * 2**20 and page.stat().st_size < 10e6
