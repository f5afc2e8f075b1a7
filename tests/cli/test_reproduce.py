"""`zoojax reproduce`: resuming, refusals, and JSON."""

import re
import shutil

import numpy as np
import polars as pl
import pytest

from tests.support import ROOT, zoo_fixtures
from zoojax import open_zoo
from zoojax.analysis.method_comparison import MAX_BRACKET
from zoojax.cli.reproduce import RATIOS

REPRODUCE = (
    *("reproduce", "digits-s-seed", "--members", 3, "--ratios", 0.5, "--epochs", 2),
    *("--mp-epochs", 1, "--vd-epochs", 1),
)


@zoo_fixtures.once
def reproduced(factory: pytest.TempPathFactory):
    out = factory.mktemp("reproduced") / "run"
    done = zoo_fixtures.cli(factory, *REPRODUCE, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"report: {out / 'analysis/report.html'}"
    return out


def test_default_ratios_and_those_of_the_demo_locate_crossovers():
    demo = re.search(r"--ratios ([\d. ]+)", (ROOT / "Makefile").read_text())
    assert demo is not None
    for ratios in (RATIOS, tuple(float(ratio) for ratio in demo[1].split())):
        between = [ratio for ratio in ratios if 0.7 <= ratio <= 0.9]
        assert between[0] == 0.7 and between[-1] == 0.9
        assert np.diff(between).max() <= MAX_BRACKET + 1e-9
    # Those that the paper prints.
    assert {0.0, 0.5, 0.6, 0.7, 0.8, 0.9} <= set(RATIOS)


def test_output_folder_is_checked_before_training(tmp_path_factory, tmp_path):
    (tmp_path / "run/analysis").mkdir(parents=True)
    (tmp_path / "run/analysis/report.html").write_text("foreign")
    done = zoo_fixtures.cli(tmp_path_factory, *REPRODUCE, "--out", tmp_path / "run")
    zoo_fixtures.assert_refused(done, "report.html")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["analysis"]


@pytest.mark.parametrize("missing", ["vd", pytest.param("analysis", marks=pytest.mark.slow)])
def test_rerun_resumes_and_gives_the_same_tables(tmp_path_factory, tmp_path, missing):
    """Completed zoos are left alone, missing parts are created."""
    complete = reproduced(tmp_path_factory)
    out = tmp_path / "run"
    shutil.copytree(complete, out)
    shutil.rmtree(out / missing)
    before = zoo_fixtures.contents(out / "dense") | zoo_fixtures.contents(out / "mp")
    done = zoo_fixtures.cli(tmp_path_factory, *REPRODUCE, "--out", out)
    assert done.returncode == 0, done.stderr
    assert zoo_fixtures.contents(out / "dense") | zoo_fixtures.contents(out / "mp") == before
    for name in ("agreement", "trajectories"):
        again = pl.read_parquet(out / f"analysis/tables/{name}.parquet")
        assert again.equals(pl.read_parquet(complete / f"analysis/tables/{name}.parquet"))


def test_other_options_are_refused(tmp_path_factory, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(reproduced(tmp_path_factory), out)
    # More members would extend the zoo.
    options = [2 if option == 3 else option for option in REPRODUCE]
    zoo_fixtures.assert_refused(
        zoo_fixtures.cli(tmp_path_factory, *options, "--out", out), "other members"
    )


def test_json_of_reproduce_and_analyze(tmp_path_factory, tmp_path):
    """One JSON document of all populations, and nothing else on standard output."""
    out = tmp_path / "run"
    shutil.copytree(reproduced(tmp_path_factory), out)
    from_reproduce = zoo_fixtures.cli_json(tmp_path_factory, *REPRODUCE, "--out", out)
    paths = [out / kind for kind in ("dense", "mp", "vd")]
    from_analyze = zoo_fixtures.cli_json(
        tmp_path_factory, "analyze", *paths, "--out", tmp_path / "again"
    )
    assert from_reproduce["report"] == str(out / "analysis/report.html")
    assert from_analyze["report"] == str(tmp_path / "again/report.html")
    for printed in (from_reproduce, from_analyze):
        rows = printed["rows"]
        assert [(row["kind"], row["epoch"]) for row in rows] == [("dense", 2), ("mp", 1), ("vd", 1)]
        for row, path in zip(rows, paths, strict=True):
            last = open_zoo(path).metrics.filter(epoch=row["epoch"])
            assert row["zoo"] == str(path) and row["members"] == 3
            assert row["test_acc_mean"] == pytest.approx(last["test_acc"].mean(), abs=1e-6)
        assert isinstance(printed["agreement_summary"][0]["agreement_mean"], float)
        assert all(isinstance(note, str) for note in printed["notes"])
        assert "paper" not in printed


COMPARE = (
    *("reproduce", "digits-s-seed", "--members", 3, "--ratios", 0.5, 0.9, "--epochs", 2),
    *("--sparsifiers", "magnitude-pruning", "n-m", "--budget", 1),
)


def test_chosen_sparsifiers_with_an_equal_budget(tmp_path_factory, tmp_path):
    """Prints what each zoo took; repeated, trains nothing."""
    out = tmp_path / "run"
    done = zoo_fixtures.cli(tmp_path_factory, *COMPARE, "--out", out)
    assert done.returncode == 0, done.stderr
    zoos = {path.parent.name for path in out.glob("*/zoo.json")}
    assert zoos == {"dense", "mp", "nm", "nm-2"}
    assert "Training cost of each zoo" in done.stdout
    assert done.stdout.splitlines()[-1] == f"report: {out / 'analysis/report.html'}"
    before = {name: zoo_fixtures.contents(out / name) for name in zoos}
    printed = zoo_fixtures.cli_json(tmp_path_factory, *COMPARE, "--out", out)
    assert {name: zoo_fixtures.contents(out / name) for name in zoos} == before
    assert [row["method"] for row in printed["method_cost"]] == ["dense", "mp", "nm", "nm-2"]
    assert [row["budget"] for row in printed["method_cost"]] == [2, 3, 3, 3]
    assert all(row["seconds"] > 0 for row in printed["method_cost"])
    ranked = {(row["method"], row["sparsity"]) for row in printed["method_ranking"]}
    assert {("mp", 0.5), ("nm", 0.5), ("nm-2", 0.5)} <= ranked


def test_unknown_sparsifiers_are_refused_before_training(tmp_path_factory, tmp_path):
    for names, message in ((("snipp",), "did you mean 'snip'"), (("snip", "snip"), "once")):
        arguments = [*REPRODUCE, "--sparsifiers", *names, "--out", tmp_path / "run"]
        zoo_fixtures.assert_refused(zoo_fixtures.cli(tmp_path_factory, *arguments), message)
    arguments = [*REPRODUCE, "--budget", 0, "--out", tmp_path / "run"]
    zoo_fixtures.assert_refused(zoo_fixtures.cli(tmp_path_factory, *arguments), "at least 1")
    assert list(tmp_path.iterdir()) == []
