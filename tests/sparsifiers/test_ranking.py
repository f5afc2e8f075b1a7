"""Masks of exact size compared with stable sorting in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.torch_models import made_up_params
from zoojax.architectures.cnn import small_cnn
from zoojax.architectures.parameters import kernels
from zoojax.sparsifiers.allocation import SCOPES, num_pruned
from zoojax.sparsifiers.ranking import highest, lowest, magnitudes, mask_of_highest
from zoojax.sparsifiers.score_pruning import pruning_mask

SIZE = 40
mark = {each: jax.jit(each) for each in (lowest, highest)}
# Few values, so that many are tied.
values = st.lists(
    st.sampled_from([0.0, -0.0, 1e-42, 0.5, 1.0, 3e38, np.inf]), min_size=SIZE, max_size=SIZE
)


def expected(scores, count, among, largest):
    """The first `count` candidates in a stable order of their scores."""
    order = np.argsort(-scores if largest else scores, kind="stable")
    marked = np.zeros(scores.shape, bool)
    marked[[i for i in order if among[i]][:count]] = True
    return marked


@pytest.mark.parametrize("function", [lowest, highest])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(scores=values, among=st.lists(st.booleans(), min_size=SIZE, max_size=SIZE), data=st.data())
def test_marks_match_a_stable_sort(function, scores, among, data):
    scores, among = np.array(scores, np.float32), np.array(among)
    count = data.draw(st.integers(0, int(among.sum())))
    marked = mark[function](jnp.asarray(scores), count, jnp.asarray(among))
    np.testing.assert_array_equal(
        marked, expected(scores, count, among, largest=function is highest)
    )


def test_marks_of_random_scores_have_every_shape_and_count():
    scores = np.abs(np.random.default_rng(0).normal(size=(3, 4, 5))).astype(np.float32)
    for count in range(scores.size + 1):
        low, high = mark[lowest](scores, count), mark[highest](scores, scores.size - count)
        assert low.shape == scores.shape
        assert low.sum() == count
        np.testing.assert_array_equal(low, ~high)


@pytest.mark.parametrize("scope", SCOPES)
def test_masks_equal_those_of_one_shot_pruning(scope):
    params = made_up_params(small_cnn(1, 10))
    weights = kernels(params)
    # Ties within and across layers.
    params["fc1"]["kernel"] = np.round(params["fc1"]["kernel"], 1)
    counts = num_pruned(0.7, {layer: w.shape for layer, w in weights.items()}, scope)
    counts = jax.tree.map(jnp.asarray, counts)
    actual = jax.jit(lambda p: mask_of_highest(magnitudes(kernels(p)), counts))(params)
    jax.tree.map(np.testing.assert_array_equal, actual, pruning_mask(params, counts))
