"""The reference zoo, made by the original torch code on USPS: its logits and its metrics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_models import checkpoint, result, trial, usps_test

from converters import layout
from zoojax import models, population, train, variational_dropout
from zoojax.models import CNN, architecture
from zoojax.programs import Recipe, Sets, evaluation

SMALL = architecture("small", 1)
SEEDS = (1, 2, 3, 4)
AMOUNTS = (50, 60, 70, 80, 90)
TEST_IMAGES, WEIGHTS = 2007, 2416


def member(folder, epoch, kind):
    """A reference checkpoint as the trainable part of a member."""
    state = checkpoint(folder, epoch)
    trainable = {"params": layout.params_to_flax(state, SMALL)}
    if kind == "vd":
        trainable["log_sigma2"] = layout.log_sigma2_to_flax(state, SMALL, "released")
    return trainable


def trials(reference, kind):
    """Every trial folder of a kind."""
    amounts = AMOUNTS if kind == "mp" else (None,)
    return [trial(reference, kind, seed, amount) for amount in amounts for seed in SEEDS]


# Logits


@pytest.mark.parametrize("kind, epoch", [("dense", 50), ("vd", 25), ("mp", 15)])
def test_logits_of_every_last_state(reference, kind, epoch):
    with np.load(reference / "logits_first64_test.npz") as file:
        logits = {name: file[name] for name in file.files}
    images = jnp.asarray(logits["images"].transpose(0, 2, 3, 1))
    names = [
        f"{kind}{amount}_seed{seed}_epoch{epoch}"
        for amount in (AMOUNTS if kind == "mp" else ("",))
        for seed in SEEDS
    ]
    assert set(names) == {name for name in logits if name.startswith(kind)}
    members = [member(folder, epoch, kind) for folder in trials(reference, kind)]
    params = [
        variational_dropout.threshold(**trainable) if kind == "vd" else trainable["params"]
        for trainable in members
    ]
    of_all = jax.jit(jax.vmap(lambda p: models.logits(CNN(SMALL, "tanh"), {"params": p}, images)))(
        population.stack(params)
    )
    for name, ours in zip(names, of_all, strict=True):
        np.testing.assert_allclose(ours, logits[name], rtol=0, atol=1e-5, err_msg=name)


# Metrics

kl, kl_weight = jax.jit(variational_dropout.kl), variational_dropout.kl_weight
EPOCHS = {"dense": (0, 1, 10, 50), "vd": (0, 1, 10, 18, 25), "mp": (0, 15)}


@functools.cache
def measured(reference, data_dir, kind):
    """Of a kind's checkpoints: our metrics, the KL in the original's loss, and result.json."""
    pairs = [(folder, epoch) for folder in trials(reference, kind) for epoch in EPOCHS[kind]]
    members = [member(folder, epoch, kind) for folder, epoch in pairs]
    test = usps_test(data_dir)
    few = jnp.asarray(test.images[:16]), jnp.asarray(test.labels[:16])
    # The sets that the original split drew for training and validation are not ours.
    sets = Sets(few, few, (jnp.asarray(test.images), jnp.asarray(test.labels)))
    mesh = population.make_mesh()
    run = evaluation(Recipe(kind, SMALL, "tanh", "adam", False, 10), mesh)
    states = population.place(train.State(population.stack(members), {}, {}), mesh)
    metrics = jax.tree.map(np.asarray, jax.jit(run)(states, sets))
    penalties = [
        kl_weight(jnp.int32(max(epoch, 1))) * kl(**trainable) if kind == "vd" else 0.0
        for (_, epoch), trainable in zip(pairs, members, strict=True)
    ]
    return metrics, np.asarray(penalties), [result(folder, epoch) for folder, epoch in pairs]


@pytest.mark.parametrize("kind", EPOCHS)
def test_accuracy_and_loss_of_checkpoints(reference, data_dir, kind):
    metrics, penalties, expected = measured(reference, data_dir, kind)
    assert metrics["finite"].all()
    hits = np.array([round(row["test_acc"] * TEST_IMAGES) for row in expected])
    assert len(set(hits)) > len(hits) // 2
    np.testing.assert_allclose(metrics["test_acc"] * TEST_IMAGES, hits, rtol=0, atol=1.001)
    losses = [row["test_loss"] for row in expected]
    np.testing.assert_allclose(metrics["test_loss"] + penalties, losses, rtol=1e-4)


# Some kept weights of the 90 % twins are as small as 1e-40, and are no zeros for all that.
@pytest.mark.parametrize("kind", ["vd", "mp"])
def test_sparsity_of_checkpoints(reference, data_dir, kind):
    metrics, _, expected = measured(reference, data_dir, kind)
    zeros = [round(row["sparsity_ratio"] * WEIGHTS) for row in expected]
    assert max(zeros) > 2000
    np.testing.assert_allclose(metrics["sparsity"] * WEIGHTS, zeros, rtol=0, atol=0.01)


def test_dense_members_have_no_zero_weight(reference, data_dir):
    assert (measured(reference, data_dir, "dense")[0]["sparsity"] == 0).all()
