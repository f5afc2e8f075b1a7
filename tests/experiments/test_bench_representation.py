"""The rows of `zoojax bench` for training a hyper-representation."""

import json
import math
from dataclasses import asdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from tests.support import representations
from zoojax.architectures.registry import architecture
from zoojax.cli.bench import Bench
from zoojax.errors import ZoojaxError
from zoojax.experiments.bench import representation, torch_worker
from zoojax.experiments.bench.members import Case
from zoojax.hyper_representation.settings import SMALL, Settings

TINY = representations.SETTINGS


def count_flops(jaxpr) -> int:
    """Counts the operations of all matrix products of a program, from their shapes."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            lengths = (equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2 * equation.outvars[0].aval.size * math.prod(lengths)
        for inner in jaxprs_in_params(equation.params):
            total += count_flops(inner)
    return total


@pytest.mark.parametrize("name", ["small", "large"])
@pytest.mark.parametrize(
    "settings",
    [TINY, Settings(width=24, heads=3, layers=2, feed_forward=40, latent=300, local=0.5)],
)
def test_flops_match_the_traced_program(name, settings):
    """Forward pass and gradients of two encoded views and one decoded view."""
    shape, views = architecture(name, 1 if name == "small" else 3), 2
    codec = representation._codec(shape, settings)
    seen = {g.name: jnp.zeros((views, g.count, g.width)) for g in codec.tokenizer.groups}
    weights = {
        layer: {n: jnp.zeros((1, *sizes)) for n, sizes in leaves.items()}
        for layer, leaves in shape.parameter_shapes().items()
    }
    variables = jax.eval_shape(codec.init, jax.random.key(0))

    def loss(variables):
        _, projected, out, _ = codec.outputs(variables, seen, None, weights)
        return sum(map(jnp.sum, jax.tree.leaves((projected, out))))

    traced = jax.make_jaxpr(jax.grad(loss))(variables)
    assert representation._flops(shape, settings) == count_flops(traced.jaxpr)


@pytest.mark.slow
def test_zoojax_and_torch_are_measured(monkeypatch):
    monkeypatch.setattr(representation, "_settings", lambda: TINY)
    monkeypatch.setattr(representation, "compile_error", lambda case: "no compiler")
    case = representation.case("small")
    assert case == Case("representation", "small", TINY.batch_size)
    speeds = {name: measure() for name, measure in representation.backends(case, seconds=0.05)}
    assert list(speeds) == ["zoojax", "torch, eager"]
    assert all(np.isfinite(speed) and speed > 0 for speed in speeds.values())
    assert representation.skipped(case) == {"skipped: torch, compiled": "no compiler"}


def test_error_of_a_failed_process():
    task = {**asdict(TINY), "no_such_option": 1}
    with pytest.raises(ZoojaxError, match=r"torch_training failed: .*unexpected keyword"):
        torch_worker.speed("zoojax.experiments.bench.torch_training", task)


def test_rows(monkeypatch, capsys):
    """Speed relative to torch in eager mode, and as a fraction of the peak of matrix products."""
    speeds = {"zoojax": 30.0, "torch, eager": 10.0, "torch, compiled": 20.0}
    monkeypatch.setattr("zoojax.cli.bench.configure_jax", lambda: None)
    monkeypatch.setattr(
        "zoojax.experiments.bench.benchmark.gemm_peak", lambda seconds: lambda: 100.0
    )
    monkeypatch.setattr(
        "zoojax.experiments.bench.benchmark.memory_bandwidth", lambda seconds: lambda: 10.0
    )
    monkeypatch.setattr(
        representation,
        "backends",
        lambda case, seconds: ((name, lambda speed=speed: speed) for name, speed in speeds.items()),
    )
    monkeypatch.setattr(representation, "compile_error", lambda case: None)
    Bench(kinds=("representation",), repetitions=1, json=True).run()
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["backend"]: row["times_torch"] for row in rows} == {
        **{"zoojax": 3.0, "torch, eager": 1.0, "torch, compiled": 2.0}
    }
    flops = representation.flops(representation.case("small"))
    assert rows[0]["share_of_gemm"] == pytest.approx(30 * flops / 100e9)
    assert {row["batch_size"] for row in rows} == {SMALL.batch_size}
