"""Aligned zoos and twins have the same functions; what cannot be aligned is refused."""

import jax
import numpy as np
import pytest

from tests.support import zoo_fixtures
from tests.support.symmetries import changed, copies, random_transform
from tests.support.torch_models import made_up_params
from zoojax import StraightThrough, open_zoo, sparsify
from zoojax.architectures.registry import architecture
from zoojax.errors import ZoojaxError
from zoojax.geometry import (
    align,
    align_twin,
    canonical_transform,
    match_activations,
    open_alignment,
)
from zoojax.geometry.derived import transformed_state
from zoojax.geometry.stored import FILE
from zoojax.sparsifiers.variational_dropout import VariationalDropout

NAMES = ("permutation", "sign", "scale")


@pytest.fixture
def dense(tmp_path_factory):
    return zoo_fixtures.dense(tmp_path_factory)


def pixels() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(9, 28, 28, 1)).astype(np.float32)


def assert_same_functions(zoo, other) -> None:
    for epoch in zoo.epochs:
        before, after = (each.apply(pixels(), epoch) for each in (zoo, other))
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-5 * np.abs(before).max())


@pytest.mark.parametrize("kind", zoo_fixtures.KINDS)
def test_functions_and_metrics_stay_the_same(tmp_path_factory, kind):
    """Of all epochs, with masks and log alphas."""
    zoo = zoo_fixtures.KINDS[kind](tmp_path_factory)
    aligned = align(zoo, to=1)
    assert_same_functions(zoo, aligned.zoo)
    assert aligned.zoo.metrics.equals(zoo.metrics)
    assert aligned.zoo.members_table.equals(zoo.members_table)
    assert aligned.zoo.fingerprint != zoo.fingerprint
    assert "member 1" in str(aligned.zoo.config.origin)
    distances = aligned.distances
    assert (distances["after"] <= distances["before"]).all()
    assert distances.filter(member=1)["after"][0] == 0
    orders = aligned.transform.orders[0]
    assert not np.array_equal(orders[-1], np.arange(orders.shape[1]))


def test_folder_has_the_alignment_and_resumes(dense, tmp_path):
    first = align(dense, tmp_path / "aligned", to=2)
    before = zoo_fixtures.contents(tmp_path / "aligned")
    assert align(dense, tmp_path / "aligned", to=2).zoo.fingerprint == first.zoo.fingerprint
    states = {name for name in before if name.startswith("states")}
    after = zoo_fixtures.contents(tmp_path / "aligned")
    assert states and all(after[name] == before[name] for name in states)
    opened = open_alignment(str(tmp_path / "aligned"))
    for a, b in zip(opened.transform.orders, first.transform.orders, strict=True):
        np.testing.assert_array_equal(a, b)
    assert opened.distances.equals(first.distances)
    with pytest.raises(ZoojaxError, match="created with origin"):
        align(dense, tmp_path / "aligned", to=1)


@pytest.mark.parametrize("kind", ["mp", "vd"])
def test_twin_follows_its_parent(tmp_path_factory, tmp_path, kind):
    zoo, twin = zoo_fixtures.dense(tmp_path_factory), zoo_fixtures.KINDS[kind](tmp_path_factory)
    aligned = align(zoo, tmp_path / "dense", to=0)
    moved = align_twin(twin, open_alignment(tmp_path / "dense"), tmp_path / "twin")
    assert_same_functions(twin, open_zoo(tmp_path / "twin"))
    parent = moved.config.parent
    assert parent is not None and parent.fingerprint == aligned.zoo.fingerprint
    rows = zoo.row_indices(twin.members_table["parent_id"])
    expected = aligned.transform.take(rows).moved(zoo.config.shape, twin.sparse_params())
    factors = aligned.transform.take(rows).factors_of(
        zoo.config.shape, zoo.config.shape.rescalings("tanh")
    )
    for a, b, c in zip(
        *map(jax.tree.leaves, (moved.sparse_params(), expected, factors)), strict=True
    ):
        np.testing.assert_array_equal(a, b * c)


def test_twin_of_another_zoo(tmp_path_factory, dense):
    twin = zoo_fixtures.pruned(tmp_path_factory)
    other = align(align(dense, to=1).zoo, to=0)
    with pytest.raises(ZoojaxError, match="not an alignment of the parent"):
        align_twin(twin, other)
    with pytest.raises(ZoojaxError, match="has no parent"):
        align_twin(dense, other)


def test_scales_keep_log_alphas(tmp_path_factory):
    """Log alpha = log sigma^2 - log theta^2 stays the same, so the same weights are pruned."""
    twin = zoo_fixtures.variational_dropout(tmp_path_factory)
    arch, state = twin.config.shape, twin.state()
    transform = random_transform(arch, len(twin), rescalings=arch.rescalings("relu"))
    found = transformed_state(twin.config, state, transform, ["relu"])

    def log_alpha(state, layer):
        theta = state["params"][layer]["kernel"]
        return state["log_sigma2"][layer]["kernel"] - np.log(np.square(theta))

    for layer in arch.layers:
        before = transform.moved(arch, {layer: {"kernel": log_alpha(state, layer)}})
        after = log_alpha(found, layer)
        np.testing.assert_allclose(after, before[layer]["kernel"], rtol=1e-3, atol=1e-3)
    assert isinstance(twin.config.sparsifier, VariationalDropout)


def test_scales_that_would_move_a_mask_are_refused(dense):
    twin = sparsify(dense, StraightThrough(ratios=(0.5,)), epochs=0, quiet=True)
    arch = twin.config.shape
    transform = random_transform(arch, len(twin), rescalings=arch.rescalings("relu"))
    with pytest.raises(ZoojaxError, match="without the symmetry scale"):
        transformed_state(twin.config, twin.state(), transform, ["relu"])


def test_center_is_closer_than_the_plain_mean(dense):
    found = align(dense, to="center")
    squares = {n: np.square(found.distances[n].to_numpy()).sum() for n in ("before", "after")}
    assert squares["after"] < squares["before"]
    params = found.zoo.params()
    mean = jax.tree.map(lambda x: x.mean(0), params)
    expected = sum(
        float(np.square(x - m).sum())
        for x, m in zip(*map(jax.tree.leaves, (params, mean)), strict=True)
    )
    np.testing.assert_allclose(squares["after"], expected, rtol=1e-4)


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
@pytest.mark.parametrize("name", ["mlp-12-8", "small", "resnet18-2-8"])
def test_canonical_form_is_the_same_for_all_copies(name, activation):
    arch = architecture(name, 1)
    rescalings = arch.rescalings(activation)
    params = {"params": copies(made_up_params(arch), 4)}
    moved = changed(arch, params, random_transform(arch, 4, 1, rescalings), rescalings)
    forms = [
        changed(arch, x, canonical_transform(arch, x["params"], activation, NAMES), rescalings)
        for x in (params, moved)
    ]
    for a, b in zip(*map(jax.tree.leaves, forms), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_canonical_zoo(dense):
    aligned = align(dense, to="canonical", symmetries=NAMES)
    assert_same_functions(dense, aligned.zoo)
    norms = np.square(aligned.zoo.params()["conv1"]["kernel"]).sum((1, 2, 3))
    norms += np.square(aligned.zoo.params()["conv1"]["bias"])
    assert (np.diff(norms, axis=1) <= 0).all()


@pytest.mark.parametrize("name, activation", [("small", "tanh"), ("mlp-12-8", "relu")])
def test_activations_recover_planted_permutations(name, activation):
    arch = architecture(name, 1)
    params, rescalings = made_up_params(arch), arch.rescalings(activation)
    planted = random_transform(arch, 3, 2, rescalings)
    variables = changed(arch, {"params": copies(params, 3)}, planted, rescalings)
    found = match_activations(
        *(arch, variables, {"params": params}, pixels()),
        activation=activation,
        symmetries=NAMES,
    )
    assert found.after.max() < 1e-3 * found.before.min()


def test_activations_are_correlated_as_in_numpy():
    """The assignment of the hidden units of an MLP, by hand."""
    from scipy.optimize import linear_sum_assignment

    arch = architecture("mlp-6", 1)
    ours, theirs = made_up_params(arch, 1), made_up_params(arch, 2)
    flat = pixels().reshape(9, -1)
    hidden = [np.tanh(flat @ p["fc1"]["kernel"] + p["fc1"]["bias"]) for p in (ours, theirs)]
    correlation = np.corrcoef(hidden[0].T, hidden[1].T)[:6, 6:]
    expected = linear_sum_assignment(-np.abs(correlation))[1]
    found = match_activations(
        arch, {"params": copies(theirs, 1)}, {"params": ours}, pixels()
    ).transform
    np.testing.assert_array_equal(found.orders[0][0], expected)
    signs = np.sign(correlation[np.arange(6), expected])
    np.testing.assert_array_equal(found.factors[0][0], signs)


def test_align_by_activations(dense):
    aligned = align(dense, to=0, method="activations", images=20)
    assert_same_functions(dense, aligned.zoo)
    np.testing.assert_array_equal(aligned.transform.orders[0][0], np.arange(8))


def test_members_that_are_not_finite_stay(dense, tmp_path):
    zoo = dense.save(tmp_path / "copy")
    read = type(zoo).state

    def broken(self, *arguments, **options):
        state = read(self, *arguments, **options)
        state["params"]["fc2"]["bias"][1, 0] = np.nan
        return state

    zoo.state = broken.__get__(zoo)
    aligned = align(zoo, to=0)
    assert aligned.distances["after"].is_null().to_list() == [False, True, False]
    assert all((o[1] == np.arange(o.shape[1])).all() for o in aligned.transform.orders)
    with pytest.raises(ZoojaxError, match=r"member 1 .*not finite"):
        align(zoo, to=1)
    assert align(zoo, to="center").distances["after"].is_null().to_list() == [False, True, False]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"to": 7}, "no member 7"),
        ({"to": "middle"}, "id of a member or: center, canonical"),
        ({"to": 1.5}, "id of a member"),
        ({"method": "magic"}, "no method named 'magic'"),
        ({"symmetries": ("rotation",)}, "no symmetry named 'rotation'"),
        ({"symmetries": ()}, "give some of"),
        ({"epoch": 9}, "no epoch 9"),
        ({"restarts": -1}, "restarts is -1"),
        ({"method": "activations", "images": 0}, "images is 0"),
        ({"method": "activations", "to": "center"}, "give method 'weights'"),
    ],
)
def test_invalid_arguments(dense, options, message):
    with pytest.raises(ZoojaxError, match=message):
        align(dense, **options)


def test_damaged_alignments(dense, tmp_path):
    aligned = align(dense, tmp_path / "aligned", to=0)
    file = aligned.zoo.path / FILE
    with np.load(file) as opened:
        arrays = dict(opened)
    damages = {
        "not a permutation": {"order_0": np.zeros_like(arrays["order_0"])},
        "an order is": {"order_0": arrays["order_0"][:1]},
        "0 or not finite": {"factor_1": arrays["factor_1"] * 0},
        "distances are": {"before": np.zeros(1)},
    }
    for message, damage in damages.items():
        np.savez(file, **(arrays | damage))
        with pytest.raises(ZoojaxError, match=f"{FILE} is damaged.*{message}"):
            open_alignment(aligned.zoo)
    file.write_bytes(b"no archive")
    with pytest.raises(ZoojaxError, match=FILE):
        open_alignment(aligned.zoo)
    with pytest.raises(ZoojaxError, match=f"has no {FILE}"):
        open_alignment(dense)


def test_shapes_of_states_are_checked():
    arch = architecture("mlp-6", 1)
    transform = random_transform(arch, 2)
    units = {"fc1": np.tile(np.arange(6), (2, 1))}
    np.testing.assert_array_equal(transform.moved(arch, units)["fc1"], transform.orders[0])
    assert transform.moved(arch, np.arange(2)).tolist() == [0, 1]
    with pytest.raises(ZoojaxError, match="fc1 has shape"):
        transform.moved(arch, {"fc1": np.zeros((2, 6, 3))})
