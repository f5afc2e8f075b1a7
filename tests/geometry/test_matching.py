"""Weight matching: planted symmetries are undone, and the distance never increases."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.plugins.residual_cnn import ResidualCNN
from tests.support.symmetries import changed, copies, is_undone, random_transform
from tests.support.torch_models import made_up_batch, made_up_params, made_up_variables
from zoojax.architectures.base import logits
from zoojax.architectures.chain import Chain
from zoojax.architectures.chain_layers import Activation, Conv, Dense, Flatten, Normalization
from zoojax.architectures.registry import architecture
from zoojax.errors import ZoojaxError
from zoojax.geometry import match_weights
from zoojax.geometry.transforms import Transform

LAYERS = (Conv(6, 3), Normalization("batch"), Activation(), Conv(5, 3), Flatten(), Dense(3))
NETWORKS = {
    "small": architecture("small", 1),
    "mlp": architecture("mlp-24-12", 1),
    "lenet5": architecture("lenet5", 1),
    "gap_cnn": architecture("gap_cnn", 1),
    "residual": ResidualCNN("residual_cnn", 28, 1, 10),
    "resnet": architecture("resnet18-4-8", 3),
    "vit": architecture("vit-12-2-6-4-8", 1),
    "normalized": Chain("normalized", 8, 1, 3, LAYERS),
}
by_network = pytest.mark.parametrize("name", NETWORKS)


def largest(x) -> float:
    return float(np.abs(np.asarray(x)).max())


@by_network
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_planted_permutations_are_recovered(name, noise):
    """Also with noise of 1 % of the standard deviation of each array."""
    arch, count = NETWORKS[name], 10
    params = made_up_params(arch)
    planted = random_transform(arch, count)
    permuted = planted.moved(arch, copies(params, count, noise))
    found = match_weights(arch, permuted, params, activation="relu")
    assert is_undone(planted, found.transform).all()
    assert (found.after <= found.before).all()
    if not noise:
        assert found.after.max() == 0


@pytest.mark.parametrize("name", ["small", "mlp", "residual", "normalized"])
def test_functions_stay_the_same(name):
    arch = NETWORKS[name]
    variables = made_up_variables(arch)
    images, module = made_up_batch(arch, 4).images, arch.module("tanh", "uniform")
    other = made_up_params(arch, seed=5)
    found = match_weights(arch, copies(variables["params"], 1), other)
    after = changed(arch, copies(variables, 1), found.transform, arch.rescalings("tanh"))
    apply = jax.jit(lambda v: logits(module, v, images))
    before, moved = apply(variables), apply(jax.tree.map(lambda x: x[0], after))
    np.testing.assert_allclose(moved, before, rtol=0, atol=1e-5 * largest(before))
    distance = sum(
        float(np.square(a[0] - b).sum(dtype=np.float64))
        for a, b in zip(jax.tree.leaves(after["params"]), jax.tree.leaves(other), strict=True)
    )
    np.testing.assert_allclose(found.after, np.sqrt(distance), rtol=1e-5)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_planted_factors_are_recovered(activation):
    arch = NETWORKS["mlp"]
    params, rescalings = made_up_params(arch), arch.rescalings(activation)
    planted = random_transform(arch, 5, rescalings=rescalings)
    stacked = changed(arch, {"params": copies(params, 5)}, planted, rescalings)["params"]
    symmetries = ("permutation", "sign", "scale")
    found = match_weights(arch, stacked, params, activation=activation, symmetries=symmetries)
    assert found.after.max() < 1e-3 * found.before.min()
    both = planted.then(found.transform)
    np.testing.assert_allclose(np.concatenate(both.factors, axis=1), 1, rtol=1e-3)
    assert is_undone(planted, found.transform).all()


def test_best_of_all_permutations_and_signs():
    """With one hidden layer, matching is exact: compared with all 4! orders and 2^4 signs."""
    arch = architecture("mlp-4", 1)
    params, reference = made_up_params(arch, 1), made_up_params(arch, 2)
    rescalings, best = arch.rescalings("tanh"), np.inf
    for order in itertools.permutations(range(4)):
        for signs in itertools.product([1, -1], repeat=4):
            transform = Transform((np.array([order]),), (np.array([signs], np.float32),))
            moved = changed(arch, {"params": copies(params, 1)}, transform, rescalings)["params"]
            pairs = zip(jax.tree.leaves(moved), jax.tree.leaves(reference), strict=True)
            best = min(best, sum(float(np.square(a[0] - b).sum()) for a, b in pairs))
    found = match_weights(arch, copies(params, 1), reference)
    np.testing.assert_allclose(found.after[0] ** 2, best, rtol=1e-5)


@settings(max_examples=15)
@given(
    st.sampled_from(["small", "residual", "vit"]),
    st.integers(0, 2**31),
    st.sampled_from(["tanh", "relu"]),
    st.sets(st.sampled_from(["permutation", "sign", "scale"]), min_size=1),
)
def test_distance_never_increases(name, seed, activation, symmetries):
    arch = NETWORKS[name]
    params = copies(made_up_params(arch, seed), 3, noise=0.5, seed=seed)
    found = match_weights(
        *(arch, params, made_up_params(arch, seed + 1)),
        activation=activation,
        symmetries=sorted(symmetries),
        restarts=1,
    )
    assert (found.after <= found.before).all()
    if "permutation" not in symmetries:
        assert all((o == np.arange(o.shape[1])).all() for o in found.transform.orders)
    if "sign" not in symmetries and activation == "tanh":
        assert found.transform.is_permutation


def test_a_member_does_not_depend_on_the_others():
    arch = NETWORKS["small"]
    params = copies(made_up_params(arch), 7, noise=1.0)
    reference = made_up_params(arch, seed=3)
    together = match_weights(arch, params, reference)
    alone = match_weights(arch, jax.tree.map(lambda x: x[4:5], params), reference)
    for a, b in zip(together.transform.orders, alone.transform.orders, strict=True):
        np.testing.assert_array_equal(a[4:5], b)
    # One reference per member.
    references = jax.tree.map(lambda x: x[::-1], params)
    pairs = match_weights(arch, params, references)
    first = match_weights(
        arch, jax.tree.map(lambda x: x[:1], params), jax.tree.map(lambda x: x[6], params)
    )
    np.testing.assert_array_equal(pairs.transform.orders[0][:1], first.transform.orders[0])


def test_more_starting_points_are_not_worse():
    arch = NETWORKS["small"]
    params, reference = copies(made_up_params(arch), 4, noise=1.0), made_up_params(arch, seed=3)
    few = match_weights(arch, params, reference)
    many = match_weights(arch, params, reference, restarts=5)
    assert (many.after <= few.after).all() and (many.after < few.after).any()


def test_network_without_groups():
    arch = architecture("chain-8-f-d", 1)
    with pytest.raises(ZoojaxError, match="no permutation groups"):
        match_weights(arch, copies(made_up_params(arch), 2), made_up_params(arch))


def test_members_that_are_not_finite_stay():
    arch = NETWORKS["mlp"]
    params = copies(made_up_params(arch), 3, noise=1.0)
    params["fc2"]["bias"][1, 0] = np.inf
    reference = made_up_params(arch, seed=3)
    found = match_weights(arch, params, reference)
    assert np.isnan(found.after).tolist() == np.isnan(found.before).tolist() == [False, True, False]
    assert all((o[1] == np.arange(o.shape[1])).all() for o in found.transform.orders)
    reference["fc1"]["bias"][0] = np.nan
    assert np.isnan(match_weights(arch, params, reference).after).all()


@pytest.mark.parametrize(
    "change, options, message",
    [
        (lambda p: p.pop("fc2"), {}, "'fc2' is missing"),
        (
            lambda p: p["fc1"].update(kernel=np.zeros((2, 3), np.float32)),
            {},
            "fc1/kernel has shape",
        ),
        (lambda p: p.clear(), {}, "there are no members"),
        (lambda p: None, {"activation": "step"}, "no activation named 'step'"),
        (lambda p: None, {"symmetries": "rotation"}, "no symmetry named 'rotation'"),
        (lambda p: None, {"seed": -1}, "seed is -1"),
        (lambda p: None, {"restarts": 0.5}, "restarts"),
    ],
)
def test_invalid_arguments(change, options, message):
    arch = architecture("mlp-24-12", 1)
    params = copies(made_up_params(arch), 2)
    change(params)
    with pytest.raises(ZoojaxError, match=message):
        match_weights(arch, params, made_up_params(arch), **options)
    with pytest.raises(ZoojaxError, match=r"is missing|unknown|shape"):
        match_weights(arch, copies(made_up_params(arch), 2), {"fc1": params})


def test_transforms_compose_and_invert():
    arch = NETWORKS["mlp"]
    rescalings = arch.rescalings("relu")
    params = {"params": copies(made_up_params(arch), 3)}
    one, two = (random_transform(arch, 3, seed, rescalings) for seed in (1, 2))
    both = changed(arch, changed(arch, params, one, rescalings), two, rescalings)
    joined = changed(arch, params, one.then(two), rescalings)
    back = changed(arch, both, one.then(two).inverse(), rescalings)
    for a, b, c, d in zip(*map(jax.tree.leaves, (both, joined, back, params)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
        np.testing.assert_allclose(c, d, rtol=1e-4, atol=1e-7)
