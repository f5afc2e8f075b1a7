"""The kernel on networks of a few inputs: sines, own targets, and batches with padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoojax import ops
from zoojax.ops import kernel
from zoojax.ops.kernel import spec
from zoojax.ops.kernel.lowering import takes_points

OMEGA = 30.0


def network(*widths: int, activation: str = "sine") -> spec.KernelSpec:
    """A network of two inputs, with activations after all layers but the last."""
    operations: list[spec.Operation] = [spec.Flatten()]
    for slot, width in enumerate(widths):
        operations += [spec.Dense(f"fc{slot}", width, slot), spec.Activation(activation, OMEGA)]
    return spec.KernelSpec((1, 1, 2), tuple(operations[:-1]))


@pytest.fixture(autouse=True, scope="module")
def available():
    reason = kernel.unavailable_reason(network(3, 2))
    if reason is not None:
        pytest.skip(reason)


def member(net: spec.KernelSpec, seed: int) -> dict:
    rng = np.random.default_rng(seed)
    return {
        layer: {
            name: jnp.asarray(rng.normal(scale=0.2, size=shape), jnp.float32)
            for name, shape in leaves.items()
        }
        for layer, leaves in net.parameter_shapes().items()
    }


def expected(params: dict, points: jax.Array) -> jax.Array:
    x, layers = points.reshape(len(points), -1), list(params.values())
    for layer in layers[:-1]:
        x = jnp.sin(OMEGA * (x @ layer["kernel"] + layer["bias"][None]))
    return x @ layers[-1]["kernel"] + layers[-1]["bias"][None]


def test_only_networks_of_few_inputs_take_points():
    assert takes_points(network(4, 1))
    wide = spec.KernelSpec((4, 4, 2), network(4, 1).operations)
    assert not takes_points(wide)
    pooled = spec.KernelSpec((2, 2, 2), (spec.GlobalAveragePool(), spec.Dense("fc0", 1, 0)))
    assert not takes_points(pooled)


@pytest.mark.parametrize("largest", [3.0, 8000.0, 1e6])
def test_sine_and_its_slope(largest):
    """Within 1e-6 of the exact values, also where the reduction takes the library's functions."""
    net = network(1, 1)
    inputs = np.linspace(-largest / OMEGA, largest / OMEGA, 1003, dtype=np.float32)
    points = jnp.asarray(np.stack([inputs, 0 * inputs], axis=-1).reshape(-1, 1, 1, 2))
    one, zero = jnp.ones((1, 1)), jnp.zeros(1)
    params = {
        "fc0": {"kernel": jnp.array([[1.0], [0.0]]), "bias": zero},
        "fc1": {"kernel": one, "bias": zero},
    }
    argument = (np.float32(OMEGA) * inputs).astype(np.float64)
    index = jnp.arange(len(inputs), dtype=jnp.int32)

    def outputs(params):
        return kernel.outputs(net, "tanh", params, None, points, index)[:, 0]

    np.testing.assert_allclose(outputs(params), np.sin(argument), atol=1e-6)
    # The gradient of the bias sums the slopes; one point at a time has one slope.
    for at in (0, 17, 501, 1000):
        slope = jax.grad(lambda p, at=at: outputs(p)[at])(params)["fc0"]["bias"][0]
        np.testing.assert_allclose(slope / OMEGA, np.cos(argument[at]), atol=1e-6)


@pytest.mark.parametrize("batch", [1, 37, 300])
def test_loss_of_own_targets_and_padding(batch):
    """Two members with targets of their own; the last points are padding."""
    net, rng = network(5, 7, 3), np.random.default_rng(batch)
    points = jnp.asarray(rng.uniform(-1, 1, (batch, 1, 1, 2)), jnp.float32)
    targets = jnp.asarray(rng.normal(size=(2, batch, 3)), jnp.float32)
    weights = jnp.asarray(np.arange(batch) < max(batch - 3, 1), jnp.float32)
    index = jnp.asarray(rng.permutation(batch), jnp.int32)
    members = jax.tree.map(lambda *x: jnp.stack(x), member(net, 1), member(net, 2))

    def loss(params, own):
        return kernel.loss(
            *(net, "tanh", params, None, points, own, index, weights, None, None),
            kind="squared_error",
        )[0]

    def reference(params, own):
        error = jnp.square(expected(params, points[index]) - own[index]).mean(1)
        return jnp.sum(error * weights) / jnp.sum(weights)

    actual, right = (
        jax.vmap(jax.value_and_grad(each))(members, targets) for each in (loss, reference)
    )
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * max(1, float(np.abs(b).max())))


def test_noise_is_that_of_xla():
    """Variational dropout draws the noise of each point's position in the batch."""
    net = network(1)
    points = jnp.zeros((40, 1, 1, 2))
    noise = ops.Noise(jnp.array([1, 2], jnp.uint32), jnp.uint32(0))
    params = {"fc0": {"kernel": jnp.zeros((2, 1)), "bias": jnp.zeros(1)}}
    variances = {"fc0": {"kernel": jnp.zeros((2, 1))}}
    index = jnp.arange(40, dtype=jnp.int32)
    sampled = kernel.outputs(net, "tanh", params, variances, points, index, noise)
    # The floor of the variance is 1e-8.
    right = 1e-4 * ops.normal(noise.at(0), (40, 1))
    np.testing.assert_allclose(sampled, right, rtol=1e-4)
