"""Options of `zoojax bench`, and how its scaling results are shown."""

import json
import math
import sys

import jax
import jax.numpy as jnp
import pytest

from zoojax.cli import bench, main
from zoojax.cli.parsing import parse
from zoojax.cli.sparsify import Sparsify
from zoojax.errors import ZoojaxError
from zoojax.experiments.bench import (
    backends,
    benchmark,
    device_scaling,
    member_scaling,
    members,
)
from zoojax.experiments.bench.members import ARCHITECTURES, Case, flops, traffic
from zoojax.sparsifiers.registry import sparsifiers
from zoojax.training.loop import Hyperparams

MEMBERS = {
    **{"members": 1000, "images": 1000, "epoch_seconds": 2.0, "saving_seconds": 0.5},
    "memory_bytes": 2**30,
}


def parsed(*words: str) -> bench.Bench:
    return parse(main._commands(Sparsify), ["bench", *words], "zoojax", "")


@pytest.mark.parametrize(
    "words",
    [
        ("--member-scaling", "10", "20", "--device-scaling"),
        ("--growth", "10", "20", "--scaling"),
        ("--scaling", "--member_scaling", "10", "20"),
    ],
)
def test_old_and_new_spellings(words):
    command = parsed(*words)
    assert (command.member_scaling, command.device_scaling) == ((10, 20), True)


def test_old_spelling_with_an_equals_sign():
    assert parsed("--growth=10").member_scaling == (10,)


def test_errors_name_the_new_spelling():
    with pytest.raises(ZoojaxError, match=r"--member-scaling .*not 'many'"):
        parsed("--growth", "many")
    with pytest.raises(ZoojaxError, match="--device-scaling takes no value"):
        parsed("--scaling=yes")


def test_help_shows_only_the_new_spellings(capsys):
    with pytest.raises(SystemExit):
        parsed("--help")
    text = capsys.readouterr().out
    assert "--member-scaling N ..." in text and "--device-scaling" in text
    assert "--growth" not in text and "--scaling" not in text


def test_old_spellings_belong_to_bench():
    with pytest.raises(ZoojaxError, match="no option --growth"):
        parse(main._commands(Sparsify), ["info", "zoo", "--growth"], "zoojax", "")


@pytest.mark.parametrize("kind", [each.short.lower() for each in sparsifiers().values()])
def test_every_sparsifier_can_be_measured(kind):
    """Its members are initialized and trained for an epoch; only traced here."""
    case = Case(kind, "mlp", 10)
    seeds, images = jnp.arange(2, dtype=jnp.uint32), members.images(case.shape)
    hyper = Hyperparams(seeds, jnp.ones(2), jnp.ones(2), jnp.zeros(2))
    train = jax.vmap(members._epoch(case, "xla"), (0, 0, None, None, None))
    states = jax.eval_shape(lambda: members.states(case, seeds))
    trained, _ = jax.eval_shape(train, states, hyper, *images, jnp.int32(1))
    assert jax.tree.structure(trained) == jax.tree.structure(states)


def test_scaling_results(monkeypatch, capsys, tmp_path):
    """In JSON, and in the tables of the Markdown file; speed is relative to the first topology."""
    monkeypatch.setattr(bench, "configure_jax", lambda: None)
    monkeypatch.setattr(benchmark, "gemm_peak", lambda seconds: lambda: 100.0)
    monkeypatch.setattr(benchmark, "memory_bandwidth", lambda seconds: lambda: 10.0)
    monkeypatch.setattr(member_scaling, "measure", lambda members, images: MEMBERS)

    def measure(topology):
        speed = 50.0 if topology.together else 100.0
        shown = {"topology": str(topology), "members": 128}
        return {**shown, "samples_per_second": speed, "saving": 0.1}

    monkeypatch.setattr(device_scaling, "measure", measure)
    file = tmp_path / "benchmarks.md"
    bench.Bench(
        kinds=(), repetitions=1, member_scaling=(1000,), device_scaling=True, out=file, json=True
    ).run()
    printed = json.loads(capsys.readouterr().out)
    assert printed["growth"] == [MEMBERS]
    assert len(printed["scaling"]) >= 3
    text = file.read_text()
    assert "| 1,000 | 2.00 | 2.00 | 25.0% | 1,024 |" in text
    assert "relative to independent zoos" in text and "independent zoos, each in" in text
    assert "| 128 | 100 | 100% | 10.0% |" in text and "| 128 | 50 | 50% | 10.0% |" in text


def test_topologies_start_with_the_baseline():
    topologies = device_scaling.topologies(2)
    assert str(topologies[0]) == "2 independent zoos, each in a process with one device"
    assert [str(t) for t in topologies[1:]] == [
        *("1 process x 1 device", "1 process x 2 devices", "1 process x 4 devices"),
        "2 processes x 1 device",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ()}, "at least one"),
        ({"seconds": 0.0}, "above 0"),
        ({"batch_sizes": (0,)}, "above 0"),
        ({"architectures": ("huge",)}, "--architectures is 'huge'; give some of small, medium"),
        ({"kinds": ("xyz",)}, "--kinds is 'xyz'; give some of dense, "),
    ],
)
def test_invalid_options(options, message):
    with pytest.raises(ZoojaxError, match=message):
        benchmark.bench(**options)


def test_resident_memory():
    if sys.platform != "linux":
        pytest.skip("/proc is a Linux file system")
    assert 10e6 < member_scaling._memory() < 1e12


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_flops_and_traffic_of_every_network(name):
    """Against the parameters' shapes: a dense layer has one product per weight and image."""
    case = Case("dense", name, 10)
    shapes = case.shape.parameter_shapes()
    count = sum(math.prod(shape) for leaves in shapes.values() for shape in leaves.values())
    assert traffic(case) == pytest.approx(24 * count / 10)
    assert flops(Case("evaluate", name, 10)) >= 2 * sum(
        math.prod(leaves["kernel"]) for leaves in shapes.values()
    )


def test_share_of_the_lower_ceiling():
    case = Case("dense", "mlp", 10)
    speeds = {(case, "zoojax"): [2.0]}
    bound_by_memory = backends.rows(speeds, 1e9, 10.0)[0]["share_of_ceiling"]
    assert bound_by_memory == pytest.approx(2 * traffic(case) / 10e9)
    bound_by_products = backends.rows(speeds, 100.0, 1e9)[0]["share_of_ceiling"]
    assert bound_by_products == pytest.approx(2 * flops(case) / 100e9)
