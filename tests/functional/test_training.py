"""One member as pure functions: mapped over populations, they give what zoos are trained to."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.support import zoo_fixtures
from tests.support.kernel import needs_kernel
from tests.support.torch_models import assert_trees_close
from zoojax import MagnitudePruning, VariationalDropout, ZoojaxError, functional, keys
from zoojax.runtime import population
from zoojax.storage import zoo_images

SEEDS = np.arange(1, 4)
LEARNING_RATE = zoo_fixtures.LEARNING_RATE
BATCH = 10
init = partial(functional.init, "small", init="kaiming_uniform")
# Of the tests: results with the kernel have the same bits, and XLA's may be rounded differently.
TOLERANCE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Training images and labels of the zoos in `zoo_fixtures`."""
    part = zoo_images.load_images(zoo_fixtures.dense(tmp_path_factory), None).train
    return part.images, part.labels


@pytest.fixture(scope="module")
def members():
    return jax.jit(jax.vmap(init))(SEEDS)


@pytest.fixture(scope="module")
def train():
    return jax.jit(jax.vmap(functional.train_epoch, in_axes=(0, None, None, 0)))


def column(zoo, name, epoch):
    return zoo.metrics.filter(epoch=epoch).sort("member")[name].to_numpy()


def trained(train, members, images, epochs=2):
    """The members after two epochs, and the metrics of the last."""
    rates, metrics = jnp.full(len(members.seed), LEARNING_RATE), {}
    for _ in range(epochs):
        members, metrics = train(members, *images, rates)
    return members, metrics


def test_vmapped_epochs_equal_those_of_a_zoo(tmp_path_factory, members, train, images):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    assert_trees_close(members.params, zoo.params(0), rtol=0, atol=1e-6)
    after, metrics = trained(train, members, images)
    assert_trees_close(after.params, zoo.params(2), **TOLERANCE)
    np.testing.assert_allclose(metrics["train_loss"], column(zoo, "train_loss", 2), atol=1e-5)
    np.testing.assert_array_equal(after.epoch, [2, 2, 2])
    # Training changed them by far more than the tolerance.
    difference = np.abs(after.params["fc2"]["bias"] - members.params["fc2"]["bias"])
    assert difference.max() > 1e-2


def test_evaluation_equals_that_of_a_zoo(tmp_path_factory):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    test = zoo_images.load_images(zoo, None).test
    params = zoo.params(2)

    @jax.jit
    @jax.vmap
    def measure(seed, params):
        member = functional.init("small", seed, params=params)
        outputs = functional.logits(member, test.images)
        return functional.evaluate(member, test.images, test.labels), outputs

    metrics, outputs = measure(SEEDS, params)
    np.testing.assert_allclose(metrics["loss"], column(zoo, "test_loss", 2), atol=1e-5)
    np.testing.assert_array_equal(metrics["acc"], column(zoo, "test_acc", 2))
    np.testing.assert_array_equal(metrics["sparsity"], [0, 0, 0])
    correct = np.mean(np.asarray(outputs).argmax(-1) == test.labels, axis=1)
    np.testing.assert_allclose(correct, metrics["acc"], atol=1e-6)


def test_loop_with_an_optimizer_of_optax_equals_a_zoo(tmp_path_factory, members, images):
    zoo, optimizer = zoo_fixtures.dense(tmp_path_factory), optax.adam(LEARNING_RATE)

    @jax.jit
    @partial(jax.vmap, in_axes=(0, 0, 0))
    def step(member, moments, indices):
        gradients = jax.grad(functional.loss)(member.params, member, *images, indices)
        updates, moments = optimizer.update(gradients, moments)
        return member.with_params(optax.apply_updates(member.params, updates)), moments

    count, moments = len(images[1]), jax.vmap(optimizer.init)(members.params)
    for epoch in (1, 2):
        orders = np.stack(
            [keys.permutation(keys.stream_key(int(s), "order", epoch), count) for s in SEEDS]
        )
        for first in range(0, count, BATCH):
            members, moments = step(members, moments, orders[:, first : first + BATCH])
    assert_trees_close(members.params, zoo.params(2), **TOLERANCE)


def test_pruned_members_equal_those_of_a_twin(tmp_path_factory, train, images):
    twin, dense = zoo_fixtures.pruned(tmp_path_factory), zoo_fixtures.dense(tmp_path_factory)
    members = jax.vmap(lambda seed, p: init(seed, params=p))(SEEDS, dense.params(2))

    def prune(member, ratio):
        return functional.prune(member, functional.magnitude_mask(member.params, ratio))

    # The order of the twin's members: the ratios of each parent.
    rows = np.repeat(np.arange(3), 3)
    ratios = np.tile([0.0, 0.5, 0.9], 3)
    pruned = jax.jit(jax.vmap(prune))(population.take(members, rows), ratios)
    assert_trees_close(pruned.params, twin.params(0), rtol=0, atol=0)
    after, _ = trained(train, pruned, images)
    assert_trees_close(after.params, twin.params(2), **TOLERANCE)
    for layer, leaves in twin.params(2).items():
        np.testing.assert_array_equal(after.params[layer]["kernel"] == 0, leaves["kernel"] == 0)


@pytest.mark.parametrize("sparsifier", [MagnitudePruning(ratios=(0.5,)), VariationalDropout()])
def test_sparsifiers_give_the_members_of_a_twin(tmp_path_factory, train, images, sparsifier):
    kind = {"ratio": zoo_fixtures.pruned, "epoch": zoo_fixtures.variational_dropout}
    twin, dense = kind[sparsifier.sweep](tmp_path_factory), zoo_fixtures.dense(tmp_path_factory)
    rows = slice(1, None, 3) if sparsifier.per_member else slice(None)

    @jax.jit
    @jax.vmap
    def start(seed, params):
        return functional.sparsify(init(seed, params=params), sparsifier)

    members, _ = trained(train, start(SEEDS, dense.params(2)), images)
    assert_trees_close(members.params, population.take(twin.params(2), rows), **TOLERANCE)
    sparse = jax.vmap(lambda member: member.sparse_params)(members)
    expected = population.take(twin.sparse_params(2), rows)
    assert_trees_close(sparse, expected, **TOLERANCE)


def test_options_take_effect(members, images):
    member = population.take(members, 0)

    @jax.jit
    @jax.vmap
    def run(dropout, weight_decay):
        after, _ = functional.train_epoch(
            *(member, images[0], images[1], LEARNING_RATE),
            weight_decay=weight_decay,
            dropout=dropout,
            batch_size=33,
        )
        return after.params["fc1"]["kernel"]

    plain, with_dropout, with_decay = run(jnp.array([0.0, 0.5, 0.0]), jnp.array([0.0, 0.0, 0.1]))
    # Two Adam steps per epoch move no weight further than twice the learning rate.
    assert 0 < np.abs(plain - member.params["fc1"]["kernel"]).max() <= 2.1 * LEARNING_RATE
    assert np.abs(plain - with_dropout).max() > 1e-3
    assert np.abs(plain - with_decay).max() > 1e-3


@needs_kernel
def test_population_is_trained_by_the_kernel(members, train, images):
    rates = jnp.full(3, LEARNING_RATE)
    program = train.lower(members, *images, rates).as_text()
    assert program.count("stablehlo.custom_call") and "_train" in program
    gradient = jax.vmap(jax.grad(functional.loss), in_axes=(0, 0, None, None))
    assert "_train" in jax.jit(gradient).lower(members.params, members, *images).as_text()


@pytest.mark.slow
def test_architecture_with_batch_statistics(images):
    from tests.support.plugins.residual_cnn import ResidualCNN

    member = functional.init(ResidualCNN("residual_cnn", 28, 1, 10), 1)
    after, metrics = jax.jit(functional.train_epoch)(member, *images, 1e-2)
    before = jax.tree.leaves(member.state.collections)
    moved = zip(before, jax.tree.leaves(after.state.collections), strict=True)
    assert before and not all(np.array_equal(a, b) for a, b in moved)
    assert np.isfinite(metrics["train_loss"])
    with pytest.raises(ZoojaxError, match="has batch_stats, which loss does not update"):
        functional.loss(member.params, member, *images)
