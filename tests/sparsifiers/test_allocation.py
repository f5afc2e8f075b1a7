"""Allocations of weights to layers, compared with the papers' formulas."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zoojax import MagnitudePruning, ZoojaxError
from zoojax.sparsifiers.allocation import SCOPES, num_pruned
from zoojax.sparsifiers.score_pruning import pruning_mask

WIDTH = st.integers(1, 40)
CONV = st.tuples(side := st.integers(1, 5), side, WIDTH, WIDTH)
LAYERS = st.lists(st.one_of(CONV, st.tuples(WIDTH, WIDTH)), min_size=1, max_size=5).map(
    lambda shapes: {f"layer{i}": shape for i, shape in enumerate(shapes)}
)
mask_of = jax.jit(pruning_mask)
RATIO = st.floats(0, 0.999)
LENET5 = {"conv1": (5, 5, 1, 6), "conv2": (5, 5, 6, 16), "fc1": (400, 120), "fc2": (120, 10)}


def densities(shapes, density, scope):
    """Real-valued densities: dense layers are found one by one, the most crowded first."""
    sizes = {n: math.prod(s) for n, s in shapes.items()}
    if scope == "er":
        raw = {n: (s[-2] + s[-1]) / (s[-2] * s[-1]) for n, s in shapes.items()}
    else:
        raw = {n: sum(s) / math.prod(s) for n, s in shapes.items()}
    dense = set()
    while True:
        others = [n for n in shapes if n not in dense]
        left = density * sum(sizes.values()) - sum(sizes[n] for n in dense)
        factor = left / sum(raw[n] * sizes[n] for n in others) if others else 0
        crowded = max(others, key=lambda n: raw[n], default=None)
        if crowded is None or factor * raw[crowded] <= 1:
            return {n: 1.0 if n in dense else factor * raw[n] for n in shapes}
        dense.add(crowded)


@pytest.mark.parametrize("scope", ["er", "erk"])
@settings(max_examples=80, derandomize=True)
@given(shapes=LAYERS, ratio=RATIO)
@example(shapes=LENET5, ratio=0.9)
@example(shapes={"a": (3, 3)}, ratio=0.0)
def test_erdos_renyi_allocations_follow_the_papers(scope, shapes, ratio):
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    total = sum(sizes.values())
    pruned = num_pruned(ratio, shapes, scope)
    assert sum(int(x) for x in pruned.values()) == round(ratio * total)
    kept = total - round(ratio * total)
    for name, density in densities(shapes, kept / total, scope).items():
        assert 0 <= pruned[name] <= sizes[name]
        # Counts are rounded up or down.
        assert abs(sizes[name] - pruned[name] - density * sizes[name]) < 1 + 1e-6


def test_layers_that_would_be_too_dense_are_dense():
    pruned = num_pruned(0.5, LENET5, "erk")
    assert (pruned["conv1"], pruned["fc2"]) == (0, 0)
    assert 0 < pruned["conv2"] / 2400 < pruned["fc1"] / 48000
    assert sum(pruned.values()) == round(0.5 * (150 + 2400 + 48000 + 1200))


@settings(max_examples=40, derandomize=True)
@given(shapes=LAYERS, ratio=RATIO)
def test_units_share_the_count_of_their_layer(shapes, ratio):
    by_layer = num_pruned(ratio, shapes, "layer")
    for name, counts in num_pruned(ratio, shapes, "unit").items():
        assert counts.shape == shapes[name][-1:]
        assert counts.sum() == by_layer[name]
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("scope", SCOPES)
def test_masks_have_the_exact_counts(scope):
    rng = np.random.default_rng(0)
    # Many weights have the same magnitude.
    params = {
        name: {"kernel": jnp.asarray(rng.integers(-2, 3, shape).astype(np.float32))}
        for name, shape in LENET5.items()
    }
    for ratio in (0.0, 0.37, 0.9, 0.999):
        pruned = num_pruned(ratio, LENET5, scope)
        mask = {name: ~np.asarray(kept) for name, kept in mask_of(params, pruned).items()}
        if scope == "global":
            assert sum(gone.sum() for gone in mask.values()) == pruned["all"]
            continue
        for name, count in pruned.items():
            axes = tuple(range(mask[name].ndim - 1)) if scope == "unit" else None
            np.testing.assert_array_equal(mask[name].sum(axes), count)


def test_unknown_scope_is_refused():
    with pytest.raises(ZoojaxError, match="no pruning scope named 'all'; there are: global"):
        MagnitudePruning(scope="all")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "scope, text", [("global", "global pruning"), ("erk", "Erdos-Renyi-kernel pruning")]
)
def test_description(scope, text):
    assert MagnitudePruning(scope=scope).describe() == text
