"""`zoojax geometry ...`: end to end, and what it refuses."""

import polars as pl
import pytest

from tests.support import zoo_fixtures
from zoojax import open_zoo


@pytest.fixture
def run(tmp_path_factory):
    return lambda *words: zoo_fixtures.cli(tmp_path_factory, "geometry", *words)


def test_align_and_connect(tmp_path_factory, tmp_path, run):
    dense, twin = (zoo_fixtures.KINDS[kind](tmp_path_factory) for kind in ("dense", "mp"))
    aligned, moved = tmp_path / "aligned", tmp_path / "twin"
    done = run("align", dense.path, "--out", aligned, "--to", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert "aligned 3 members" in done.stdout and "distance" in done.stdout
    done = run("align-twin", twin.path, aligned, "--out", moved)
    assert (done.returncode, done.stderr) == (0, "") and "50" in done.stdout
    parent = open_zoo(moved).config.parent
    assert parent is not None and parent.fingerprint == open_zoo(aligned).fingerprint
    words = ("lines", aligned, moved, "--points", 3, "--pairs", 0, 1, 1, 4, "--out", tmp_path / "t")
    done = run(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 pairs" in done.stdout and "accuracy barrier" in done.stdout
    points = pl.read_parquet(tmp_path / "t/lines.parquet")
    assert points.select("first", "second").unique(maintain_order=True).rows() == [(0, 1), (1, 4)]
    assert len(pl.read_csv(tmp_path / "t/barriers.csv")) == 2


def test_json(tmp_path_factory, tmp_path):
    path = zoo_fixtures.dense(tmp_path_factory).path

    def rows(*words) -> list:
        return zoo_fixtures.cli_json(tmp_path_factory, "geometry", *words)["rows"]

    assert [row["member"] for row in rows("align", path, "--out", tmp_path / "a")] == [0, 1, 2]
    (row,) = rows("lines", path, "--pairs", 0, 2, "--points", 3)
    assert (row["first"], row["second"]) == (0, 2)
    (row,) = rows("curves", path, "--pairs", 0, 2, "--points", 3, "--epochs", 1)
    assert row["loss_barrier"] >= 0
    assert len(rows("soup", path, "--out", tmp_path / "s", "--kind", "greedy")) == 1
    assert len(rows("average", path, "--out", tmp_path / "w")) == 1


def test_refused(tmp_path_factory, tmp_path, run):
    path = zoo_fixtures.dense(tmp_path_factory).path
    out = tmp_path / "out"
    refusals = {
        ("align", path, "--out", out, "--to", "8"): "no member 8",
        ("align", path, "--out", out, "--to", "middle"): "--to",
        ("align", path, "--out", path): "",
        ("align-twin", path, path, "--out", out): "has no alignment.npz",
        ("lines", path, "--pairs", 0, 1, 2): "--pairs",
        ("lines", path, tmp_path): "not a zoo",
        ("soup", path, "--out", out, "--members", 7): "no member 7",
        ("average", path, "--out", out, "--decay", 2): "decay",
    }
    for words, message in refusals.items():
        zoo_fixtures.assert_refused(run(*words), message)
    assert not out.exists()
