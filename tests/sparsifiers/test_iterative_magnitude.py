"""Rounds of iterative magnitude pruning: masks, rewinding, and fresh optimizers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import zoo_fixtures
from tests.support.updates import at_epoch
from zoojax import IterativeMagnitude, functional, schedules, sparsify
from zoojax.architectures.parameters import apply_mask, kernels
from zoojax.datasets import loading
from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.grid import NUMBER_DEFAULTS
from zoojax.runtime import population
from zoojax.sparsifiers.iterative_magnitude import round_starts

RATIOS = (0.3, 0.6)
EPOCHS = 2


def smallest(params, ratio):
    """Masks [members, ...] without the smallest weights of each network, in NumPy."""
    weights = kernels(params)
    flat = np.concatenate([np.abs(w).reshape(len(w), -1) for w in weights.values()], axis=1)
    count = round(ratio * flat.shape[1])
    mask = np.ones(flat.shape, bool)
    np.put_along_axis(mask, np.argsort(flat, axis=1, kind="stable")[:, :count], False, axis=1)
    pieces = np.split(mask, np.cumsum([w[0].size for w in weights.values()])[:-1], axis=1)
    return {n: m.reshape(w.shape) for m, (n, w) in zip(pieces, weights.items(), strict=True)}


@zoo_fixtures.once
def rewound(factory):
    """A twin of one round per epoch, rewound to epoch 0."""
    method = IterativeMagnitude(RATIOS)
    return sparsify(zoo_fixtures.dense(factory), method, epochs=EPOCHS, chunk=4, quiet=True)


def test_each_round_starts_from_the_first_weights_bit_for_bit(tmp_path_factory):
    parent, twin = zoo_fixtures.dense(tmp_path_factory), rewound(tmp_path_factory)
    start, first = twin.state(0), parent.params(0)
    assert len(twin) == len(parent)
    assert zoo_fixtures.same_bits(start["rewind"], first)
    for params, ratio, epoch in ((parent.params(), RATIOS[0], 0), (twin.params(1), RATIOS[1], 2)):
        mask = twin.state(epoch)["mask"]
        jax.tree.map(np.testing.assert_array_equal, mask, smallest(params, ratio))
    expected = jax.vmap(apply_mask)(first, start["mask"])
    assert zoo_fixtures.same_bits(start["params"], jax.device_get(expected))
    np.testing.assert_allclose(twin.metrics["sparsity"].unique().sort(), RATIOS, atol=1e-3)


def test_a_round_trains_like_a_new_member(tmp_path_factory):
    """It has no moments of earlier rounds."""
    parent, twin = zoo_fixtures.dense(tmp_path_factory), rewound(tmp_path_factory)
    assert parent.config.data is not None
    images = loading.load(parent.config.data).train
    row, after = twin.members_table.row(1, named=True), population.take(twin.state(2), 1)
    member = functional.init(
        parent.config.shape,
        row["seed"],
        activation=row["activation"],
        optimizer=row["optimizer"],
        params=population.take(parent.params(0), 1),
    )
    mask = {path: {"kernel": m} for path, m in after["mask"].items()}
    member = functional.prune(member, mask)
    # The images of epoch 2 are in another order than those of epoch 1.
    member = dataclasses.replace(member, epoch=jnp.int32(1))
    train = jax.jit(
        lambda m: functional.train_epoch(
            *(m, images.images, images.labels, row["learning_rate"]),
            weight_decay=row["weight_decay"],
            batch_size=parent.config.batch_size,
        )
    )
    expected = train(member)[0].params
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after["params"], expected
    )


def test_learning_rate_rewinding_keeps_weights_and_restarts_the_optimizer():
    method = IterativeMagnitude((0.5, 0.75), rewind="learning_rate", schedule="cosine")
    assert method.needs is None
    weights = jnp.arange(1.0, 9.0).reshape(2, 4)
    trainable, fixed = method.init({"fc": {"kernel": weights, "bias": jnp.ones(4)}}, {})
    assert set(fixed) == {"mask"}
    moments = {"mu": jnp.ones(3), "count": jnp.int32(5)}
    for epoch, kept, restarts in ((1, 4, False), (2, 4, False), (3, 2, True), (4, 4, False)):
        update = at_epoch(epoch, steps=7, epochs=4)
        moved, after = method.update(trainable, fixed, update)
        jax.tree.map(np.testing.assert_array_equal, moved, trainable)
        assert after["mask"]["fc"].sum() == kept
        restarted = method.update_moments(moments, fixed, after, update)
        assert restarted["count"].dtype == jnp.int32
        assert [float(jnp.sum(x)) for x in jax.tree.leaves(restarted)] == (
            [0, 0] if restarts else [5, 3]
        )


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
def test_schedule_restarts_in_every_round(schedule):
    method = IterativeMagnitude((0.5, 0.7, 0.8), schedule=schedule)
    rate = jax.jit(lambda e, s: method.learning_rate(jnp.float32(0.1), e, s, 5, 8))
    for first, length in zip(round_starts(8, 3), (2, 3, 3), strict=True):
        for epoch in range(length):
            for step in range(5):
                expected = schedules.learning_rate(
                    *(schedule, 0.1, NUMBER_DEFAULTS, jnp.int32(epoch + 1), jnp.int32(step)),
                    *(5, length),
                )
                actual = rate(jnp.int32(first + epoch + 1), jnp.int32(step))
                np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_rounds_without_an_epoch_are_skipped():
    method = IterativeMagnitude((0.25, 0.5, 0.75), rewind="learning_rate")
    trainable, fixed = method.init({"fc": {"kernel": jnp.arange(1.0, 9.0).reshape(2, 4)}}, {})
    _, fixed = method.update(trainable, fixed, at_epoch(1, steps=7, epochs=1))
    assert fixed["mask"]["fc"].sum() == 2


@pytest.mark.parametrize(
    "options, named",
    [
        ({"ratios": (0.5, 0.4)}, "ascend"),
        ({"ratios": ()}, "ascend"),
        ({"ratios": (0.5, 1.0)}, "not in"),
        ({"rewind": "biases"}, "biases"),
        ({"schedule": "step"}, "step"),
        ({"rewind_epoch": -1}, "rewind_epoch"),
        ({"scope": "all"}, "all"),
    ],
)
def test_invalid_options_are_refused(options, named):
    with pytest.raises(ZoojaxError, match=named):
        IterativeMagnitude(**options)


def test_an_epoch_that_is_not_saved_is_refused(tmp_path_factory, tmp_path):
    parent = zoo_fixtures.dense(tmp_path_factory)
    with pytest.raises(ZoojaxError, match="no epoch 9 to rewind to"):
        sparsify(parent, IterativeMagnitude(RATIOS, rewind_epoch=9), tmp_path / "twin", epochs=1)
    assert not (tmp_path / "twin").exists()
