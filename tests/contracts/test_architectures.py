"""The contract of architectures: every registered one, and those of a user."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import zoo_fixtures
from tests.support.contracts import GRID, dense, interrupted_and_resumed, train, twin
from zoojax.architectures.base import init_variables, logits
from zoojax.architectures.parameters import kernels
from zoojax.architectures.registry import architecture, architectures
from zoojax.datasets import loading
from zoojax.hyper_representation.augmentation import draw_permutation, permute
from zoojax.runtime import population
from zoojax.training import inference

FAST = ("small", "mlp-16-12", "siren-24-16", "mlp", "residual_cnn")
# The full ResNet-18 is too large to be trained in tests.
OWN = [name for name in architectures() if name != "resnet18"]
FAMILIES = "mlp-16-12", "siren-24-16", "resnet18-2-8", "vit-12-1-3-4-8"
ARCHITECTURES = [
    pytest.param(name, marks=() if name in FAST else pytest.mark.slow)
    for name in (*OWN, *FAMILIES, "mlp", "residual_cnn")
]
by_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


@by_architecture
def test_training_saving_and_evaluation(tmp_path_factory, name):
    zoo = dense(tmp_path_factory, name)
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
    resumed = interrupted_and_resumed(tmp_path / "zoo", create)
    zoo_fixtures.assert_same_zoo(resumed, dense(tmp_path_factory, name))


@by_architecture
def test_members_depend_on_their_seeds_alone(tmp_path_factory, tmp_path, name):
    """A member trained without the others is equal up to rounding."""
    whole = dense(tmp_path_factory, name)
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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18-2-8", "vit-12-1-3-4-8"])
@pytest.mark.parametrize("sparsifier", ["variational_dropout", "magnitude_pruning", "structured"])
def test_twins_of_residual_networks_and_transformers(tmp_path_factory, name, sparsifier):
    """Each layer inside residual blocks, attention and MLPs is trained and sparsified."""
    zoo = twin(tmp_path_factory, name, sparsifier)
    assert zoo.metrics["finite"].all()
    weights, metrics = kernels(zoo.sparse_params()), zoo.metrics.filter(epoch=zoo.newest_epoch)
    assert weights.keys() == set(zoo.config.shape.layers)
    for layer, w in weights.items():
        fraction = (w == 0).reshape(len(zoo), -1).mean(1)
        np.testing.assert_allclose(metrics[f"sparsity_{layer}"], fraction, atol=1e-6)
    part = "log_sigma2" if sparsifier == "variational_dropout" else "params"
    before, after = (kernels(zoo.state(epoch)[part]) for epoch in (0, zoo.newest_epoch))
    assert all((before[layer] != after[layer]).any() for layer in before)
