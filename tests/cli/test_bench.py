"""`zoojax bench`."""

import json

import pytest

from tests.support import zoo_fixtures
from zoojax.experiments.bench import member_scaling
from zoojax.experiments.bench.members import Case, flops


@pytest.mark.parametrize(
    "kinds",
    [("evaluate",), pytest.param(("evaluate", "dense", "mp", "vd"), marks=pytest.mark.slow)],
)
def test_bench_measures_all_backends(tmp_path_factory, tmp_path, kinds):
    """Checks that all results are there, not their values."""
    file = tmp_path / "benchmarks.md"
    options = ("--members", 4, "--repetitions", 1, "--seconds", 0.1, "--chunk", 4)
    options += ("--kinds", *kinds)
    done = zoo_fixtures.cli_process(tmp_path_factory, "bench", *options, "--out", file, "--json")
    printed = json.loads(done.stdout)
    rows = printed["rows"]
    assert printed["growth"] == []
    if "dense" in kinds:
        assert {
            *("zoojax", "one torch process per core"),
            *("torch.func.vmap, 4 members", "jax.vmap of lax.conv, 4 members"),
        } <= {row["backend"] for row in rows if row["kind"] == "dense"}
    assert {row["kind"] for row in rows if row["backend"] == "zoojax"} == set(kinds)
    assert all(row["median"] > 0 for row in rows)
    last = {row["backend"]: row for row in rows if row["kind"] == kinds[-1]}
    ours, torch = last["zoojax"], last["one torch process per core"]
    assert ours["times_torch"] == pytest.approx(ours["median"] / torch["median"])
    table = [line for line in file.read_text().splitlines() if line.startswith("| small")]
    assert len(table) == len(rows)


@pytest.mark.slow
def test_member_scaling_of_a_small_zoo():
    """Runs in its own process, so that the memory of this one does not count."""
    measured = member_scaling.measure(3, 100)
    assert measured["members"] == 3 and measured["saving_seconds"] < measured["epoch_seconds"]
    assert 50e6 < measured["memory_bytes"] < 2 * 2**30 + 3 * 20e3


def test_flops_of_one_sample():
    """Computed by hand: the first layer has 24^2 x 25 x 8 products, and so on."""
    forward = [576 * 25 * 8, 64 * 25 * 8 * 6, 9 * 4 * 6 * 4, 36 * 20, 200]
    assert flops(Case("dense", "small", 10)) == 6 * sum(forward) - 2 * forward[0]
    assert flops(Case("evaluate", "small", 10)) == 2 * sum(forward)
