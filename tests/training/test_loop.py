"""Training loop compared with PyTorch optimizers and with single steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn.utils import prune

from tests.support.torch_models import (
    TorchCNN,
    assert_trees_close,
    checkpoint,
    load,
    made_up_batch,
    made_up_params,
    nchw,
    numpy_state,
    params_to_flax,
    torch_labels,
    trial,
)
from zoojax import keys, optimizers
from zoojax.architectures import parameters
from zoojax.architectures.cnn import large_cnn, small_cnn
from zoojax.runtime import population
from zoojax.sparsifiers import base, score_pruning, variational_dropout
from zoojax.sparsifiers.dense import Dense
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.variational_dropout import VariationalDropout
from zoojax.training import engine, loop
from zoojax.training.programs import ProgramSpec

SMALL, LARGE = small_cnn(1, 10), large_cnn(3, 10)
BATCH, STEPS = 10, 20
DECAYS = (0.0, 1e-3, 1e-2)
TORCH_OPTIMIZERS = {
    "adam": (torch.optim.Adam, {}),
    "sgd": (torch.optim.SGD, {"momentum": 0.9}),
}
RATES = {"adam": 1e-3, "adamw": 1e-3, "sgd": 1e-2, "nesterov": 1e-2, "rmsprop": 1e-3}


def hyperparams(decays, rates):
    """Hyperparameters of one member per weight decay and learning rate, all with one seed."""
    count = len(decays)
    return loop.Hyperparams(
        jnp.zeros(count, jnp.int32), jnp.asarray(rates), jnp.asarray(decays), jnp.zeros(count)
    )


def program_spec(kind, optimizer, arch=SMALL, activation="tanh"):
    sparsifiers = {"dense": Dense(), "mp": MagnitudePruning(), "vd": VariationalDropout()}
    return ProgramSpec(
        sparsifiers[kind].shared(),
        arch,
        activation,
        optimizer,
        False,
        BATCH,
        engine=engine.engine(arch, "cpu"),
    )


@functools.cache
def epoch_of_three(kind, optimizer, arch, activation):
    """(trainable, fixed, hyperparams [3], batch) -> one unshuffled epoch of three members."""
    spec = program_spec(kind, optimizer, arch, activation)

    @jax.jit
    def run(trainable, fixed, hyperparams, batch):
        state = loop.init_state(trainable, fixed, optimizer)
        order = jnp.arange(batch.labels.shape[0])

        def train_member(hyperparams):
            return loop.train_epoch(
                *(spec.sparsifier, spec.loss, optimizer, BATCH, False, state, hyperparams),
                *(batch.images, batch.labels, order, jnp.int32(1)),
            )

        return jax.vmap(train_member)(hyperparams)

    return run


def half_pruned(params, kind):
    """The trainable and fixed parts of a member: dense, or with half of its weights pruned."""
    if kind == "dense":
        return {"params": params}, {}
    weights = sum(w.size for w in parameters.kernels(params).values())
    return score_pruning.init_pruned(params, {"all": jnp.int32(round(0.5 * weights))})


def torch_steps(params, batch, arch, activation, kind, optimizer, decay):
    """Parameters of a member after STEPS steps in PyTorch."""
    module = TorchCNN(arch.name, arch.channels, activation)
    load(module, params, arch)
    if kind == "mp":
        prune.global_unstructured(module.prunable(), prune.L1Unstructured, amount=0.5)
    kind_of_optimizer, options = TORCH_OPTIMIZERS[optimizer]
    torch_optimizer = kind_of_optimizer(
        module.parameters(), RATES[optimizer], weight_decay=decay, **options
    )
    images, labels = nchw(batch.images), torch_labels(batch)
    for i in range(STEPS):
        part = slice(i * BATCH, (i + 1) * BATCH)
        torch_optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(images[part]), labels[part]).backward()
        torch_optimizer.step()
    return params_to_flax(numpy_state(module.state_dict()), arch)


def assert_steps_match_torch(params, batch, arch, activation, kind, optimizer):
    trainable, fixed = half_pruned(params, kind)
    run = epoch_of_three(kind, optimizer, arch, activation)
    states, _ = run(trainable, fixed, hyperparams(DECAYS, [RATES[optimizer]] * 3), batch)
    members = [population.take(states.trainable["params"], i) for i in range(3)]
    for member, decay in zip(members, DECAYS, strict=True):
        expected = torch_steps(params, batch, arch, activation, kind, optimizer, decay)
        assert_trees_close(member, expected, rtol=0, atol=1e-4)
    # The tolerance distinguishes weight decays, and trained from untrained members.
    for one, other in [(members[0], members[2]), (members[0], trainable["params"])]:
        difference = jax.tree.map(lambda a, b: np.abs(a - b).max(), one, other)
        assert max(jax.tree.leaves(difference)) > 5e-4


KINDS_AND_OPTIMIZERS = [(kind, name) for kind in ("dense", "mp") for name in ("adam", "sgd")]


@pytest.mark.parametrize("kind, optimizer", KINDS_AND_OPTIMIZERS)
def test_steps_match_torch(kind, optimizer):
    batch = made_up_batch(SMALL, STEPS * BATCH)
    assert_steps_match_torch(made_up_params(SMALL), batch, SMALL, "tanh", kind, optimizer)


def test_steps_of_large_cnn_match_torch():
    batch = made_up_batch(LARGE, STEPS * BATCH)
    assert_steps_match_torch(made_up_params(LARGE), batch, LARGE, "gelu", "mp", "adam")


@pytest.mark.parametrize("kind, optimizer", KINDS_AND_OPTIMIZERS)
def test_steps_from_reference_checkpoint_match_torch(reference, kind, optimizer):
    params = params_to_flax(checkpoint(trial(reference, "dense", 1), 25), SMALL)
    with np.load(reference / "logits_first64_test.npz") as first:
        images, labels = first["images"].transpose(0, 2, 3, 1), first["labels"]
    index = np.resize(np.arange(64), STEPS * BATCH)
    batch = base.Batch(
        jnp.asarray(images[index]), jnp.asarray(labels[index], jnp.int32), jnp.ones(len(index))
    )
    assert_steps_match_torch(params, batch, SMALL, "tanh", kind, optimizer)


@pytest.mark.parametrize("optimizer", optimizers.OPTIMIZERS)
def test_pruned_weights_stay_exactly_zero(optimizer):
    # Start from a state with nonzero pruned weights, and with weight decay.
    params, batch = made_up_params(SMALL), made_up_batch(SMALL, STEPS * BATCH)
    fixed = half_pruned(params, "mp")[1]
    run = epoch_of_three("mp", optimizer, SMALL, "tanh")
    states, _ = run({"params": params}, fixed, hyperparams(DECAYS, [RATES[optimizer]] * 3), batch)
    for layer, mask in fixed["mask"].items():
        kernels = np.asarray(states.trainable["params"][layer]["kernel"])
        assert not np.asarray(mask).all()
        assert (kernels[:, ~np.asarray(mask)] == 0).all()
        assert (kernels[:, np.asarray(mask)] != 0).all()
        assert (states.trainable["params"][layer]["bias"] != 0).all()
    jax.tree.map(np.testing.assert_array_equal, population.take(states.fixed, 1), fixed)


@pytest.mark.parametrize("optimizer", optimizers.OPTIMIZERS)
def test_non_finite_member_does_not_affect_others(optimizer):
    batch = made_up_batch(SMALL, STEPS * BATCH)
    run = epoch_of_three("dense", optimizer, SMALL, "tanh")
    trainable, rate = {"params": made_up_params(SMALL)}, RATES[optimizer]
    states = run(trainable, {}, hyperparams([0.0] * 3, [rate, np.nan, rate]), batch)[0].trainable
    for leaf in jax.tree.leaves(states):
        assert np.isnan(leaf[1]).all()
        assert np.isfinite(leaf[0]).all()
        np.testing.assert_array_equal(leaf[0], leaf[2])


# Epochs


def test_epoch_matches_single_steps_with_partial_last_batch():
    count = 23
    hyper = loop.Hyperparams(jnp.int32(5), jnp.float32(1e-3), jnp.float32(1e-2), jnp.zeros(()))
    spec = program_spec("dense", "adam")
    static = spec.sparsifier, spec.loss, "adam"
    images, labels, *_ = made_up_batch(SMALL, count)
    state = loop.init_state({"params": made_up_params(SMALL)}, {}, "adam")
    order, key = np.random.default_rng(1).permutation(count), keys.stream_key(5, "noise", 3)
    train_epoch = jax.jit(functools.partial(loop.train_epoch, *static, BATCH, False))
    after, metrics = train_epoch(state, hyper, images, labels, jnp.asarray(order), jnp.int32(3))

    train_step = jax.jit(
        lambda s, b, k, i: loop.train_step(*static, s, hyper, b, False, k, jnp.int32(3), i)
    )
    losses, correct_sum = [], 0.0
    for i, start in enumerate(range(0, count, BATCH)):
        index = order[start : start + BATCH]
        batch = base.Batch(images[index], labels[index], jnp.ones(len(index)))
        state, loss, num_correct = train_step(state, batch, keys.step_noise(key, i), jnp.int32(i))
        losses += [float(loss)] * len(index)
        correct_sum += float(num_correct)
    assert len(losses) == count
    assert_trees_close(after, state, rtol=1e-5, atol=1e-6)
    assert float(metrics["train_loss"]) == pytest.approx(np.mean(losses), rel=1e-5)
    assert float(metrics["train_acc"]) == pytest.approx(correct_sum / count, rel=1e-6)
    assert 0 < correct_sum < count


def test_cross_entropy_excludes_padding():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(5, 10)), np.array([3, 1, 4, 1, 5])
    logits[3:] = 1e6  # padding may have any value
    batch = base.Batch(jnp.zeros((5, 1)), jnp.asarray(labels), jnp.array([1.0, 1, 1, 0, 0]))
    expected = torch.nn.functional.cross_entropy(torch.tensor(logits[:3]), torch.tensor(labels[:3]))
    actual = engine.cross_entropy(jnp.asarray(logits, jnp.float32), batch)
    assert float(actual) == pytest.approx(expected.item(), rel=1e-5)


# Contract of every sparsifier

SPARSIFIERS = ("dense", "mp", "vd-released", "vd-corrected")
ARCHITECTURES = {"small": SMALL, "large": LARGE}


def member_for(name, arch):
    params = made_up_params(arch)
    if name.startswith("vd"):
        variant = name.removeprefix("vd-")
        log_sigma2 = variational_dropout.init_log_sigma2(params, variant)
        return {"params": params, "log_sigma2": log_sigma2}, {}
    return half_pruned(params, name)


@functools.cache
def one_step(name, arch_name):
    """Takes one step with every optimizer.

    Returns:
        The sparsifier, and {optimizer: (state before, state after, loss, number correct)}.
    """
    arch = ARCHITECTURES[arch_name]
    kind = name.partition("-")[0]
    spec = program_spec(kind, "adam", arch, "relu")
    hyper = loop.Hyperparams(*(jnp.float32(x) for x in (0, 1e-3, 1e-3, 0.5)))
    states = {o: loop.init_state(*member_for(name, arch), o) for o in optimizers.OPTIMIZERS}
    # Dropout in one case only: it is slow to compile.
    dropout = (name, arch_name) == ("dense", "small")

    @jax.jit  # compiled together, as the optimizers share a gradient
    def run(states, batch, noise):
        return {
            o: loop.train_step(
                *(spec.sparsifier, spec.loss, o, state, hyper, batch, dropout, noise),
                *(jnp.int32(2), jnp.int32(0)),
            )
            for o, state in states.items()
        }

    after = run(states, made_up_batch(arch, 2), keys.step_noise(keys.stream_key(0, "noise", 2), 0))
    return spec.sparsifier, jax.tree.map(np.asarray, {o: (states[o], *after[o]) for o in states})


@pytest.mark.parametrize("arch_name", ["small", pytest.param("large", marks=pytest.mark.slow)])
@pytest.mark.parametrize("optimizer", optimizers.OPTIMIZERS)
@pytest.mark.parametrize("name", SPARSIFIERS)
def test_sparsifier_contract(name, optimizer, arch_name):
    sparsifier, results = one_step(name, arch_name)
    before, after, loss, num_correct = results[optimizer]
    assert np.isfinite(loss)
    assert loss.shape == ()
    assert num_correct in (0, 1, 2)
    assert jax.tree.structure(after) == jax.tree.structure(before)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert (new.shape, new.dtype) == (old.shape, old.dtype)
        assert np.isfinite(new).all()
    moved = jax.tree.map(lambda a, b: (a != b).any(), after.trainable, before.trainable)
    assert all(jax.tree.leaves(moved))
    jax.tree.map(np.testing.assert_array_equal, after.fixed, before.fixed)
    again = sparsifier.project(after.trainable, after.fixed)
    jax.tree.map(np.testing.assert_array_equal, again, after.trainable)
    effective = sparsifier.effective(after.trainable, after.fixed)
    assert jax.tree.map(np.shape, effective) == jax.tree.map(np.shape, before.trainable["params"])
