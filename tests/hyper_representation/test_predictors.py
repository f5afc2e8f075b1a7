"""Predictors beyond ridge regression: they learn, are reproducible, and respect symmetries."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import r2_score

from zoojax import ZoojaxError
from zoojax.architectures import LinenArchitecture, permutations
from zoojax.architectures.base import Architecture, vector_layout
from zoojax.architectures.registry import architecture
from zoojax.hyper_representation import boosting, network_training
from zoojax.hyper_representation.boosting import Boosting
from zoojax.hyper_representation.equivariant_network import (
    Equivariant,
    EquivariantNetwork,
    unit_graph,
)
from zoojax.hyper_representation.flat_network import FlatNetwork, Perceptron
from zoojax.hyper_representation.predictor_registry import PREDICTORS, make_predictors
from zoojax.hyper_representation.predictors import Prediction, SplitArrays

SIZES = (120, 40, 60)
SMALL = "chain-8-c3x3-m2-a-f-d4-a-d"


@pytest.fixture
def short(monkeypatch):
    """Few epochs and trees."""
    monkeypatch.setattr(network_training, "EPOCHS", 2)
    monkeypatch.setattr(network_training, "DECAYS", (0.01,))
    monkeypatch.setattr(boosting, "_ROUNDS", 5)


def random_weights(arch: Architecture, count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, vector_layout(arch).parameters)).astype(np.float32)


def split(x: np.ndarray) -> SplitArrays:
    return SplitArrays(*np.split(x, np.cumsum(SIZES)[:-1]))


def permuted(arch: Architecture, vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    """The same networks with their hidden units in another order."""
    rng, layout = np.random.default_rng(seed), vector_layout(arch)
    orders = [jnp.asarray(rng.permutation(size)) for size in arch.permuted_units()]
    params = layout.unflatten(vectors)["params"]
    return layout.flatten({"params": permutations.permute(params, orders, arch.permutations)})


def initial(module: nn.Module, inputs: np.ndarray) -> Any:
    return network_training._start(module, 1, inputs, jax.random.key(0)).params  # pyright: ignore


# ---- Symmetry ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [SMALL, "small", "mlp-5-4", "chain-8-c4x3-b-a-c4x3p1-a-r1-c3x3-a-f-d"]
)
def test_predictions_are_invariant_to_the_order_of_hidden_units(name):
    arch = architecture(name, 1, 3)
    graph, order = unit_graph(arch)
    vectors = random_weights(arch, 2)
    moved = permuted(arch, vectors)
    assert not np.array_equal(moved, vectors)
    module = EquivariantNetwork(graph, outputs=2, width=8)
    params = initial(module, vectors[:, order])
    apply = jax.jit(module.apply)
    predicted = np.asarray(apply(params, vectors[:, order]))
    assert np.ptp(predicted, axis=0).min() > 1e-3
    np.testing.assert_allclose(apply(params, moved[:, order]), predicted, rtol=1e-3, atol=1e-4)
    # Any other order of the weights is another network.
    other = np.random.default_rng(1).permuted(vectors, axis=1)
    assert np.abs(apply(params, other[:, order]) - predicted).max() > 1e-2


def test_other_networks_are_not_invariant():
    arch = architecture(SMALL, 1, 3)
    vectors = random_weights(arch, 2)
    module = Perceptron(outputs=2)
    params = initial(module, vectors)
    apply: Any = module.apply
    change = apply(params, permuted(arch, vectors)) - apply(params, vectors)
    assert np.abs(change).max() > 1e-2


def test_fixed_units_are_not_exchangeable():
    """Inputs and outputs of a network have a meaning, so their order matters."""
    arch = architecture("mlp-5", 1, 3)
    graph, order = unit_graph(arch)
    vectors, layout = random_weights(arch, 1), vector_layout(arch)
    module = EquivariantNetwork(graph, outputs=1, width=8)
    params = initial(module, vectors[:, order])
    apply: Any = jax.jit(module.apply)
    for layer, axis in (("fc1", 1), ("fc2", 2)):
        tree = layout.unflatten(vectors.copy())["params"]
        tree[layer]["kernel"] = np.flip(tree[layer]["kernel"], axis)
        moved = layout.flatten({"params": tree})
        change = apply(params, moved[:, order]) - apply(params, vectors[:, order])
        assert np.abs(change).max() > 1e-4


def test_graph_has_every_parameter_once():
    for name in (SMALL, "small", "mlp-5-4"):
        arch = architecture(name, 1, 3)
        graph, order = unit_graph(arch)
        assert np.array_equal(np.sort(order), np.arange(arch.parameter_count))
        values, weights = graph.split(random_weights(arch, 1)[:, order])  # pyright: ignore
        assert sum(x.size for x in (*values, *weights)) == arch.parameter_count
        assert graph.edge_count == sum(x.shape[1] * x.shape[2] for x in weights)


def test_units_and_edges_of_a_small_network():
    """3 convolutions of 3x3 on one channel, 2x2 pooled: 9 positions to 4 units, then 3 classes."""
    graph, _ = unit_graph(architecture(SMALL, 1, 3))
    assert [tuple(each) for each in graph.units] == [(1, 0), (3, 1), (4, 1), (3, 1)]
    assert [tuple(each) for each in graph.edges] == [(0, 1, 9), (1, 2, 9), (2, 3, 1)]


# ---- Learning ------------------------------------------------------------------------------


def learned(predictor, inputs: np.ndarray, targets: np.ndarray) -> list[float]:
    x, y = split(inputs), split(targets)
    predicted = predictor.predict(x, y).test
    return [r2_score(y.test[:, i], predicted[:, i]) for i in range(targets.shape[1])]


def test_boosting_learns_a_nonlinear_function(monkeypatch):
    monkeypatch.setattr(boosting, "_ROUNDS", 60)
    x = np.random.default_rng(0).uniform(-1, 1, (sum(SIZES), 4))
    targets = np.stack([np.abs(x[:, 0]), 1e-3 * np.sign(x[:, 1])], axis=1)
    assert min(learned(Boosting(0), x, targets)) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("kind", [FlatNetwork, Equivariant])
def test_networks_learn(kind):
    arch = architecture(SMALL, 1, 3)
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.5, 2, (sum(SIZES), 1)).astype(np.float32)
    vectors = scale * random_weights(arch, sum(SIZES)) + rng.normal(size=scale.shape).astype("f")
    targets = np.stack([vectors.mean(axis=1), 10 + 5 * vectors.mean(axis=1)], axis=1)
    assert min(learned(kind(arch, 1), vectors, targets.astype(np.float64))) > 0.7


@pytest.mark.parametrize("name", PREDICTORS)
def test_predictions_are_reproducible_and_finite(name, short):
    arch = architecture(SMALL, 1, 3)
    inputs = random_weights(arch, sum(SIZES))
    targets = split(np.stack([inputs[:, :9].sum(axis=1), inputs[:, 0]], axis=1).astype(np.float64))
    (first,), (other,) = (make_predictors([name], arch, seed) for seed in (1, 2))
    x = split(inputs)
    predicted = first.predict(x, targets)
    assert predicted.test.shape == (SIZES[2], 2) and np.isfinite(predicted.test).all()
    assert predicted.penalties is None
    if name != "boosting":
        assert not np.array_equal(predicted.test, other.predict(x, targets).test)
    # Targets of the test split are not used.
    unknown = targets._replace(test=np.full_like(targets.test, np.nan))
    assert np.array_equal(predicted.test, first.predict(x, unknown).test)


def test_hyperparameters_are_chosen_on_validation_states(short):
    """With validation targets of the opposite sign, no training is better than any."""
    x = np.random.default_rng(0).uniform(-1, 1, (sum(SIZES), 4))
    y = split(x[:, :1])
    same, opposite = (
        Boosting(0).predict(split(x), y._replace(val=sign * y.val)).test for sign in (1, -1)
    )
    assert np.std(opposite) < 0.5 * np.std(same)


def test_many_states_are_trained_for_fewer_epochs(monkeypatch):
    """With 2 steps per epoch, 3 epochs for at most 5 steps."""
    calls = []

    def train(module, total_steps, state, *arguments):
        calls.append(total_steps)
        return state, np.zeros((SIZES[1], 1)), np.zeros((SIZES[2], 1))

    monkeypatch.setattr(network_training, "MAX_STEPS", 5)
    monkeypatch.setattr(network_training, "_train_epoch", train)
    x = split(random_weights(architecture(SMALL, 1, 3), sum(SIZES)))
    y = split(np.random.default_rng(0).standard_normal((sum(SIZES), 1)))
    network_training.fit_network(Perceptron(outputs=1), x, y, seed=0, batch_size=60)
    assert calls == [6] * 3 * len(network_training.DECAYS)


def test_diverged_network_predicts_the_mean(short):
    arch = architecture(SMALL, 1, 3)
    x = split(random_weights(arch, sum(SIZES)))
    x.train[0], x.val[:], x.test[:] = np.inf, np.inf, np.inf
    y = split(np.random.default_rng(0).standard_normal((sum(SIZES), 1)))
    predicted = network_training.fit_network(Perceptron(outputs=1), x, y, seed=0)
    np.testing.assert_allclose(predicted, y.train.mean())


def test_few_states(short):
    arch = architecture(SMALL, 1, 3)
    vectors = random_weights(arch, 6)
    x = SplitArrays(vectors[:4], vectors[4:5], vectors[5:])
    y = SplitArrays(*(part[:, :1].astype(np.float64) for part in x))
    for predictor in make_predictors(["boosting", "mlp"], arch, 0):
        assert predictor.predict(x, y).test.shape == (1, 1)


# ---- Names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["forest"], "^no predictor named 'forest'; there are: boosting, mlp, equivariant$"),
        ([3], "^no predictor named 3"),
        ("mlp", "^predictors is 'mlp'; give a list of names$"),
        (None, "^predictors is None; give a list"),
    ],
)
def test_unknown_predictors(names, message):
    with pytest.raises(ZoojaxError, match=message):
        make_predictors(names, architecture(SMALL, 1, 3), 0)


class TwoLayers(nn.Module):
    """A network whose architecture has no permutation groups."""

    @nn.compact
    def __call__(self, images):
        hidden = nn.Dense(4)(images.reshape(len(images), -1))
        return nn.Dense(3)(nn.tanh(hidden))


def test_network_without_described_units():
    arch = LinenArchitecture("net", 8, 1, 3, TwoLayers())
    with pytest.raises(ZoojaxError, match="net does not describe the hidden units"):
        make_predictors(["boosting", "equivariant"], arch, 0)
    assert len(make_predictors(["boosting", "mlp"], arch, 0)) == 2


def test_duplicate_names_count_once():
    names = [p.name for p in make_predictors(["mlp", "mlp"], architecture(SMALL, 1, 3), 0)]
    assert names == ["weights, MLP"]


def test_predictor_interface():
    for predictor in make_predictors(list(PREDICTORS), architecture(SMALL, 1, 3), 0):
        assert predictor.name.startswith(predictor.inputs) and predictor.known == ()
    assert Prediction(np.zeros(1)).penalties is None
