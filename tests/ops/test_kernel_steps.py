"""The kernel's steps of Adam equal those of XLA from the kernel's own gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.ops.test_kernel_chains import CONVOLUTIONS, HEAD, PERCEPTRON
from tests.support import chains
from tests.support.kernel import SMALL_SPEC, needs_kernel
from zoojax import keys, optimizers
from zoojax.architectures.registry import architecture
from zoojax.errors import ZoojaxError
from zoojax.ops import kernel
from zoojax.ops.kernel import lowering
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.steps import Posterior
from zoojax.training import engine, loop
from zoojax.training.kernel_loss import KernelLoss

MEMBERS, IMAGES = 18, 9

pytestmark = needs_kernel


class Variational(Sparsifier):
    """Variational dropout with a constant weight of the KL divergence."""

    def loss_inputs(self, trainable, fixed, epoch):
        return trainable["params"], Posterior(trainable["log_sigma2"], jnp.float32(0.03))


class Written(Sparsifier):
    """An objective of its own, which only differs in who takes the step."""

    def objective(self, loss, trainable, fixed, epoch):
        return super().objective(loss, trainable, fixed, epoch)


class WrittenVariational(Variational):
    """The same with variational dropout."""

    def objective(self, loss, trainable, fixed, epoch):
        return super().objective(loss, trainable, fixed, epoch)


def trainable(spec, variational, biases=True):
    params, variances = chains.random_parameters(spec, MEMBERS)
    if not variational:
        return {"params": params}
    log_sigma2 = jax.tree.map(np.log, variances)
    if not biases:
        log_sigma2 = {name: {"kernel": layer["kernel"]} for name, layer in log_sigma2.items()}
    return {"params": params, "log_sigma2": log_sigma2}


@functools.cache
def program(spec, sparsifier, optimizer, size, kind):
    """A program of one step of members; some samples are padding."""
    loss = KernelLoss(spec, "tanh", kind)
    rng = np.random.default_rng(4)
    images = jnp.asarray(chains.random_images(spec, IMAGES))
    labels = jnp.asarray(rng.integers(0, spec.outputs, IMAGES), jnp.int32)
    rows = jnp.asarray(rng.normal(size=(IMAGES, spec.outputs)), jnp.float32)
    targets = labels if kind == "cross_entropy" else rows

    def member(state, seed, rate, step):
        hyper = loop.Hyperparams(seed, 0.01 * rate, 0.1 * rate, rate)
        key = jax.random.fold_in(keys.stream_key(seed, "order", 1), step)
        index = jax.random.randint(key, (size,), 0, IMAGES)
        weights = (jnp.arange(size) < size - 2).astype(jnp.float32)
        noise = keys.step_noise(keys.stream_key(seed, "noise", 1), step, slots=128)
        batch = loop.Batch(images, targets, weights, index)
        given = sparsifier, loss, optimizer, state, hyper, batch, True, noise
        return loop.train_step(*given, jnp.int32(2), step)

    return jax.jit(jax.vmap(member, (0, 0, 0, None)))


def initial(spec, sparsifier, optimizer="adam", biases=True):
    values = trainable(spec, isinstance(sparsifier, Variational), biases)
    return jax.vmap(lambda t: loop.init_state(t, {}, optimizer))(values)


def step(spec, sparsifier, state, number, optimizer="adam", size=7, kind="cross_entropy"):
    members = jax.tree.leaves(state)[0].shape[0]
    rates = np.linspace(0.1, 0.5, MEMBERS).astype(np.float32)[:members]
    seeds = np.arange(members, dtype=np.uint32)
    stepped = program(spec, sparsifier, optimizer, size, kind)
    return jax.device_get(stepped(state, seeds, rates, jnp.int32(number)))


def takes_step(spec, sparsifier, optimizer="adam", variational=False, **changed):
    values = trainable(spec, variational) | changed
    loss = KernelLoss(spec, "tanh", "cross_entropy")
    return loss.takes_step(sparsifier, optimizer, values, {}, jnp.int32(1))


FUSED, FUSED_VD, OWN, OWN_VD = Sparsifier(), Variational(), Written(), WrittenVariational()


@pytest.mark.parametrize(
    ("spec", "optimizer", "sparsifiers", "biases", "options"),
    [
        (PERCEPTRON, "adam", (FUSED, OWN), False, {}),
        (PERCEPTRON, "adamw", (FUSED_VD, OWN_VD), False, {"size": 37, "kind": "squared_error"}),
        (HEAD, "adam", (FUSED_VD, OWN_VD), True, {}),
        # More samples than lanes: members take turns.
        (HEAD, "adam", (FUSED, OWN), False, {"size": 37}),
        (HEAD, "adamw", (FUSED_VD, OWN_VD), False, {"size": 37}),
    ],
)
def test_steps_equal_those_of_xla(spec, optimizer, sparsifiers, biases, options):
    fused, written = sparsifiers
    assert takes_step(spec, fused, optimizer, isinstance(fused, Variational))
    assert not takes_step(spec, written, optimizer, isinstance(written, Variational))
    state = initial(spec, fused, optimizer, biases)
    for number in range(2):  # the second step has moments
        actual, expected = (
            step(spec, each, state, number, optimizer, **options) for each in sparsifiers
        )
        for (path, a), b in zip(
            jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True
        ):
            scale, name = 1e-6 * np.abs(b).max(), jax.tree_util.keystr(path)
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=scale, err_msg=name)
        for a, b in zip(jax.tree.leaves(actual[0]), jax.tree.leaves(state), strict=True):
            assert (np.asarray(a) != b).reshape(MEMBERS, -1).any(1).all()
        state = actual[0]


@pytest.mark.parametrize(
    ("spec", "sparsifier", "size"), [(PERCEPTRON, FUSED, 7), (HEAD, FUSED_VD, 7), (HEAD, FUSED, 37)]
)
def test_step_of_a_member_does_not_depend_on_others(spec, sparsifier, size):
    state = initial(spec, sparsifier)
    together = step(spec, sparsifier, state, 0, size=size)
    alone = step(spec, sparsifier, jax.tree.map(lambda x: x[:3], state), 0, size=size)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[:3]), alone, together)


def test_other_steps_are_those_of_xla():
    assert takes_step(PERCEPTRON, FUSED)
    assert not takes_step(PERCEPTRON, FUSED, "sgd")
    assert not takes_step(CONVOLUTIONS, FUSED)
    # Something else is trained, or the loss depends on something else.
    assert not takes_step(PERCEPTRON, FUSED, scale={"fc1": np.ones(MEMBERS)})

    class Doubled(Sparsifier):
        def loss_inputs(self, trainable, fixed, epoch):
            return jax.tree.map(lambda x: 2 * x, trainable["params"]), None

    class Moving(Sparsifier):
        update_every = "step"

    assert not takes_step(PERCEPTRON, Doubled())
    assert not takes_step(PERCEPTRON, Moving())


def test_reasons_without_steps():
    """The paper's networks keep their bits; gradients of wide networks take too much memory."""
    assert kernel.step_gap(PERCEPTRON) is None
    assert kernel.step_gap(SMALL_SPEC) == ("it has at most 4096 weights in fully connected layers")
    siren = architecture("siren", 1).kernel
    assert siren is not None and kernel.step_gap(siren) is not None
    convs = (lowering.Conv("conv", 64, (1, 1), (1, 1), ((0, 0), (0, 0)), 0), lowering.Flatten())
    wide = (*convs, lowering.Dense("fc1", 1024, 1))
    spec = kernel.KernelSpec((8, 8, 1), wide)
    assert kernel.step_gap(spec) == "gradients of 16 members take more than 32 MiB"


def test_kernel_without_steps_refuses_them():
    params, _ = chains.random_parameters(CONVOLUTIONS, 1)
    values = kernel.Values(jax.tree.map(lambda x: x[0], params))
    numbers = kernel.AdamNumbers(0.1, 0.0, 1.0, 1.0, 1.0)

    def step():
        return kernel.adam_step(
            *(CONVOLUTIONS, "tanh", values, (values, values), kernel.AdamConstants(0.9, 0.99, 1)),
            *(numbers, jnp.zeros((2, *CONVOLUTIONS.input_shape)), jnp.zeros(2, jnp.int32)),
            *(jnp.zeros(1, jnp.int32), jnp.ones(1), None, None),
        )

    with pytest.raises(ZoojaxError, match="takes no steps of Adam: it has at most 4096 weights"):
        step()


def test_moments_are_checked():
    arch = architecture("mlp-8", 1)
    assert isinstance(engine.loss(arch, "tanh", "kernel"), KernelLoss)
    params, _ = chains.random_parameters(PERCEPTRON, 1)
    values = kernel.Values(jax.tree.map(lambda x: x[0], params))
    moments = kernel.Values({"fc1": values.params["fc1"]}), values
    numbers = kernel.AdamNumbers(0.1, 0.0, 1.0, *optimizers.Adam().corrections(1))
    with pytest.raises(ZoojaxError, match="fc2/kernel is missing"):
        kernel.adam_step(
            *(PERCEPTRON, "tanh", values, moments, kernel.AdamConstants(0.9, 0.99, 1), numbers),
            *(jnp.zeros((2, *PERCEPTRON.input_shape)), jnp.zeros(2, jnp.int32)),
            *(jnp.zeros(1, jnp.int32), jnp.ones(1), None, None),
        )
