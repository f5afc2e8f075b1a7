"""Hard-concrete gates compared with torch, with the same uniform numbers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from zoojax import L0
from zoojax.errors import ZoojaxError
from zoojax.sparsifiers.l0 import _uniform, open_probability, sampled_gates

BETA, GAMMA, ZETA = 0.5, -0.2, 1.3
METHOD = L0(beta=BETA, gamma=GAMMA, zeta=ZETA, droprate=0.3, gate_rate=4.0)
RNG = np.random.default_rng(0)
LAYERS = {"a": (30, 20), "b": (20, 10)}
PARAMS = {
    layer: {
        "kernel": RNG.normal(size=shape).astype(np.float32),
        "bias": RNG.normal(size=shape[1]).astype(np.float32),
    }
    for layer, shape in LAYERS.items()
}
# On both sides of closed and open gates.
GATES = {
    layer: {"kernel": RNG.uniform(-1.5, 1.5, shape).astype(np.float32)}
    for layer, shape in LAYERS.items()
}
INPUTS = RNG.normal(size=(5, 30)).astype(np.float32)
KEY = jax.random.key(5)


def loss(params):
    hidden = jnp.tanh(INPUTS @ params["a"]["kernel"] + params["a"]["bias"][None])
    return jnp.mean((hidden @ params["b"]["kernel"] + params["b"]["bias"][None]) ** 2), None


def test_start_has_the_drop_rate():
    trainable, fixed = METHOD.init(PARAMS, {"penalty": jnp.float32(0.1)})
    for layer, shape in LAYERS.items():
        gates = np.asarray(trainable["gates"][layer]["kernel"])
        assert gates.shape == shape
        np.testing.assert_allclose(1 / (1 + np.exp(-4 * gates)), 0.7, rtol=1e-6)
    assert float(fixed["penalty"]) == pytest.approx(0.1)


def test_objective_and_gradients_match_torch():
    penalty = 0.003
    trainable, fixed = {"params": PARAMS, "gates": GATES}, {"penalty": jnp.float32(penalty)}

    @jax.jit
    def run(trainable):
        return jax.value_and_grad(lambda t: METHOD.objective(loss, t, fixed, jnp.int32(1), KEY)[0])(
            trainable
        )

    value, gradients = run(trainable)
    weights, gates, gated, penalties = {}, {}, {}, 0
    for i, layer in enumerate(LAYERS):
        u = torch.tensor(np.asarray(_uniform(jax.random.key_data(KEY), i, LAYERS[layer])))
        weights[layer] = torch.tensor(PARAMS[layer]["kernel"], requires_grad=True)
        gates[layer] = torch.tensor(GATES[layer]["kernel"], requires_grad=True)
        alpha = 4 * gates[layer]
        s = torch.sigmoid((torch.log(u) - torch.log(1 - u) + alpha) / BETA)
        gated[layer] = weights[layer] * (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)
        penalties = penalties + torch.sigmoid(alpha - BETA * math.log(-GAMMA / ZETA)).sum()
    hidden = torch.tanh(torch.tensor(INPUTS) @ gated["a"] + torch.tensor(PARAMS["a"]["bias"]))
    outputs = hidden @ gated["b"] + torch.tensor(PARAMS["b"]["bias"])
    expected = (outputs**2).mean() + penalty * penalties
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=1e-5)
    for part, theirs in (("params", weights), ("gates", gates)):
        for layer, tensor in theirs.items():
            actual, exact = gradients[part][layer]["kernel"], tensor.grad.numpy()
            np.testing.assert_allclose(actual, exact, rtol=1e-3, atol=1e-5 * np.abs(exact).max())


def test_evaluation_uses_gates_without_noise_and_prunes_closed_ones():
    params = jax.jit(METHOD.effective)({"params": PARAMS, "gates": GATES}, {})
    for layer in LAYERS:
        s = torch.sigmoid(4 * torch.tensor(GATES[layer]["kernel"]))
        z = (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1).numpy()
        assert 0.1 < (z == 0).mean() < 0.9
        assert 0.1 < (z == 1).mean() < 0.9
        weights = np.asarray(params[layer]["kernel"])
        np.testing.assert_allclose(weights, PARAMS[layer]["kernel"] * z, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(weights == 0, z == 0)
        np.testing.assert_array_equal(params[layer]["bias"], PARAMS[layer]["bias"])


def test_gates_of_training_have_their_distribution():
    """The open fraction is the probability of the penalty; draws are in (0, 1)."""
    u = _uniform(jax.random.key_data(KEY), 0, (200_000,))
    assert 0 < float(u.min()) < float(u.max()) < 1
    assert float(u.mean()) == pytest.approx(0.5, abs=0.005)
    for alpha in (-2.0, 0.0, 1.0):
        gates = sampled_gates(u, jnp.float32(alpha), BETA, GAMMA, ZETA)
        expected = open_probability(jnp.float32(alpha), BETA, GAMMA, ZETA)
        assert float((gates > 0).mean()) == pytest.approx(float(expected), abs=0.005)


def test_layers_and_keys_draw_different_numbers():
    words = [jax.random.key_data(jax.random.key(seed)) for seed in (1, 2)]
    draws = [np.asarray(_uniform(w, layer, (50,))) for w in words for layer in (0, 1)]
    assert len({draw.tobytes() for draw in draws}) == 4


@pytest.mark.parametrize(
    "options",
    [{"beta": 0.0}, {"gamma": 0.1}, {"zeta": 1.0}, {"droprate": 1.0}, {"gate_rate": -1.0}],
)
def test_invalid_options_are_refused(options):
    with pytest.raises(ZoojaxError):
        L0(**options)
