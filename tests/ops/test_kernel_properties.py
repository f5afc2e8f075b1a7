"""Both engines agree on random architectures, activations, sparsifiers, orders and sizes."""

import dataclasses
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from tests.support.kernel import needs_kernel, scale_for
from tests.support.torch_models import made_up_batch, made_up_params
from zoojax.architectures import parameters
from zoojax.architectures.chain import Chain
from zoojax.architectures.cnn import Block, cnn
from zoojax.architectures.layers import ACTIVATIONS
from zoojax.ops import kernel
from zoojax.runtime import population
from zoojax.sparsifiers import score_pruning, variational_dropout
from zoojax.sparsifiers.dense import Dense
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.variational_dropout import VariationalDropout
from zoojax.training import loop, task_programs
from zoojax.training.programs import ORDERS, ProgramSpec, Splits

# No size divides another: sides, channels, features, classes.
ODD = cnn(
    *("odd", 17, 2, 3),
    (Block(5, 3, 2, True), Block(7, 2, 1, False), Block(3, 3, 2, True)),
    hidden=7,
)
IMAGES = 24
# One example takes many seconds, so failing examples are not shrunk.
UNSHRUNK = tuple(phase for phase in Phase if phase not in (Phase.shrink, Phase.explain))

pytestmark = needs_kernel


PRUNING, DROPOUT = MagnitudePruning().shared(), VariationalDropout().shared()


@functools.cache
def images(arch: Chain) -> Splits:
    batch = made_up_batch(arch, IMAGES)
    pair = (batch.images, batch.labels % arch.classes)
    return Splits(pair, pair, pair)


def untrained(spec: ProgramSpec, count: int) -> loop.TrainState:
    params = population.stack([made_up_params(spec.architecture, s) for s in range(count)])
    # Away from zero: sigma^2 = alpha w^2 depends on w only through rounding errors, which grow
    # with 1/w, until log alpha is clipped and its gradient is discontinuous.
    params = jax.tree.map(lambda w: w + np.float32(0.05) * np.sign(w), params)
    scale = scale_for(spec.activation)
    params = jax.tree.map(lambda w: w * scale, params)
    trainable, fixed = {"params": params}, {}
    if spec.sparsifier == DROPOUT:
        log_sigma2 = variational_dropout.init_log_sigma2(params, "released")
        rng = np.random.default_rng(count)
        trainable["log_sigma2"] = jax.tree.map(
            lambda x: (rng.uniform(-6, -2, x.shape) + 2 * np.log(scale)).astype(np.float32),
            log_sigma2,
        )
    if spec.sparsifier == PRUNING:
        total = sum(w[0].size for w in parameters.kernels(params).values())
        pruned = {"all": jnp.arange(count) % total}
        trainable, fixed = jax.vmap(score_pruning.init_pruned)(params, pruned)
    init = jax.jit(jax.vmap(lambda t, f: loop.init_state(t, f, spec.optimizer)))
    return init(trainable, fixed)


def trained(spec: ProgramSpec, count: int) -> tuple[loop.TrainState, dict]:
    """Trains one epoch of three or four steps, the last batch partially filled, and evaluates."""
    mesh = population.make_mesh(jax.devices()[:1])
    # SGD, since Adam would turn a gradient that consists of rounding errors into a full step.
    # Small learning rates, so that rounding errors of one step are not amplified by the next.
    hyper = loop.Hyperparams(
        *(jnp.arange(count, dtype=jnp.uint32), jnp.linspace(1e-5, 1e-4, count)),
        *(jnp.linspace(0, 1e-2, count), jnp.linspace(0.1, 0.6, count)),
    )
    program = jax.jit(task_programs.epoch(spec, mesh))
    return program(untrained(spec, count), hyper, images(spec.architecture), np.int32(2))


def assert_engines_agree(spec: ProgramSpec, count: int) -> None:
    actual, metrics = trained(dataclasses.replace(spec, engine="kernel"), count)
    expected, expected_metrics = trained(dataclasses.replace(spec, engine="xla"), count)
    # The momentum, a sum of gradients, differs more between engines than weights after small
    # steps. Its terms may cancel.
    for actual_tree, expected_tree, tolerance in (
        (actual.trainable, expected.trainable, 1e-6),
        (actual.optimizer, expected.optimizer, 1e-4),
    ):
        for (path, a), b in zip(
            jax.tree.leaves_with_path(actual_tree), jax.tree.leaves(expected_tree), strict=True
        ):
            difference = np.abs(np.subtract(a, b)) / (np.abs(b).max() + np.abs(b))
            assert difference.max() < tolerance, path
    for name, value in expected_metrics.items():
        if name.endswith("_acc"):  # a prediction that depends on rounding may differ
            np.testing.assert_allclose(metrics[name], value, atol=1.5 / IMAGES)
        else:
            np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)
    if spec.sparsifier == PRUNING:
        for layer, mask in actual.fixed["mask"].items():
            weights = actual.trainable["params"][layer]["kernel"]
            assert not np.asarray(weights)[~np.asarray(mask)].any()


@st.composite
def program_specs(draw: st.DrawFn, arch: Chain) -> ProgramSpec:
    return ProgramSpec(
        draw(st.sampled_from([Dense(), PRUNING, DROPOUT])),
        arch,
        draw(st.sampled_from(list(ACTIVATIONS))),
        "sgd",
        draw(st.booleans()),
        draw(st.sampled_from([7, 10])),
        draw(st.sampled_from(ORDERS)),
    )


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        pytest.param(
            *(ProgramSpec(DROPOUT, ODD, "gelu", "sgd", True, 10, "shared"), 17),
            marks=pytest.mark.slow,
        ),
        (ProgramSpec(PRUNING, ODD, "relu", "sgd", False, 7, "member"), 100),
    ],
)
def test_selected_programs_agree(spec, count):
    assert_engines_agree(spec, count)


# The seed fixes the examples: if two pixels of a pooling window are equal up to rounding, the
# engines may send the gradient to different ones.
@pytest.mark.slow
@seed(0)
@given(program_specs(ODD), st.sampled_from([1, 15, 17, 100]))
@settings(max_examples=20, phases=UNSHRUNK, derandomize=True)
def test_random_programs_agree(spec, count):
    """Each example compiles two programs."""
    assert_engines_agree(spec, count)


@st.composite
def shapes(draw: st.DrawFn) -> Chain:
    """Random CNNs of three convolutions with a non-empty output."""
    convs, side = [], draw(st.integers(12, 20))
    size = side
    for _ in range(3):
        pool = draw(st.sampled_from([p for p in (1, 2) if side >= p]))
        kernel_side = draw(st.integers(1, min(5, side - pool + 1)))
        side = (side - kernel_side + 1) // pool
        convs.append(Block(draw(st.integers(1, 17)), kernel_side, pool, draw(st.booleans())))
    return cnn(
        *("drawn", size, draw(st.integers(1, 4)), draw(st.integers(2, 12)), tuple(convs)),
        hidden=draw(st.integers(1, 24)),
    )


@pytest.mark.slow
@seed(0)
@given(st.data())
@settings(max_examples=15, phases=UNSHRUNK, derandomize=True)
def test_random_architectures_agree(tmp_path_factory, data):
    """Each example compiles a kernel, which is not stored in the user's cache."""
    arch = data.draw(shapes())
    spec = data.draw(program_specs(arch))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp()))
        assert kernel.unavailable_reason(arch.kernel) is None
    assert_engines_agree(spec, data.draw(st.sampled_from([1, 15, 17])))


@pytest.mark.slow
def test_kernel_with_sanitizers(tmp_path):
    """Runs the kernel's tests with the address and undefined-behavior sanitizers."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not installed")
    sanitized = tmp_path / "sanitized-g++"
    sanitized.write_text(
        f'#!/bin/sh\nexec {compiler} "$@" -O1 -g -fsanitize=address,undefined '
        "-fno-sanitize-recover=all\n"
    )
    sanitized.chmod(0o755)

    def runtime(name: str) -> str:
        result = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True)
        return result.stdout.decode().strip()

    tests = Path(__file__).parent
    environment = {
        **os.environ,
        "CXX": str(sanitized),
        "XDG_CACHE_HOME": str(tmp_path),
        "LD_PRELOAD": f"{runtime('libasan.so')} {runtime('libubsan.so')}",
        # Python and XLA do not free all memory at exit.
        "ASAN_OPTIONS": "detect_leaks=0",
    }
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-x"),
            *(
                str(tests / f"test_kernel{name}.py")
                for name in ("", "_chains", "_penalty", "_properties", "_steps")
            ),
        ],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    assert list(tmp_path.glob("zoojax/kernels/*/*.so")), "the sanitized kernel was not used"
