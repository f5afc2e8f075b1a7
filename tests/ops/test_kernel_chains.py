"""The kernel computes any chain of operations: its losses and gradients are those of XLA."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.support import chains
from tests.support.kernel import needs_kernel
from zoojax import keys
from zoojax.ops import kernel
from zoojax.ops.kernel.spec import (
    NO_PADDING,
    Activation,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool,
    KernelSpec,
    Pool,
)

MEMBERS, IMAGES = 18, 9

pytestmark = needs_kernel

# Strides, padding, average pooling and a pooled activation that is not monotone.
CONVOLUTIONS = KernelSpec(
    (11, 10, 2),
    (
        Conv("conv1", 5, (3, 2), (1, 1), ((1, 1), (0, 1)), 0),
        Activation("silu"),
        Pool("max", (2, 2), (2, 2)),
        Dropout(16),
        Conv("conv2", 7, (3, 3), (2, 2), ((1, 2), (2, 1)), 1),
        Activation(),
        Pool("average", (2, 3), (1, 2), ((1, 0), (1, 2))),
        GlobalAveragePool(),
        Dropout(17),
        Dense("fc", 3, 2),
    ),
)
# So many weights that members run one after the other, behind a convolution and without one.
HEAD = KernelSpec(
    (6, 6, 3),
    (
        Conv("conv", 9, (3, 3), (1, 1), NO_PADDING, 0),
        Pool("max", (2, 2), (2, 2)),
        Activation("tanh"),
        Flatten(),
        Dense("fc1", 75, 1),
        Activation("sine", 1.5),
        Dropout(16),
        Dense("fc2", 33, 2),
        Activation(),
        Dense("fc3", 5, 3),
    ),
)
PERCEPTRON = KernelSpec(
    (7, 5, 2),
    (Flatten(), Dense("fc1", 66, 0), Activation("gelu"), Dropout(8), Dense("fc2", 4, 1)),
)


def batch(spec):
    rng = np.random.default_rng(2)
    return {
        "images": chains.random_images(spec, IMAGES),
        "index": rng.integers(0, IMAGES, (MEMBERS, 21)).astype(np.int32),
        # The last ones are padding.
        "weights": (np.arange(21) < 19).astype(np.float32),
        "labels": rng.integers(0, spec.outputs, IMAGES).astype(np.int32),
        "rows": rng.normal(size=(IMAGES, spec.outputs)).astype(np.float32),
        "cotangents": rng.normal(size=(21, spec.outputs)).astype(np.float32),
    }


def kernel_loss(spec, own, kind, given, params, variances, index, noise, rate):
    arguments = (spec, own, params, variances, given["images"])
    if kind == "outputs":
        y = kernel.outputs(*arguments, index, noise, rate)
        return jnp.sum(y * given["cotangents"])
    targets = given["labels"] if kind == "cross_entropy" else given["rows"]
    return kernel.loss(*arguments, targets, index, given["weights"], noise, rate, kind)[0]


def reference_loss(spec, own, kind, given, params, variances, index, noise, rate):
    x = jnp.asarray(given["images"])[index]
    y = chains.outputs(spec, own, params, variances, x, noise, rate)
    if kind == "outputs":
        return jnp.sum(y * given["cotangents"])
    if kind == "cross_entropy":
        labels = jnp.asarray(given["labels"])[index]
        losses = optax.softmax_cross_entropy_with_integer_labels(y, labels)
    else:
        losses = jnp.mean(jnp.square(y - jnp.asarray(given["rows"])[index]), axis=-1)
    return jnp.sum(losses * given["weights"]) / jnp.sum(given["weights"])


def gradients(loss, spec, kind, variational, own, dtype=jnp.float32):
    """Losses and gradients of all members, with floating-point numbers of a type."""

    def cast(tree):
        return jax.tree.map(lambda x: jnp.asarray(x, dtype if x.dtype == "f4" else None), tree)

    params, variances = cast(chains.random_parameters(spec, MEMBERS))
    given = cast(batch(spec))

    def member(params, variances, index, seed, rate):
        noise = keys.step_noise(keys.stream_key(seed, "noise", 1), 3, slots=128)

        def of(trainable):
            return loss(spec, own, kind, given, *trainable, index, noise, rate)

        return jax.value_and_grad(of)((params, variances))

    seeds, rates = np.arange(MEMBERS, dtype=np.int32), np.linspace(0.1, 0.5, MEMBERS)
    stacked = (params, variances if variational else None, given["index"], seeds)
    return jax.device_get(jax.jit(jax.vmap(member))(*stacked, rates.astype(np.float32)))


def assert_gradients_agree(spec, kind="cross_entropy", variational=False, own="tanh"):
    assert kernel.unavailable_reason(spec) is None
    case = (spec, kind, variational, own)
    assert_within_rounding(
        lambda dtype: gradients(reference_loss, *case, dtype), gradients(kernel_loss, *case)
    )


def assert_within_rounding(reference, actual):
    """The kernel is within 1e-5 of each leaf's norm of XLA, or of double precision.

    XLA itself is further from double precision for some chains: where errors of its noise (see
    `chains.outputs`) or of the first layers are amplified.
    """
    errors = jax.tree.map(distance, actual, reference(jnp.float32))
    if max(jax.tree.leaves(errors)) >= 1e-5:
        with jax.enable_x64(True):
            errors = jax.tree.map(distance, actual, reference(jnp.float64))
    for path, error in jax.tree.leaves_with_path(errors):
        assert error < 1e-5, jax.tree_util.keystr(path)


def distance(a, b):
    norm = np.linalg.norm(b)
    assert norm > 0
    return np.linalg.norm(np.subtract(a, b)) / norm


@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize("spec", [CONVOLUTIONS, HEAD, PERCEPTRON], ids=["convs", "head", "mlp"])
def test_loss_and_gradients_of_a_chain(spec, variational):
    assert_gradients_agree(spec, variational=variational)


@pytest.mark.parametrize("kind", ["squared_error", "outputs"])
@pytest.mark.parametrize("spec", [CONVOLUTIONS, HEAD], ids=["convs", "head"])
def test_other_losses(spec, kind):
    assert_gradients_agree(spec, kind, variational=True, own="gelu")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30))
def test_random_chains(seed, tmp_path_factory, monkeypatch):
    """Each compiles a kernel, which is not stored in the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp()))
    spec = chains.random_chain(seed)
    own = list(chains.ACTIVATIONS)[seed % 6]
    kind = ("cross_entropy", "squared_error", "outputs")[seed % 3]
    for variational in (False, True):
        assert_gradients_agree(spec, kind, variational, own)


@pytest.mark.parametrize("spec", [CONVOLUTIONS, HEAD, PERCEPTRON], ids=["convs", "head", "mlp"])
def test_evaluation_and_outputs_without_noise(spec):
    params = jax.tree.map(lambda x: x[:3], chains.random_parameters(spec, MEMBERS)[0])
    # More images than lanes, so that the last samples of the head are padding.
    images = jnp.asarray(chains.random_images(spec, 37))
    labels = jnp.asarray(np.random.default_rng(0).integers(0, spec.outputs, 37), jnp.int32)

    def member(params):
        index = jnp.arange(37, dtype=jnp.int32)
        y = kernel.outputs(spec, "relu", params, None, images, index)
        return y, *kernel.evaluate(spec, "relu", params, images, labels)

    actual, loss, correct, predictions = jax.jit(jax.vmap(member))(params)
    expected = jax.vmap(lambda p: chains.outputs(spec, "relu", p, None, images))(params)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(predictions, jnp.argmax(actual, -1))
    losses = optax.softmax_cross_entropy_with_integer_labels(actual, labels[None].repeat(3, 0))
    np.testing.assert_allclose(loss, losses.sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(correct, (np.asarray(predictions) == np.asarray(labels)).sum(-1))


@pytest.mark.parametrize("spec", [HEAD, PERCEPTRON], ids=["head", "mlp"])
def test_member_of_a_head_does_not_depend_on_others(spec):
    given, (params, _) = batch(spec), chains.random_parameters(spec, MEMBERS)

    def member(params, index):
        def loss(params):
            arguments = (given, params, None, index, None, None)
            return kernel_loss(spec, "tanh", "cross_entropy", *arguments)

        return jax.value_and_grad(loss)(params)

    program = jax.jit(jax.vmap(member))
    together = program(params, given["index"])
    alone = program(*jax.tree.map(lambda x: x[:2], (params, given["index"])))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[:2]), alone, together)
