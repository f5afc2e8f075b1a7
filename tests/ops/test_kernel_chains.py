"""The kernel computes any chain of operations: its losses and gradients are those of XLA."""

import contextlib
import functools
import math

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
ULP, DRAWS = 2.0**-23, 4

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


def cast(tree, dtype):
    return jax.tree.map(lambda x: jnp.asarray(x, dtype if x.dtype == "f4" else None), tree)


@functools.lru_cache(maxsize=1)
def program(loss, spec, kind, own, dtype):
    """The compiled losses and gradients of all members."""
    given = cast(batch(spec), dtype)

    def member(params, variances, images, index, seed, rate):
        noise = keys.step_noise(keys.stream_key(seed, "noise", 1), 3, slots=128)

        def of(trainable):
            batch = {**given, "images": images}
            return loss(spec, own, kind, batch, *trainable, index, noise, rate)

        return jax.value_and_grad(of)((params, variances))

    return jax.jit(jax.vmap(member, in_axes=(0, 0, None, 0, 0, 0)))


def gradients(loss, spec, kind, variational, own, dtype=jnp.float32, draw=None):
    """Losses and gradients of all members, with floating-point numbers of a type.

    With a draw, parameters, variances and images are moved by one ulp up or down, at random.
    """
    given, rng = batch(spec), np.random.default_rng(draw)
    params, variances = chains.random_parameters(spec, MEMBERS)
    inputs = cast((params, variances if variational else None, given["images"]), dtype)
    if draw is not None:
        inputs = jax.tree.map(lambda x: x * (1 + ULP * rng.choice([-1, 1], x.shape)), inputs)
    seeds, rates = np.arange(MEMBERS, dtype=np.int32), np.linspace(0.1, 0.5, MEMBERS)
    of_members = (given["index"], seeds, rates.astype(np.float32))
    return jax.device_get(program(loss, spec, kind, own, dtype)(*inputs, *of_members))


def assert_gradients_agree(spec, kind="cross_entropy", variational=False, own="tanh"):
    assert kernel.unavailable_reason(spec) is None
    case = (spec, kind, variational, own)
    reference = functools.partial(gradients, reference_loss, *case)
    assert_within_rounding(
        reference, gradients(kernel_loss, *case), lambda exact: rounding(spec, reference, exact)
    )


def assert_within_rounding(reference, actual, rounding=None):
    """The kernel is within 1e-5 of each leaf's norm of XLA, or of double precision.

    XLA itself is further from double precision for some chains: where errors of its noise (see
    `chains.outputs`) or of the first layers are amplified.

    Args:
        reference: Function (type) -> the reference, with floating-point numbers of the type.
        actual: What the kernel computes.
        rounding: Function (reference in double precision) -> by leaf, the distance that rounding
            alone explains; the limit is this distance where it exceeds 1e-5. None for 1e-5.
    """
    errors = jax.tree.map(distance, actual, reference(jnp.float32))
    limits = jax.tree.map(lambda error: 1e-5, errors)
    if not are_below(errors, limits):
        with double_precision():
            exact = reference(jnp.float64)
            errors = jax.tree.map(distance, actual, exact)
            if rounding is not None and not are_below(errors, limits):
                limits = jax.tree.map(max, limits, rounding(exact))
    for (path, error), limit in zip(
        jax.tree.leaves_with_path(errors), jax.tree.leaves(limits), strict=True
    ):
        assert error < limit, jax.tree_util.keystr(path)


@contextlib.contextmanager
def double_precision():
    """Enables double precision, and optimization, without which some chains take minutes."""
    option = "jax_disable_most_optimizations"
    before = jax.config.values[option]
    jax.config.update(option, False)
    try:
        with jax.enable_x64(True):
            yield
    finally:
        jax.config.update(option, before)


def are_below(errors, limits):
    return all(jax.tree.leaves(jax.tree.map(lambda error, limit: error < limit, errors, limits)))


def rounding(spec, reference, exact):
    """By leaf, how far the rounding of sums moves the reference, in double precision.

    Measured is how far it moves if each parameter, variance and pixel moves by one ulp, that is by
    2 u (u = 2^-24) relative to its value: the root mean square of four draws. In a sum of n
    products of random signs, weights that move by 2 u move the sum by 2 u relative to its typical
    size. In single precision, the k-th of its n partial sums, which is sqrt(k / n) of the sum, is
    rounded with an error of at most u, or u / sqrt(3) on average. Together, these errors move the
    sum by sqrt(n / 6) u: sqrt(n / 24) times as far as the weights do. So the measured distance is
    multiplied by sqrt(n / 24) for the longest sum of the chain, or by one if that is less: weights
    of single precision do not determine the result any better.

    This exceeds 1e-5 only where gradients amplify an ulp by 40 or more, as behind several layers of
    sines with large arguments (seed 19, where no leaf of the kernel is further from double
    precision than 2.3e-5, and none of XLA in single precision than 1.7e-5).
    """
    draws = [jax.tree.map(distance, reference(jnp.float64, draw), exact) for draw in range(DRAWS)]
    longest = max(math.prod(shapes["kernel"][:-1]) for shapes in spec.parameter_shapes().values())
    factor = max(1.0, math.sqrt(longest / 24))
    return jax.tree.map(lambda *each: factor * math.sqrt(np.mean(np.square(each))), *draws)


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
