"""Twins pruned by scores: the command line, and members that depend on themselves alone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import zoo_fixtures
from zoojax import MagnitudePruning, ZoojaxError, functional, open_zoo, sparsify
from zoojax.architectures.parameters import kernels
from zoojax.runtime import population
from zoojax.sparsifiers.registry import sparsifiers
from zoojax.sparsifiers.score_pruning import ScorePruning

# One-shot methods; other subclasses of ScorePruning prune while training.
METHODS: dict[str, Any] = {
    name: kind
    for name, kind in sparsifiers().items()
    if kind is MagnitudePruning or (issubclass(kind, ScorePruning) and kind.has_mask_only)
}
# The images of the tiny zoo are 65.
OPTIONS = {"samples": 40, "iterations": 4}
WEIGHTS = 2416


@pytest.fixture
def dense(tmp_path_factory):
    return zoo_fixtures.dense(tmp_path_factory)


def options_of(name: str) -> dict[str, int]:
    return {key: x for key, x in OPTIONS.items() if hasattr(METHODS[name], key)}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            n, marks=() if n in ("random_pruning", "synflow", "wanda") else pytest.mark.slow
        )
        for n in METHODS
    ],
)
def test_members_are_their_own_whatever_their_neighbors(tmp_path_factory, tmp_path, dense, name):
    """A command for all members, and a call for one of them at one ratio, with equal bits."""
    words = [w for key, x in options_of(name).items() for w in (f"--{key}", x)]
    done = zoo_fixtures.cli(
        tmp_path_factory,
        *("sparsify", name.replace("_", "-"), dense.path, "--out", tmp_path / "twin", "--quiet"),
        *("--ratios", 0.5, 0.9, "--epochs", 0, "--chunk", zoo_fixtures.CHUNK, "--epoch", 1, *words),
    )
    assert (done.returncode, done.stderr) == (0, "")
    twin = open_zoo(tmp_path / "twin")
    sparsifier = METHODS[name](ratios=(0.9,), **options_of(name))
    assert twin.config.sparsifier == sparsifier.shared()
    assert twin.config.parent is not None and twin.config.parent.epoch == 1
    alone = sparsify(dense, sparsifier, members=[2], epoch=1, epochs=0, chunk=1, quiet=True)
    expected = population.take(twin.state(), np.s_[5:])
    assert zoo_fixtures.same_bits(alone.state(), expected)
    state = twin.state()
    for path, mask in state["mask"].items():
        assert (state["params"][path]["kernel"][~mask] == 0).all()
    kept = np.concatenate([m.reshape(6, -1) for m in state["mask"].values()], 1)
    if sparsifier.scope == "global":
        assert (~kept).sum(1).tolist() == [round(r * WEIGHTS) for r in (0.5, 0.9)] * 3


def test_scores_of_random_pruning_are_nested_and_differ_by_seed(dense):
    twin = sparsify(dense, METHODS["random_pruning"]((0.5, 0.9)), epochs=0, quiet=True)
    masks = np.concatenate([m.reshape(6, -1) for m in twin.state()["mask"].values()], 1)
    for less, more in masks.reshape(3, 2, -1):
        assert (less | ~more).all()
    assert not np.array_equal(masks[0], masks[2])


def test_scopes_of_data_dependent_scores(dense):
    """Erdos-Renyi-kernel keeps the small layers, here by SNIP."""
    pruning = METHODS["snip"]((0.5,), scope="erk", samples=40)
    state = sparsify(dense, pruning, epochs=0, quiet=True).state()
    density = {path: float(mask.mean()) for path, mask in state["mask"].items()}
    assert density["conv1"] > density["conv2"]
    assert sum(int((~mask[0]).sum()) for mask in state["mask"].values()) == WEIGHTS // 2


def test_fine_tuning_keeps_the_mask(dense):
    twin = sparsify(dense, METHODS["snip"]((0.9,), samples=40), epochs=1, quiet=True)
    first, last = twin.state(0), twin.state(1)
    assert zoo_fixtures.same_bits(first["mask"], last["mask"])
    assert not zoo_fixtures.same_bits(first["params"], last["params"])
    for path, weights in kernels(last["params"]).items():
        assert (weights[~last["mask"][path]] == 0).all()
    assert METHODS["snip"].default_epochs == 15


@pytest.mark.parametrize(
    "name, options, problem",
    [
        ("snip", {"samples": 0}, "0 samples; give at least 1"),
        ("wanda", {"samples": 1.5}, "samples is 1.5"),
        ("synflow", {"iterations": 0}, "0 iterations; give at least 1"),
        ("grasp", {"temperature": 0.0}, "temperature 0 is not positive and finite"),
        ("grasp", {"temperature": float("inf")}, "temperature inf is not positive and finite"),
        ("grasp", {"temperature": "hot"}, "temperature is hot; give a number"),
        ("obs", {"damping": -1.0}, "damping -1 is not positive and finite"),
        ("taylor", {"scope": "all"}, "no pruning scope named 'all'"),
    ],
)
def test_invalid_options_are_refused(name, options, problem):
    with pytest.raises(ZoojaxError, match=problem):
        METHODS[name](**options)


@pytest.mark.parametrize("name", ["snip", "synflow"])
def test_diverged_members_have_exact_counts(name):
    """NaN is higher than all scores; ties are broken by index."""
    member = functional.init("small", 1)
    broken = member.with_params(jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), member.params))
    images = np.zeros((40, 28, 28, 1), np.float32)
    pruning = METHODS[name]((0.5,), scope="global", **options_of(name))
    run = jax.jit(functional.sparsify, static_argnums=1)
    mask = run(broken, pruning, images, np.zeros(40, int)).state.fixed["mask"]
    assert sum(int((~kept).sum()) for kept in mask.values()) == WEIGHTS // 2
