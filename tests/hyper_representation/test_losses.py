"""The losses of hyper-representations against their formulas, written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoojax.architectures.base import architecture
from zoojax.hyper_representation import losses
from zoojax.hyper_representation.codec import Codec
from zoojax.hyper_representation.dataset import normalisation
from zoojax.hyper_representation.losses import masked_mse, scale_log_alpha
from zoojax.hyper_representation.settings import Settings
from zoojax.hyper_representation.tokens import fill_missing, shapes

pytestmark = pytest.mark.usefixtures("quickly_compiled")
nt_xent = jax.jit(losses.nt_xent)

ARCH = architecture("small", 1)
# As in twins of the released code: biases of convolutions are variational.
VARIATIONAL = {"conv1": ("kernel", "bias"), "conv2": ("kernel", "bias"), "fc1": ("kernel",)}
SAMPLES, RADIUS = 5, 4.0


def by_hand_nt_xent(first: np.ndarray, second: np.ndarray, temperature: float) -> float:
    """Equation 1 of Chen et al. (2020), a pair at a time, in float64."""
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
def test_nt_xent_is_the_double_loop(samples, temperature):
    rng = np.random.default_rng(samples)
    first, second = rng.standard_normal((2, samples, 6)).astype(np.float32)
    found = float(nt_xent(first, second, temperature))
    assert found == pytest.approx(by_hand_nt_xent(first, second, temperature), rel=1e-5)
    # Neither their lengths nor which view is first.
    assert float(nt_xent(3 * second, first, temperature)) == pytest.approx(found, rel=1e-5)


def test_nt_xent_falls_as_pairs_align():
    """And following its gradient turns every pair towards each other."""
    rng = np.random.default_rng(0)
    first, other = rng.standard_normal((2, 8, 32)).astype(np.float32)
    found = [float(nt_xent(first, (1 - t) * other + t * first, 0.1)) for t in np.linspace(0, 1, 6)]
    assert all(np.diff(found) < 0)
    against = float(nt_xent(first, -first, 0.1))
    assert against > found[0]

    def loss(second):
        return nt_xent(first, second, 0.1)

    second, gradient = jnp.asarray(other), jax.jit(jax.grad(loss))
    for _ in range(200):
        second = second - 2.0 * gradient(second)
    cosines = jnp.sum(first * second, axis=1)
    cosines /= jnp.linalg.norm(first, axis=1) * jnp.linalg.norm(second, axis=1)
    assert float(cosines.min()) > 0.6


def test_nt_xent_of_projections_of_zero_is_finite():
    """A dead projection has no direction; its gradient must not be NaN."""
    value, gradient = jax.jit(jax.value_and_grad(lambda x: nt_xent(x, x, 0.1)))(jnp.zeros((3, 4)))
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_alphas_are_scaled_around_the_threshold():
    """tanh((log alpha - 3) / r): zero at the threshold, three quarters of the way r from it."""
    alphas = np.array([-10, -1, 3, 7, 8], np.float32)
    expected = np.tanh((alphas.astype(np.float64) - 3) / RADIUS)
    np.testing.assert_allclose(scale_log_alpha(jnp.asarray(alphas), RADIUS), expected, rtol=1e-6)
    assert float(scale_log_alpha(jnp.float32(3), RADIUS)) == 0
    assert float(scale_log_alpha(jnp.float32(7), RADIUS)) == pytest.approx(np.tanh(1))


def made_up(seed: int, width: float = 1.0) -> dict:
    """Stacked trees shaped like the parameters, layers of other spreads and means."""
    rng = np.random.default_rng(seed)
    return {
        layer: {
            name: (i + width * (1 + i) * rng.standard_normal((SAMPLES, *shape))).astype(np.float32)
            for name, shape in leaves.items()
        }
        for i, (layer, leaves) in enumerate(shapes(ARCH).items())
    }


def codec(kind: str) -> Codec:
    settings = Settings(tokens=kind, chunk_length=100, alpha_radius=RADIUS)  # pyright: ignore
    return Codec(settings, ARCH, normalisation(made_up(0)), VARIATIONAL)


@pytest.mark.parametrize("kind", ["neuron", "chunk"])
def test_the_loss_of_weights_is_equation_4(kind):
    """Squares in units of the layer's standard deviation over the training set."""
    learned, weights, guessed = codec(kind), made_up(1), made_up(2, 0.5)
    norm = learned.normalisation

    @jax.jit
    def distance(guessed, weights):
        predicted, target = (learned.tokens(norm.apply(x)) for x in (guessed, weights))
        return masked_mse(predicted, target, learned.masks[0])

    found = float(distance(guessed, weights))
    training, total, count = made_up(0), 0.0, 0
    for layer in ARCH.layers:
        of_layer = np.concatenate([x.ravel() for x in training[layer].values()], dtype=np.float64)
        for name, weight in weights[layer].items():
            error = (guessed[layer][name].astype(np.float64) - weight) / of_layer.std()
            total, count = total + np.sum(error**2), count + error.size
    assert found == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("kind", ["neuron", "chunk"])
def test_the_loss_of_alphas_is_equation_5(kind):
    """Over what is variational alone; what is decoded at other places counts for nothing."""
    learned = codec(kind)
    alphas = {k: {n: made_up(3, 2)[k][n] for n in names} for k, names in VARIATIONAL.items()}
    guessed = made_up(4, 2)

    @jax.jit
    def distance(guessed, weights, alphas):
        tokens = learned.tokens(jax.tree.map(lambda a: (a - 3) / RADIUS, guessed))
        predicted = {name: jnp.tanh(x) for name, x in tokens.items()}
        target = learned.targets(weights, alphas)[1]
        assert target is not None
        return masked_mse(predicted, learned.alpha_tokens(target), learned.masks[1])

    found = float(distance(guessed, made_up(1), alphas))
    errors = [
        np.tanh((guessed[k][n].astype(np.float64) - 3) / RADIUS)
        - np.tanh((alphas[k][n].astype(np.float64) - 3) / RADIUS)
        for k, names in VARIATIONAL.items()
        for n in names
    ]
    expected = np.mean(np.concatenate([e.ravel() for e in errors]) ** 2)
    assert found == pytest.approx(expected, rel=1e-5)


def test_log_alphas_come_back_from_what_the_decoder_gives():
    """(log alpha - 3) / r, unscaled and clipped as a layer's are, at their own places."""
    learned = codec("chunk")
    alphas = {k: {n: made_up(3, 2)[k][n] for n in names} for k, names in VARIATIONAL.items()}

    @jax.jit
    def there_and_back(weights, alphas):
        whole = jax.vmap(lambda one: fill_missing(one, ARCH))(alphas)
        given = learned.tokens(jax.tree.map(lambda a: (a - 3) / RADIUS, whole))
        return learned.parameters([learned.tokens(learned.normalisation.apply(weights)), given])

    found_weights, found = there_and_back(made_up(1), alphas)
    assert found is not None and found.keys() == VARIATIONAL.keys()
    for layer, names in VARIATIONAL.items():
        clip = 8 if layer.startswith("conv") else 10
        assert found[layer].keys() == set(names)
        for name in names:
            expected = np.clip(alphas[layer][name], -clip, clip)
            np.testing.assert_allclose(found[layer][name], expected, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(
                found_weights[layer][name], made_up(1)[layer][name], rtol=1e-5, atol=1e-5
            )
