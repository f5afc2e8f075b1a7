"""Both engines train alike: over shapes, activations, kinds of zoos, orders and populations."""

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
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.support.torch_models import made_up_batch, made_up_params
from zoojax.architectures import parameters
from zoojax.architectures.base import Architecture, ConvSpec, architecture
from zoojax.architectures.layers import ACTIVATIONS
from zoojax.ops import kernel
from zoojax.runtime import population
from zoojax.sparsifiers import magnitude, variational_dropout
from zoojax.training import loop, programs
from zoojax.training.programs import KINDS, ORDERS, ProgramSpec, Splits

SMALL = architecture("small", 1)
# Nothing in it divides anything: sides, channels, features, classes.
ODD = Architecture(
    *("odd", 17, 2, 3),
    (ConvSpec(5, 3, 2, True), ConvSpec(7, 2, 1, False), ConvSpec(3, 3, 2, True)),
    hidden=7,
)
IMAGES = 24
# An example takes many seconds: what fails is told as it was found.
UNSHRUNK = tuple(phase for phase in Phase if phase not in (Phase.shrink, Phase.explain))

pytestmark = pytest.mark.skipif(
    kernel.unavailable_reason(SMALL) is not None,
    reason=f"no kernel here: {kernel.unavailable_reason(SMALL)}",
)


@functools.cache
def images(arch: Architecture) -> Splits:
    batch = made_up_batch(arch, IMAGES)
    pair = (batch.images, batch.labels % arch.classes)
    return Splits(pair, pair, pair)


def untrained(recipe: ProgramSpec, count: int) -> loop.TrainState:
    params = population.stack([made_up_params(recipe.architecture, s) for s in range(count)])
    # Away from zero: sigma^2 = alpha w^2 does not depend on w but by rounding, which goes with
    # 1/w, until log alpha is clipped, where its gradient jumps.
    params = jax.tree.map(lambda w: w + np.float32(0.05) * np.sign(w), params)
    trainable, fixed = {"params": params}, {}
    if recipe.kind == "vd":
        log_sigma2 = variational_dropout.init_log_sigma2(params, "released")
        rng = np.random.default_rng(count)
        trainable["log_sigma2"] = jax.tree.map(
            lambda x: rng.uniform(-6, -2, x.shape).astype(np.float32), log_sigma2
        )
    if recipe.kind == "mp":
        total = sum(w[0].size for w in parameters.kernels(params).values())
        pruned = {"all": jnp.arange(count) % total}
        trainable, fixed = magnitude.prune_population(params, pruned)
    begin = jax.jit(jax.vmap(lambda t, f: loop.init_state(t, f, recipe.optimizer)))
    return begin(trainable, fixed)


def trained(recipe: ProgramSpec, count: int) -> tuple[loop.TrainState, dict]:
    """One epoch of three or four steps, the last batch not full, and its evaluation."""
    mesh = population.make_mesh(jax.devices()[:1])
    # Steps of SGD, lest Adam make a sign of what rounding leaves of a gradient near zero; and
    # small ones, lest what rounding leaves of one step be made more of by the next.
    hyper = loop.Hyperparams(
        *(jnp.arange(count, dtype=jnp.uint32), jnp.linspace(1e-5, 1e-4, count)),
        *(jnp.linspace(0, 1e-2, count), jnp.linspace(0.1, 0.6, count)),
    )
    program = jax.jit(programs.epoch(recipe, mesh))
    return program(untrained(recipe, count), hyper, images(recipe.architecture), np.int32(2))


def assert_engines_agree(recipe: ProgramSpec, count: int) -> None:
    ours, measured = trained(dataclasses.replace(recipe, engine="kernel"), count)
    theirs, expected = trained(dataclasses.replace(recipe, engine="xla"), count)
    # Momentum, a sum of gradients, tells more of the engines than weights after small steps.
    # Its terms may cancel.
    for got, wanted, close in (
        (ours.trainable, theirs.trainable, 1e-6),
        (ours.optimizer, theirs.optimizer, 1e-4),
    ):
        for (path, a), b in zip(
            jax.tree.leaves_with_path(got), jax.tree.leaves(wanted), strict=True
        ):
            difference = np.abs(np.subtract(a, b)) / (np.abs(b).max() + np.abs(b))
            assert difference.max() < close, path
    for name, value in expected.items():
        if name.endswith("_acc"):  # an answer that hangs on rounding may fall either way
            np.testing.assert_allclose(measured[name], value, atol=1.5 / IMAGES)
        else:
            np.testing.assert_allclose(measured[name], value, rtol=1e-4, err_msg=name)
    if recipe.kind == "mp":
        for layer, mask in ours.fixed["mask"].items():
            kept = ours.trainable["params"][layer]["kernel"]
            assert not np.asarray(kept)[~np.asarray(mask)].any()


@st.composite
def recipes(draw: st.DrawFn, arch: Architecture) -> ProgramSpec:
    return ProgramSpec(
        draw(st.sampled_from(KINDS)),
        arch,
        draw(st.sampled_from(list(ACTIVATIONS))),
        "sgd",
        draw(st.booleans()),
        draw(st.sampled_from([7, 10])),
        draw(st.sampled_from(ORDERS)),
    )


@pytest.mark.parametrize(
    ("recipe", "count"),
    [
        pytest.param(
            *(ProgramSpec("vd", ODD, "gelu", "sgd", True, 10, "shared"), 17), marks=pytest.mark.slow
        ),
        (ProgramSpec("mp", ODD, "relu", "sgd", False, 7, "member"), 100),
    ],
)
def test_two_ways_of_training(recipe, count):
    assert_engines_agree(recipe, count)


# The same examples every time: where two pixels of a pool are equal but for rounding, engines
# may send its gradient to one or the other.
@pytest.mark.slow
@given(recipes(ODD), st.sampled_from([1, 15, 17, 100]))
@settings(max_examples=20, phases=UNSHRUNK, derandomize=True)
def test_every_way_of_training(recipe, count):
    """Each example compiles two programs."""
    assert_engines_agree(recipe, count)


@st.composite
def shapes(draw: st.DrawFn) -> Architecture:
    """Any CNN of three convolutions that leaves something of its images."""
    convs, side = [], draw(st.integers(12, 20))
    size = side
    for _ in range(3):
        pool = draw(st.sampled_from([p for p in (1, 2) if side >= p]))
        kernel_side = draw(st.integers(1, min(5, side - pool + 1)))
        side = (side - kernel_side + 1) // pool
        convs.append(ConvSpec(draw(st.integers(1, 17)), kernel_side, pool, draw(st.booleans())))
    return Architecture(
        *("drawn", size, draw(st.integers(1, 4)), draw(st.integers(2, 12)), tuple(convs)),
        hidden=draw(st.integers(1, 24)),
    )


@pytest.mark.slow
@given(st.data())
@settings(max_examples=15, phases=UNSHRUNK, derandomize=True)
def test_every_shape(tmp_path_factory, data):
    """Compiles a kernel an example, kept apart from the user's."""
    arch = data.draw(shapes())
    recipe = data.draw(recipes(arch))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp()))
        assert kernel.unavailable_reason(arch) is None
    assert_engines_agree(recipe, data.draw(st.sampled_from([1, 15, 17])))


def test_shapes_that_it_is_not_written_for():
    wide = dataclasses.replace(SMALL, convs=(ConvSpec(4, 3, 3, False), *SMALL.convs[1:]))
    short = dataclasses.replace(SMALL, convs=SMALL.convs[:2])
    assert all(
        "three convolutions" in str(kernel.unavailable_reason(arch)) for arch in (wide, short)
    )


@pytest.mark.slow
def test_sanitizers_find_nothing(tmp_path):
    """The kernel's tests again, it compiled with the address and undefined sanitizers."""
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
        found = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True)
        return found.stdout.decode().strip()

    tests = Path(__file__).parent
    environment = {
        **os.environ,
        "CXX": str(sanitized),
        "XDG_CACHE_HOME": str(tmp_path),
        "LD_PRELOAD": f"{runtime('libasan.so')} {runtime('libubsan.so')}",
        # Python and XLA never free all they have.
        "ASAN_OPTIONS": "detect_leaks=0",
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-x"),
            *(str(tests / "test_kernel.py"), str(tests / "test_kernel_properties.py")),
        ],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert list(tmp_path.glob("zoojax/kernels/*/*.so")), "the sanitized kernel was not used"
