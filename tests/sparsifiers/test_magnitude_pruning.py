"""Pruning masks compared with torch.nn.utils.prune and with reference twins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import prune

from tests.support.torch_models import (
    TorchCNN,
    checkpoint,
    layer_prefixes,
    load,
    made_up_params,
    numpy_state,
    params_to_flax,
    trial,
)
from zoojax.architectures import parameters
from zoojax.architectures.cnn import small_cnn
from zoojax.architectures.registry import architecture
from zoojax.converters.layouts import networks as layout
from zoojax.errors import ZoojaxError
from zoojax.runtime import population
from zoojax.sparsifiers import score_pruning
from zoojax.sparsifiers.allocation import num_pruned
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.training import metrics

# Scopes of torch.nn.utils.prune.
SCOPES = ("global", "layer")
RATIOS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
SMALL = small_cnn(1, 10)

prune_at_all_counts = jax.jit(jax.vmap(score_pruning.init_pruned, in_axes=(None, 0)))


def shapes(params):
    return {layer: w.shape for layer, w in parameters.kernels(params).items()}


def counts(params, scope):
    """Numbers of pruned weights for all RATIOS, stacked."""
    return population.stack([num_pruned(r, shapes(params), scope) for r in RATIOS])


def torch_masks(params, arch, scope, ratio):
    """Masks of torch.nn.utils.prune by layer, in the axis order of Flax."""
    module = TorchCNN(arch.name, arch.channels, "tanh")
    load(module, params, arch)
    if scope == "global":
        prune.global_unstructured(module.prunable(), prune.L1Unstructured, amount=ratio)
    else:
        for layer, name in module.prunable():
            prune.l1_unstructured(layer, name, amount=ratio)
    return masks_of(numpy_state(module.state_dict()), arch)


def masks_of(state, arch):
    return {
        layer: layout.kernel_to_flax(layer, state[f"{prefix}.weight_mask"], arch) == 1
        for layer, prefix in layer_prefixes(state, arch).items()
    }


def assert_masks_match_torch(params, arch, scope):
    trainable, fixed = prune_at_all_counts(params, counts(params, scope))
    for i, ratio in enumerate(RATIOS):
        mask = population.take(fixed["mask"], i)
        expected = torch_masks(params, arch, scope, ratio)
        assert mask.keys() == expected.keys()
        for layer in expected:
            np.testing.assert_array_equal(mask[layer], expected[layer], err_msg=f"{ratio} {layer}")
            kept = np.where(expected[layer], params[layer]["kernel"], 0)
            np.testing.assert_array_equal(trainable["params"][layer]["kernel"][i], kept)
            np.testing.assert_array_equal(
                trainable["params"][layer]["bias"][i], params[layer]["bias"]
            )


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name, channels", [("small", 1), ("large", 3)])
def test_masks_of_random_members_match_torch(name, channels, scope):
    arch = architecture(name, channels)
    assert_masks_match_torch(made_up_params(arch), arch, scope)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_masks_of_reference_members_match_torch(reference, seed, scope):
    state = checkpoint(trial(reference, "dense", seed), 50)
    assert_masks_match_torch(params_to_flax(state, SMALL), SMALL, scope)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_pruned_parents_match_reference_twins(reference, seed):
    parent = params_to_flax(checkpoint(trial(reference, "dense", seed), 50), SMALL)
    trainable, fixed = prune_at_all_counts(parent, counts(parent, "global"))
    for i, ratio in enumerate(RATIOS):
        if ratio < 0.5:  # not in the reference
            continue
        twin = checkpoint(trial(reference, "mp", seed, round(100 * ratio)), 0)
        twin_params = params_to_flax(twin, SMALL)
        for layer, mask in masks_of(twin, SMALL).items():
            np.testing.assert_array_equal(fixed["mask"][layer][i], mask)
            for name in ("kernel", "bias"):
                actual = trainable["params"][layer][name][i]
                np.testing.assert_array_equal(actual, twin_params[layer][name])


# Counts


@pytest.mark.parametrize(
    "ratio, size, expected",
    [
        (0.5, 5, 2),
        (0.5, 7, 4),
        (0.25, 2, 0),
        (0.25, 6, 2),
        (0.75, 2, 2),
        (0.5, 1, 0),
        (0.9, 2416, 2174),
        (0.1, 2416, 242),
        (0.0, 2416, 0),
        (0.999, 10, 10),
    ],
)
def test_counts_round_half_to_even(ratio, size, expected):
    assert num_pruned(ratio, {"a": (size,)}, "layer") == {"a": expected}
    assert num_pruned(ratio, {"a": (size - 1,), "b": (1,)}, "global") == {"all": expected}
    # The reference implementation.
    assert prune._compute_nparams_toprune(ratio, size) == expected


@pytest.mark.parametrize("ratio", [1.0, 1.5, -0.1, float("nan"), float("inf")])
def test_ratio_out_of_range_is_refused(ratio):
    with pytest.raises(ZoojaxError, match=rf"pruning ratio {ratio:g} is not in \[0, 1\)"):
        num_pruned(ratio, {"a": (10,)}, "global")


def test_unknown_scope_is_refused():
    with pytest.raises(
        ZoojaxError, match="no pruning scope named 'all'; there are: global, layer, unit"
    ):
        num_pruned(0.5, {"a": (10,)}, "all")


def params_from(values):
    """Parameters of two layers, with 6 and 10 weights, from 16 values."""
    values = np.asarray(values, np.float32)
    return {
        "conv1": {"kernel": jnp.asarray(values[:6].reshape(1, 2, 3, 1)), "bias": jnp.ones(1)},
        "fc1": {"kernel": jnp.asarray(values[6:].reshape(5, 2)), "bias": jnp.zeros(2)},
    }


prune_member = jax.jit(score_pruning.init_pruned)


@pytest.mark.parametrize("count", range(17))
def test_exact_count_with_ties(count):
    for values in (np.ones(16), np.zeros(16), [1, -1] * 8, [0, 1, -1, 2] * 4):
        mask = prune_member(params_from(values), {"all": jnp.int32(count)})[1]["mask"]
        assert sum(int((~m).sum()) for m in mask.values()) == count
        by_layer = {"conv1": jnp.int32(min(count, 6)), "fc1": jnp.int32(min(count, 10))}
        mask = prune_member(params_from(values), by_layer)[1]["mask"]
        assert {layer: int((~m).sum()) for layer, m in mask.items()} == by_layer


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.floats(-4, 4, width=16), min_size=16, max_size=16),
    st.integers(0, 16),
)
def test_kept_weights_are_at_least_as_large_as_pruned_ones(values, count):
    params = params_from(values)
    trainable, fixed = prune_member(params, {"all": jnp.int32(count)})
    mask = np.concatenate([fixed["mask"][layer].ravel() for layer in ("conv1", "fc1")])
    kept, removed = np.abs(values)[mask], np.abs(values)[~mask]
    assert removed.size == count
    assert kept.min(initial=np.inf) >= removed.max(initial=0)
    after = np.concatenate([trainable["params"][n]["kernel"].ravel() for n in ("conv1", "fc1")])
    np.testing.assert_array_equal(after, np.where(mask, np.asarray(values, np.float32), 0))


@pytest.mark.parametrize("scope", SCOPES)
def test_ratio_zero_keeps_all_weights(scope):
    params = params_from(np.zeros(16))
    zero_counts = num_pruned(0.0, {"conv1": (6, 1), "fc1": (5, 2)}, scope)
    trainable, fixed = prune_member(params, jax.tree.map(jnp.int32, zero_counts))
    assert all(m.all() for m in fixed["mask"].values())
    jax.tree.map(np.testing.assert_array_equal, trainable["params"], params)


def test_population_matches_single_members():
    rng = np.random.default_rng(1)
    members = [params_from(rng.normal(size=16)) for _ in range(3)]
    removed = jnp.array([0, 5, 11])
    trainable, fixed = jax.vmap(score_pruning.init_pruned)(
        population.stack(members), {"all": removed}
    )
    for i, member in enumerate(members):
        expected = prune_member(member, {"all": removed[i]})
        actual = population.take((trainable, fixed), i)
        jax.tree.map(np.testing.assert_array_equal, actual, expected)
    sparsity = jax.vmap(metrics.sparsity)(trainable["params"])["sparsity"]
    np.testing.assert_allclose(sparsity, removed / 16)


def test_projection_zeroes_nan_weights_but_no_biases():
    params = params_from([np.nan, np.inf] + [1.0] * 14)
    params["conv1"]["bias"] = jnp.array([np.nan])
    mask = {"conv1": jnp.ones((1, 2, 3, 1), bool).at[0, 0, :2, 0].set(False)}
    mask["fc1"] = jnp.ones((5, 2), bool)
    after = MagnitudePruning().project({"params": params}, {"mask": mask})["params"]
    np.testing.assert_array_equal(after["conv1"]["kernel"].ravel(), [0, 0, 1, 1, 1, 1])
    assert np.isnan(after["conv1"]["bias"]).all()
    np.testing.assert_array_equal(after["fc1"]["kernel"], params["fc1"]["kernel"])
