"""The contract of architectures and sparsifiers: every registered one, and a user's own."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import zoo_fixtures
from zoojax import Grid, Sparsifier, Zoo, open_zoo, sparsify, train_zoo
from zoojax.architectures import registry as architecture_registry
from zoojax.architectures.base import init_variables, logits
from zoojax.architectures.parameters import kernels
from zoojax.architectures.registry import architecture, architectures
from zoojax.datasets import loading
from zoojax.hyper_representation.augmentation import draw_permutation, permute
from zoojax.runtime import population
from zoojax.sparsifiers import registry as sparsifier_registry
from zoojax.sparsifiers.dense import Dense
from zoojax.sparsifiers.registry import sparsifiers
from zoojax.training import inference
from zoojax.training.trainer import Progress

# Registered architectures and sparsifiers, and those of a user (`plugins`).
FAST = ("small", "mlp-16-12", "siren-24-16", "mlp", "residual_cnn")
ARCHITECTURES = [
    pytest.param(name, marks=() if name in FAST else pytest.mark.slow)
    for name in (*architectures(), "mlp-16-12", "siren-24-16", "mlp", "residual_cnn")
]
SPARSIFIERS = [name for name in sparsifiers() if name != Dense.name] + ["moving_mask"]
by_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
by_sparsifier = pytest.mark.parametrize("sparsifier", SPARSIFIERS)
GRID = Grid(inits=("kaiming_uniform",), learning_rates=(1e-2,), seeds=2)
OPTIONS: dict[str, Any] = {"epochs": 2, "chunk": 2}


class Interruption(Exception):
    """Raised by a progress callback."""


def after_one_epoch(progress: Progress) -> None:
    if progress.epoch == 2:
        raise Interruption


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    """Registers the architectures and sparsifiers of a user, for one test."""
    known = dict(architecture_registry._registered)
    monkeypatch.setattr(architecture_registry, "_registered", known)
    monkeypatch.setattr(sparsifier_registry, "_registered", dict(sparsifiers()))
    # Importing the modules registers them only once in a process.
    from tests.support.plugins.mlp import MLP
    from tests.support.plugins.moving_mask import MovingMask
    from tests.support.plugins.residual_cnn import ResidualCNN

    for name, kind in (("mlp", MLP), ("residual_cnn", ResidualCNN)):
        known[name] = functools.partial(kind, name, 28)
    sparsifier_registry.register_sparsifier(MovingMask)


def options_of(name: str) -> Sparsifier:
    """A sparsifier with few values of its per-member options."""
    kind = sparsifiers()[name]
    return kind(**{option: (0.5, 0.9) for option in kind.per_member})


def train(factory, out, name: str, **changes) -> Zoo:
    shape, spec = architecture(name, 1), zoo_fixtures.spec(factory)
    if not shape.task.has_own_images:
        spec = dataclasses.replace(spec, size=shape.size)
    options = {"grid": GRID, "quiet": True, **OPTIONS, **changes}
    return train_zoo(None, out, name=name, architecture=name, data=spec, **options)


_zoos: dict[tuple, Zoo] = {}


def _dense(factory, name: str) -> Zoo:
    key = factory.getbasetemp(), name
    if key not in _zoos:
        _zoos[key] = train(factory, factory.mktemp("contract") / name, name)
    return _zoos[key]


def _twin(factory, name: str, sparsifier: str) -> Zoo:
    key = factory.getbasetemp(), name, sparsifier
    if key not in _zoos:
        parent = _dense(factory, name)
        out = parent.path.with_name(f"{name}-{sparsifier}")
        _zoos[key] = sparsify(parent, options_of(sparsifier), out, **OPTIONS)
    return _zoos[key]


def assert_resumes(out, create: Callable[..., Zoo], expected: Zoo) -> None:
    """Interrupts a run after its first epoch, and compares the resumed one."""
    with pytest.raises(Interruption):
        create(out, report=after_one_epoch)
    assert open_zoo(out).newest_epoch < 2
    zoo_fixtures.assert_same_zoo(create(out), expected)


@by_architecture
def test_training_saving_and_evaluation(tmp_path_factory, name):
    zoo = _dense(tmp_path_factory, name)
    before, after = zoo.state(0), zoo.state(2)
    moved = jax.tree.map(lambda a, b: (a != b).any(), before, after)
    assert all(jax.tree.leaves(moved))
    assert zoo.metrics["finite"].all()
    assert zoo.config.data is not None
    images = loading.load(zoo.config.data)
    measured = inference.evaluate(zoo, images)
    saved = zoo.metrics.filter(epoch=2)
    # Saved training metrics are those of the epoch's steps.
    for column in measured.columns:
        if not column.startswith(("train", "ggap")):
            np.testing.assert_allclose(measured[column], saved[column], rtol=1e-5, err_msg=column)
    if zoo.config.shape.task.has_own_images:
        return
    accuracy = (inference.predict(zoo, images.test.images) == images.test.labels).mean(axis=1)
    np.testing.assert_allclose(accuracy, saved["test_acc"], atol=1e-6)


@by_architecture
def test_interrupted_training_resumes_with_the_same_bits(tmp_path_factory, tmp_path, name):
    create = functools.partial(train, tmp_path_factory, name=name)
    assert_resumes(tmp_path / "zoo", create, _dense(tmp_path_factory, name))


@by_architecture
def test_members_depend_on_their_seeds_alone(tmp_path_factory, tmp_path, name):
    """A member trained without the others is equal up to rounding."""
    whole = _dense(tmp_path_factory, name)
    grid = dataclasses.replace(GRID, seeds=1)
    spec = whole.config.data
    assert spec is not None
    alone = train(tmp_path_factory, tmp_path / "zoo", name, grid=grid, first_seed=2)
    expected = population.take(whole.state(1), np.s_[1:])
    for (path, a), b in zip(
        jax.tree.leaves_with_path(alone.state(1)), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-4, err_msg=jax.tree_util.keystr(path))


@by_architecture
@by_sparsifier
def test_twins(tmp_path_factory, name, sparsifier):
    twin = _twin(tmp_path_factory, name, sparsifier)
    parent, start = _dense(tmp_path_factory, name), twin.state(0)
    assert twin.config.sparsifier == options_of(sparsifier).shared()
    rows = parent.row_indices(twin.members_table["parent_id"])
    if "mask" not in start:
        expected = population.take(parent.params(), rows)
        assert zoo_fixtures.same_bits(start["params"], expected)
    for epoch in twin.epochs:
        weights = kernels(twin.sparse_params(epoch))
        zeros = sum((w == 0).reshape(len(twin), -1).sum(1) for w in weights.values())
        count = sum(w[0].size for w in weights.values())
        metrics = twin.metrics.filter(epoch=epoch)
        np.testing.assert_allclose(metrics["sparsity"], zeros / count, atol=1e-6)
        for layer, w in weights.items():
            fraction = (w == 0).reshape(len(twin), -1).mean(1)
            np.testing.assert_allclose(metrics[f"sparsity_{layer}"], fraction, atol=1e-6)
        if twin.config.sparsifier.sweep == "ratio":
            # Sparsifiers prune whole weights, some of them the same number in each layer. With one
            # output, moved weights of units whose output weight is pruned stay zero.
            tolerance = 0.1 if twin.config.shape.classes == 1 else 0.02
            ratios = twin.members_table["ratio"].to_numpy()
            assert np.abs(zeros / count - ratios).max() < tolerance


@pytest.mark.parametrize(
    "name",
    # Twins of the CNNs are killed and resumed in tests/training.
    [
        *(pytest.param(name, marks=pytest.mark.slow) for name in (*architectures(), "mlp-16-12")),
        *("mlp", "residual_cnn"),
    ],
)
@by_sparsifier
def test_interrupted_twin_resumes_with_the_same_bits(tmp_path_factory, tmp_path, name, sparsifier):
    parent = _dense(tmp_path_factory, name)

    def create(out, **changes) -> Zoo:
        return sparsify(parent, options_of(sparsifier), out, **OPTIONS, **changes)

    assert_resumes(tmp_path / "twin", create, _twin(tmp_path_factory, name, sparsifier))


@by_architecture
def test_permutations_do_not_change_logits(name):
    arch = architecture(name, 1)
    variables = init_variables(arch, "kaiming_uniform", 3)
    orders = draw_permutation(jax.random.key(1), arch)
    permuted = {**variables, "params": permute(variables["params"], orders, arch)}
    images = jnp.asarray(np.random.default_rng(0).standard_normal((4, *arch.image_shape)))
    images = images.astype(jnp.float32)
    module = arch.module("tanh", "uniform")
    # Initial batch statistics are the same for all units.
    np.testing.assert_allclose(
        logits(module, permuted, images), logits(module, variables, images), atol=1e-4
    )
    changed = jax.tree.map(
        lambda a, b: not np.array_equal(a, b), permuted["params"], variables["params"]
    )
    assert any(jax.tree.leaves(changed))
