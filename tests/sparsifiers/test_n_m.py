"""N:M masks compared with an independent computation in torch, and with their definition."""

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import zoo_fixtures
from tests.support.torch_models import checkpoint, made_up_params, params_to_flax, trial
from zoojax import NMPruning, ZoojaxError, sparsify
from zoojax.architectures.cnn import small_cnn
from zoojax.architectures.parameters import kernels
from zoojax.architectures.registry import architecture
from zoojax.sparsifiers.n_m import n_m_mask

# (N, M)
PATTERNS = [(1, 4), (2, 4), (4, 8), (3, 5)]
by_pattern = pytest.mark.parametrize("n, m", PATTERNS, ids=lambda x: str(x))
mask_of = jax.jit(n_m_mask, static_argnums=2)


def torch_mask(weights: np.ndarray, n: int, m: int) -> np.ndarray:
    """The mask of one layer, group by group, with torch's `topk`."""
    columns = torch.from_numpy(np.array(weights)).reshape(-1, weights.shape[-1])
    mask = torch.zeros_like(columns, dtype=torch.bool)
    for unit in range(columns.shape[1]):
        for start in range(0, len(columns), m):
            group = columns[start : start + m, unit].abs()
            largest = torch.topk(group, min(n, len(group))).indices
            mask[start + largest, unit] = True
    return mask.numpy().reshape(weights.shape)


def assert_masks_match_torch(params, n, m):
    for layer, weights in kernels(params).items():
        expected = torch_mask(np.asarray(weights), n, m)
        np.testing.assert_array_equal(mask_of(weights, n, m), expected, err_msg=layer)
        inputs, units = weights.size // weights.shape[-1], weights.shape[-1]
        assert expected.sum() == units * (inputs // m * n + min(inputs % m, n))


@by_pattern
@pytest.mark.parametrize("name, channels", [("small", 1), ("mlp-16-12", 3)])
def test_masks_of_random_members_match_torch(name, channels, n, m):
    assert_masks_match_torch(made_up_params(architecture(name, channels)), n, m)


@by_pattern
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_masks_of_reference_members_match_torch(reference, seed, n, m):
    state = checkpoint(trial(reference, "dense", seed), 50)
    assert_masks_match_torch(params_to_flax(state, small_cnn(1, 10)), n, m)


def test_inputs_of_a_convolution_are_ordered_by_row_column_and_channel():
    """The second group of four starts in the middle of the second position's channels."""
    weights = jnp.arange(1.0, 13.0).reshape(2, 2, 3, 1)
    mask = np.asarray(mask_of(weights, 1, 4)).ravel()
    assert mask.nonzero()[0].tolist() == [3, 7, 11]


@pytest.mark.parametrize("rest, kept", [(1, 1), (2, 2), (3, 2), (0, 0)])
def test_rest_of_the_inputs_keeps_at_most_n(rest, kept):
    weights = jnp.arange(1.0, 8.0 + rest + 1).reshape(-1, 1)
    mask = np.asarray(mask_of(weights, 2, 4)).ravel()
    assert mask[:8].tolist() == [False, False, True, True] * 2
    assert mask[8:].tolist() == [False] * (rest - kept) + [True] * kept


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.floats(-4, 4, width=16), min_size=24, max_size=24),
    st.integers(1, 4),
)
def test_kept_weights_of_a_group_are_its_largest(values, n):
    """Also with ties: exactly N remain."""
    weights = jnp.asarray(values, jnp.float32).reshape(12, 2)
    mask = np.asarray(mask_of(weights, n, 4))
    for group, kept in zip(
        np.abs(weights).reshape(3, 4, 2).transpose(0, 2, 1).reshape(-1, 4),
        mask.reshape(3, 4, 2).transpose(0, 2, 1).reshape(-1, 4),
        strict=True,
    ):
        assert kept.sum() == n
        assert group[kept].min() >= group[~kept].max(initial=0)


def test_of_equal_magnitudes_the_first_are_pruned():
    mask = mask_of(jnp.array([[1.0], [-1.0], [1.0], [1.0]]), 2, 4)
    assert mask.ravel().tolist() == [False, False, True, True]


def test_n_of_each_member():
    members = pl.DataFrame({"seed": [1, 2, 3], "ratio": [0.0, 0.25, 0.75]})
    assert NMPruning().member_values(members, {})["n"].tolist() == [4, 3, 1]
    assert NMPruning(m=8).member_values(members, {})["n"].tolist() == [8, 6, 2]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"ratios": (0.6,)}, "N:M pruning ratio 0.6 is not a multiple of 1/4"),
        ({"ratios": (0.5, 0.9), "m": 8}, "N:M pruning ratio 0.9 is not a multiple of 1/8"),
        ({"ratios": (1.0,)}, r"N:M pruning ratio 1 is not in \[0, 1\)"),
        ({"m": 1}, "m of N:M pruning is 1; give a whole number from 2 to 64"),
        ({"m": True}, "m of N:M pruning is True"),
    ],
)
def test_invalid_options_are_refused(options, message):
    parents = pl.DataFrame({"id": [0], "parent_id": [0], "seed": [1]})
    with pytest.raises(ZoojaxError, match=message):
        NMPruning(**options).members(parents)


def test_pattern_holds_in_every_group_after_training(tmp_path_factory):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    twin = sparsify(zoo, NMPruning(ratios=(0.5, 0.75)), epochs=1, members=1, quiet=True)
    for epoch in twin.epochs:
        for weights in kernels(twin.sparse_params(epoch)).values():
            for member, n in zip(weights, (2, 1), strict=True):
                columns = member.reshape(-1, member.shape[-1])
                padded = np.pad(columns, ((0, -len(columns) % 4), (0, 0)))
                nonzero = (padded.reshape(-1, 4, padded.shape[-1]) != 0).sum(axis=1)
                assert nonzero.max() == n
                assert (nonzero[: len(columns) // 4] == n).all()
