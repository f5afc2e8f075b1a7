"""Straight-through pruning and Top-KAST compared with torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.support.torch_models import made_up_batch, made_up_params
from zoojax import StraightThrough, TopKAST
from zoojax.architectures.cnn import small_cnn
from zoojax.architectures.parameters import kernels
from zoojax.errors import ZoojaxError
from zoojax.sparsifiers.allocation import num_pruned
from zoojax.training import engine, loop

SMALL = small_cnn(1, 10)
RNG = np.random.default_rng(0)
PARAMS = {
    "a": {"kernel": RNG.normal(size=(6, 5)).astype(np.float32), "bias": np.ones(5, np.float32)},
    "b": {"kernel": RNG.normal(size=(5, 3)).astype(np.float32), "bias": np.ones(3, np.float32)},
}
INPUTS = RNG.normal(size=(4, 6)).astype(np.float32)


def counts(ratio, scope):
    shapes = {layer: w.shape for layer, w in kernels(PARAMS).items()}
    return jax.tree.map(jnp.asarray, num_pruned(ratio, shapes, scope))


def loss(params):
    """Any function of the parameters, with the auxiliary result None."""
    hidden = jnp.tanh(INPUTS @ params["a"]["kernel"] + params["a"]["bias"][None])
    return jnp.mean((hidden @ params["b"]["kernel"] + params["b"]["bias"][None]) ** 3), None


def torch_loss(weights):
    hidden = torch.tanh(torch.tensor(INPUTS) @ weights["a"] + 1)
    return ((hidden @ weights["b"] + 1) ** 3).mean()


def largest(ratio, scope):
    """Torch masks of the weights that are kept."""
    weights = {layer: torch.tensor(w).abs() for layer, w in kernels(PARAMS).items()}
    if scope == "layer":
        limits = {
            n: w.flatten().sort().values[round(ratio * w.numel())] for n, w in weights.items()
        }
    else:
        flat = torch.cat([w.flatten() for w in weights.values()])
        limits = dict.fromkeys(weights, flat.sort().values[round(ratio * len(flat))])
    return {n: (w >= limits[n]).float() for n, w in weights.items()}


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_gradients_of_straight_through_match_torch(scope):
    method = StraightThrough(scope=scope)
    trainable, fixed = method.init(PARAMS, {"num_pruned": counts(0.6, scope)})

    @jax.jit
    def run(trainable):
        value, gradients = jax.value_and_grad(
            lambda t: method.objective(loss, t, fixed, jnp.int32(1))[0]
        )(trainable)
        return value, gradients, method.effective(trainable, fixed)

    value, gradients, effective = run(trainable)
    masks = largest(0.6, scope)
    masked = {n: (torch.tensor(w) * masks[n]).requires_grad_() for n, w in kernels(PARAMS).items()}
    expected = torch_loss(masked)
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=1e-5)
    for layer, weights in masked.items():
        assert weights.grad is not None
        np.testing.assert_array_equal(effective[layer]["kernel"], weights.detach().numpy())
        actual = gradients["params"][layer]["kernel"]
        np.testing.assert_allclose(actual, weights.grad.numpy(), rtol=1e-4, atol=1e-6)
        assert (np.asarray(actual)[masks[layer].numpy() == 0] != 0).mean() > 0.5


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_objective_and_gradients_of_top_kast_match_torch(scope):
    method = TopKAST(scope=scope, explored=0.5, penalty=0.01)
    values = {"num_pruned": counts(0.6, scope), "num_frozen": counts(0.3, scope)}
    trainable, fixed = method.init(PARAMS, values)

    @jax.jit
    def run(trainable):
        return jax.value_and_grad(lambda t: method.objective(loss, t, fixed, jnp.int32(1))[0])(
            trainable
        )

    value, gradients = run(trainable)
    forward, backward = largest(0.6, scope), largest(0.3, scope)
    masked = {
        n: (torch.tensor(w) * forward[n]).requires_grad_() for n, w in kernels(PARAMS).items()
    }
    expected = torch_loss(masked)
    expected.backward()
    kept = sum(m.sum() for m in forward.values()) / sum(m.numel() for m in forward.values())
    for layer, weights in masked.items():
        assert weights.grad is not None
        dense = torch.tensor(kernels(PARAMS)[layer])
        factor = forward[layer] + (backward[layer] - forward[layer]) / kept
        expected = expected + 0.01 * (factor * dense.abs()).sum()
        gradient = weights.grad * backward[layer] + 0.01 * factor * dense.sign()
        actual = gradients["params"][layer]["kernel"]
        np.testing.assert_allclose(actual, gradient.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(value, expected.item(), rtol=1e-5)


def test_frozen_weights_of_top_kast_stay_and_both_sets_have_their_sizes():
    method = TopKAST(explored=0.5, frequency=2, penalty=1e-3)
    params = made_up_params(SMALL)
    shapes = {layer: w.shape for layer, w in kernels(params).items()}
    sizes = {"num_pruned": num_pruned(0.8, shapes, "global")["all"]}
    sizes["num_frozen"] = num_pruned(0.4, shapes, "global")["all"]
    values = {name: {"all": jnp.asarray(count)} for name, count in sizes.items()}
    hyper = loop.Hyperparams(*(jnp.float32(x) for x in (0, 1e-2, 1e-2, 0)))
    images, labels, *_ = made_up_batch(SMALL, 5)
    static = method, engine.loss(SMALL, "tanh", "xla"), "adam", 5, False

    @jax.jit
    def train(state, epoch):
        return loop.train_epoch(*static, state, hyper, images, labels, jnp.arange(5), epoch)[0]

    state = loop.init_state(*method.init(params, values), "adam")
    for epoch in range(1, 5):
        after = train(state, jnp.int32(epoch))
        for layer, before in kernels(state.trainable["params"]).items():
            weights, trained = kernels(after.trainable["params"])[layer], state.fixed["backward"]
            still = np.asarray(weights) == np.asarray(before)
            assert still[~np.asarray(trained[layer])].all()
            assert not still[np.asarray(trained[layer])].any()
        moved = any(
            (after.fixed["forward"][n] != mask).any() for n, mask in state.fixed["forward"].items()
        )
        assert moved == (epoch % 2 == 0)
        for name, count in (("forward", "num_pruned"), ("backward", "num_frozen")):
            outside = sum((~np.asarray(mask)).sum() for mask in after.fixed[name].values())
            assert outside == sizes[count]
        state = after


@pytest.mark.parametrize(
    "options", [{"explored": 2.0}, {"penalty": -1.0}, {"frequency": 1.5}, {"scope": "all"}]
)
def test_invalid_options_are_refused(options):
    with pytest.raises(ZoojaxError):
        TopKAST(**options)
