"""Losses of hyper-representations, compared with NumPy implementations of their equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoojax.architectures.cnn import small_cnn
from zoojax.hyper_representation import losses
from zoojax.hyper_representation.codec import Codec
from zoojax.hyper_representation.dataset import fit_normalization
from zoojax.hyper_representation.losses import masked_mse, scale_log_alpha
from zoojax.hyper_representation.settings import Settings
from zoojax.hyper_representation.tokens import fill_missing

nt_xent = jax.jit(losses.nt_xent)

ARCH = small_cnn(1, 10)
# As in twins of the released code, biases of convolutions are variational.
VARIATIONAL = {"conv1": ("kernel", "bias"), "conv2": ("kernel", "bias"), "fc1": ("kernel",)}
SAMPLES, RADIUS = 5, 4.0


def reference_nt_xent(first: np.ndarray, second: np.ndarray, temperature: float) -> float:
    """Equation 1 of Chen et al. (2020) as a loop over pairs, in float64."""
    both = [np.asarray(x, np.float64) for x in (*first, *second)]
    n = len(both)

    def similarity(i: int, j: int) -> float:
        return float(both[i] @ both[j] / (np.linalg.norm(both[i]) * np.linalg.norm(both[j])))

    total = 0.0
    for i in range(n):
        partner = (i + n // 2) % n
        others = sum(np.exp(similarity(i, k) / temperature) for k in range(n) if k != i)
        total -= np.log(np.exp(similarity(i, partner) / temperature) / others)
    return total / n


@pytest.mark.parametrize(("samples", "temperature"), [(2, 0.1), (7, 0.1), (7, 1.0)])
def test_nt_xent_matches_loop_over_pairs(samples, temperature):
    rng = np.random.default_rng(samples)
    first, second = rng.standard_normal((2, samples, 6)).astype(np.float32)
    loss = float(nt_xent(first, second, temperature))
    assert loss == pytest.approx(reference_nt_xent(first, second, temperature), rel=1e-5)
    # Invariant to the scale of projections and to the order of views.
    assert float(nt_xent(3 * second, first, temperature)) == pytest.approx(loss, rel=1e-5)


def test_nt_xent_decreases_as_pairs_align():
    """Gradient descent aligns all pairs."""
    rng = np.random.default_rng(0)
    first, other = rng.standard_normal((2, 8, 32)).astype(np.float32)
    values = [float(nt_xent(first, (1 - t) * other + t * first, 0.1)) for t in np.linspace(0, 1, 6)]
    assert all(np.diff(values) < 0)
    opposite = float(nt_xent(first, -first, 0.1))
    assert opposite > values[0]

    def loss(second):
        return nt_xent(first, second, 0.1)

    second, gradient = jnp.asarray(other), jax.jit(jax.grad(loss))
    for _ in range(200):
        second = second - 2.0 * gradient(second)
    cosines = jnp.sum(first * second, axis=1)
    cosines /= jnp.linalg.norm(first, axis=1) * jnp.linalg.norm(second, axis=1)
    assert float(cosines.min()) > 0.6


def test_nt_xent_of_zero_projections_is_finite():
    """The norm of a zero vector has a NaN gradient, which must not propagate."""
    value, gradient = jax.jit(jax.value_and_grad(lambda x: nt_xent(x, x, 0.1)))(jnp.zeros((3, 4)))
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_log_alphas_are_scaled_around_the_threshold():
    """tanh((log alpha - 3) / r)."""
    alphas = np.array([-10, -1, 3, 7, 8], np.float32)
    expected = np.tanh((alphas.astype(np.float64) - 3) / RADIUS)
    np.testing.assert_allclose(scale_log_alpha(jnp.asarray(alphas), RADIUS), expected, rtol=1e-6)
    assert float(scale_log_alpha(jnp.float32(3), RADIUS)) == 0
    assert float(scale_log_alpha(jnp.float32(7), RADIUS)) == pytest.approx(np.tanh(1))


def random_params(seed: int, width: float = 1.0) -> dict:
    """Stacked parameters whose layers have different means and standard deviations."""
    rng = np.random.default_rng(seed)
    return {
        layer: {
            name: (i + width * (1 + i) * rng.standard_normal((SAMPLES, *shape))).astype(np.float32)
            for name, shape in leaves.items()
        }
        for i, (layer, leaves) in enumerate(ARCH.parameter_shapes().items())
    }


def codec(kind: str) -> Codec:
    settings = Settings(tokens=kind, chunk_length=100, alpha_radius=RADIUS)  # pyright: ignore
    return Codec(settings, ARCH, fit_normalization(random_params(0)), VARIATIONAL, {})


@pytest.mark.parametrize("kind", ["neuron", "chunk"])
def test_weight_loss_is_equation_4(kind):
    """Squared errors in units of the layer's standard deviation over the training set."""
    model, weights, output = codec(kind), random_params(1), random_params(2, 0.5)
    norm = model.normalization

    @jax.jit
    def distance(output, weights):
        predicted, target = (model.tokens(norm.apply(x)) for x in (output, weights))
        return masked_mse(predicted, target, model.masks[0])

    loss = float(distance(output, weights))
    training, total, count = random_params(0), 0.0, 0
    for layer in ARCH.layers:
        layer_values = np.concatenate(
            [x.ravel() for x in training[layer].values()], dtype=np.float64
        )
        for name, weight in weights[layer].items():
            error = (output[layer][name].astype(np.float64) - weight) / layer_values.std()
            total, count = total + np.sum(error**2), count + error.size
    assert loss == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("kind", ["neuron", "chunk"])
def test_alpha_loss_is_equation_5(kind):
    """Values decoded for parameters without a log alpha are ignored."""
    model = codec(kind)
    alphas = {k: {n: random_params(3, 2)[k][n] for n in names} for k, names in VARIATIONAL.items()}
    output = random_params(4, 2)

    @jax.jit
    def distance(output, weights, alphas):
        tokens = model.tokens(jax.tree.map(lambda a: (a - 3) / RADIUS, output))
        predicted = {name: jnp.tanh(x) for name, x in tokens.items()}
        target = model.targets(weights, alphas)[1]
        assert target is not None
        return masked_mse(predicted, model.alpha_tokens(target), model.masks[1])

    loss = float(distance(output, random_params(1), alphas))
    errors = [
        np.tanh((output[k][n].astype(np.float64) - 3) / RADIUS)
        - np.tanh((alphas[k][n].astype(np.float64) - 3) / RADIUS)
        for k, names in VARIATIONAL.items()
        for n in names
    ]
    expected = np.mean(np.concatenate([e.ravel() for e in errors]) ** 2)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_decoder_output_is_converted_to_clipped_log_alphas():
    """The decoder outputs (log alpha - 3) / r; clipping depends on the kind of layer."""
    model = codec("chunk")
    alphas = {k: {n: random_params(3, 2)[k][n] for n in names} for k, names in VARIATIONAL.items()}

    @jax.jit
    def roundtrip(weights, alphas):
        full = jax.vmap(lambda one: fill_missing(one, ARCH))(alphas)
        out = model.tokens(jax.tree.map(lambda a: (a - 3) / RADIUS, full))
        return model.to_params([model.tokens(model.normalization.apply(weights)), out])

    decoded_weights, decoded = roundtrip(random_params(1), alphas)
    assert decoded is not None and decoded.keys() == VARIATIONAL.keys()
    for layer, names in VARIATIONAL.items():
        clip = 8 if layer.startswith("conv") else 10
        assert decoded[layer].keys() == set(names)
        for name in names:
            expected = np.clip(alphas[layer][name], -clip, clip)
            np.testing.assert_allclose(decoded[layer][name], expected, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(
                decoded_weights[layer][name], random_params(1)[layer][name], rtol=1e-5, atol=1e-5
            )
