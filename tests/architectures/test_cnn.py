"""The CNNs compared with torch: sizes, logits, initialization, dropout."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import stats

from tests.support.torch_models import TorchCNN, load, made_up_batch, made_up_params, nchw
from zoojax import keys, ops
from zoojax.architectures import layers
from zoojax.architectures.base import init_params
from zoojax.architectures.base import logits as member_logits
from zoojax.architectures.chain import Chain
from zoojax.architectures.cnn import large_cnn, small_cnn
from zoojax.architectures.registry import architecture
from zoojax.errors import ZoojaxError
from zoojax.runtime import population


def cnn_of(name: str, channels: int, classes: int = 10) -> Chain:
    return {"small": small_cnn, "large": large_cnn}[name](channels, classes)


ARCHITECTURES = [("small", 1), ("small", 3), ("large", 3)]
logits = jax.jit(member_logits, static_argnums=0)
conv, max_pool = jax.jit(ops.conv, static_argnums=2), jax.jit(ops.max_pool)


@pytest.mark.parametrize(
    "name, channels, count", [("small", 1, 2464), ("small", 3, 2864), ("large", 3, 10853)]
)
def test_number_of_parameters_is_that_of_the_paper(name, channels, count):
    arch = cnn_of(name, channels)
    params = jax.eval_shape(lambda: init_params(arch, "uniform", 0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count
    torch_count = sum(p.numel() for p in TorchCNN(name, channels, "tanh").parameters())
    assert torch_count == count


@pytest.mark.parametrize("name, channels", ARCHITECTURES)
def test_logits_match_torch(name, channels):
    arch = cnn_of(name, channels)
    params, images = made_up_params(arch), made_up_batch(arch, 5).images
    seen = []
    # torch has no module of a sine; tests of SIRENs compare it.
    for activation in layers.ACTIVATIONS.keys() - {"sine"}:
        module = TorchCNN(name, channels, activation)
        load(module, params, arch)
        expected = module(nchw(images)).detach().numpy()
        actual = logits(arch.module(activation, "uniform"), {"params": params}, images)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5, err_msg=activation)
        assert all(np.abs(actual - other).max() > 1e-3 for other in seen)
        seen.append(actual)
    assert len(seen) == 6


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ZoojaxError, match="no architecture named 'tiny'; there are: small,"):
        architecture("tiny", 1)
    with pytest.raises(ZoojaxError, match="no initialization named 'zeros'; there are: uniform,"):
        init_params(small_cnn(1, 10), "zeros", 0)


# Initialization

SEEDS = 40
TORCH_INITS = {
    "uniform": torch.nn.init.uniform_,
    "normal": torch.nn.init.normal_,
    "kaiming_uniform": torch.nn.init.kaiming_uniform_,
    "kaiming_normal": torch.nn.init.kaiming_normal_,
    "xavier_uniform": torch.nn.init.xavier_uniform_,
    "xavier_normal": torch.nn.init.xavier_normal_,
    "truncated_normal": functools.partial(torch.nn.init.trunc_normal_, a=-2, b=2),
    "he_uniform": torch.nn.init.kaiming_uniform_,
    "glorot_uniform": torch.nn.init.xavier_uniform_,
    "orthogonal": torch.nn.init.orthogonal_,
}


@functools.cache
def initialized(name, scheme):
    """Stacked parameters of SEEDS members; created one by one, which compiles fastest."""
    arch = cnn_of(name, 3)
    members = [init_params(arch, scheme, seed) for seed in range(SEEDS)]
    return jax.tree.map(np.asarray, population.stack(members))


@pytest.mark.parametrize(
    "name, scheme", [*(("small", scheme) for scheme in TORCH_INITS), ("large", "kaiming_uniform")]
)
def test_initialization_matches_torch(name, scheme):
    params = initialized(name, scheme)
    torch.manual_seed(0)
    for layer, module in zip(params, TorchCNN(name, 3, "tanh").layers(), strict=True):
        draws = []
        for _ in range(SEEDS):
            TORCH_INITS[scheme](module.weight)
            draws.append(module.weight.detach().numpy().ravel().copy())
        pooled = params[layer]["kernel"].ravel()
        assert pooled.size == SEEDS * module.weight.numel()
        test = stats.ks_2samp(pooled, np.concatenate(draws), method="asymp")
        assert np.asarray(test)[1] > 1e-4, layer  # statistic, p-value
        assert (params[layer]["bias"] == np.float32(0.01)).all()


@pytest.mark.parametrize(
    "scheme", [name for name in layers.INITS if name not in {*TORCH_INITS, "siren"}]
)
def test_initialization_matches_jax(scheme):
    """Keras has the same definitions."""
    params, reference = initialized("small", scheme), getattr(jax.nn.initializers, scheme)()
    for layer in ("conv2", "fc1"):
        kernel = params[layer]["kernel"]
        draws = [reference(jax.random.key(i), kernel.shape[1:]) for i in range(SEEDS)]
        test = stats.ks_2samp(kernel.ravel(), np.stack(draws).ravel(), method="asymp")
        assert np.asarray(test)[1] > 1e-4, layer
        # Truncated draws end abruptly.
        assert abs(np.abs(kernel).max() / np.abs(np.stack(draws)).max() - 1) < 0.02


def test_orthogonal_kernels_are_orthogonal():
    kernel = initialized("small", "orthogonal")["conv2"]["kernel"][0].reshape(-1, 6)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(6), atol=1e-5)


def test_initialization_depends_only_on_the_seed():
    singles = initialized("small", "uniform")
    arch, seeds = small_cnn(3, 10), np.array([7, 7, 3])
    batched = jax.jit(jax.vmap(lambda seed: init_params(arch, "uniform", seed)))(seeds)
    for single, vmapped in zip(jax.tree.leaves(singles), jax.tree.leaves(batched), strict=True):
        np.testing.assert_array_equal(single[seeds], vmapped)


def test_initial_weights_of_members_and_layers_are_uncorrelated():
    params = initialized("small", "normal")
    width = min(leaves["kernel"][0].size for leaves in params.values())
    rows = [leaves["kernel"].reshape(SEEDS, -1)[:, :width] for leaves in params.values()]
    correlations = np.corrcoef(np.concatenate(rows))
    off_diagonal = correlations[~np.eye(len(correlations), dtype=bool)]
    assert np.abs(off_diagonal).max() < 6 / np.sqrt(width)


# Dropout


def noise(seed):
    """The noise source of one step."""
    return keys.step_noise(keys.stream_key(seed, "noise"), 0)


class RecordingConv(layers.Conv):
    """Records its input."""

    def __call__(self, x_BHWC, noise):
        self.sow("inputs", "x", x_BHWC)
        return super().__call__(x_BHWC, noise)


class RecordingDense(layers.Dense):
    """Records its input."""

    def __call__(self, x_BC, noise):
        self.sow("inputs", "x", x_BC)
        return super().__call__(x_BC, noise)


def layer_inputs(name, rate, count=40):
    """The input of each layer by its name, and the parameters."""
    arch = cnn_of(name, 1 if name == "small" else 3)
    model = arch.module("tanh", "uniform", layers.Layers(RecordingConv, RecordingDense))
    params, images = made_up_params(arch), made_up_batch(arch, count).images
    run = jax.jit(functools.partial(model.apply, mutable=["inputs"]))
    _, recorded = run({"params": params}, images, noise(0), jnp.float32(rate))
    return {
        layer: np.asarray(leaves["x"][0]) for layer, leaves in recorded["inputs"].items()
    }, params


def activations(name, params, inputs, layer):
    """The output of a layer and its activation, without dropout."""
    if layer == "fc1":
        kernel, bias = (np.asarray(params[layer][name]) for name in ("kernel", "bias"))
        return np.tanh(inputs[layer] @ kernel + bias)
    pool = 1 if (name, layer) == ("small", "conv3") else 2
    y = max_pool(conv(inputs[layer], params[layer]["kernel"], pool))
    return np.tanh(np.asarray(y) + np.asarray(params[layer]["bias"]))


LAYERS = ("conv1", "conv2", "conv3", "fc1", "fc2")


@pytest.mark.parametrize("rate", [0.5, 0.2])
@pytest.mark.parametrize("name", ["small", "large"])
def test_dropout_follows_every_activation_except_conv3_of_the_small_cnn(name, rate):
    inputs, params = layer_inputs(name, rate)
    np.testing.assert_array_equal(
        inputs["conv1"], made_up_batch(cnn_of(name, inputs["conv1"].shape[-1]), 40).images
    )
    for layer, following in itertools.pairwise(LAYERS):
        full = activations(name, params, inputs, layer).reshape(inputs[following].shape)
        x = inputs[following]
        kept = x != 0
        if (name, layer) == ("small", "conv3"):
            np.testing.assert_allclose(x, full, atol=1e-5)
            continue
        np.testing.assert_allclose(x[kept], full[kept] / (1 - rate), atol=1e-5)
        assert abs((~kept).mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / x.size), layer


def test_layers_and_steps_drop_different_units():
    x = jnp.ones((200, 20))
    masks = [np.asarray(ops.dropout(x, jnp.float32(0.5), noise(i))) for i in range(2)]
    assert 0.4 < (masks[0] == masks[1]).mean() < 0.6
    inputs = layer_inputs("large", 0.5)[0]
    drops = [(inputs[layer] == 0).ravel()[:800] for layer in LAYERS[1:]]
    correlations = np.corrcoef(np.stack(drops).astype(float))
    assert np.abs(correlations[~np.eye(4, dtype=bool)]).max() < 5 / np.sqrt(800)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_preserves_the_mean_and_drops_at_its_rate(rate):
    x = jnp.asarray(np.random.default_rng(0).uniform(1, 2, 100_000), jnp.float32)
    y = np.asarray(ops.dropout(x, jnp.float32(rate), noise(1)), np.float64)
    assert abs((y == 0).mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / y.size)
    assert abs(y.mean() - 1.5) < 5 * y.std() / np.sqrt(y.size)


def test_traced_rates_under_vmap():
    arch = small_cnn(1, 10)
    model, params = arch.module("relu", "uniform"), made_up_params(arch)
    images = made_up_batch(arch, 4).images
    rates = jnp.array([0.0, 0.2, 0.5])

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    def dropped(rate, key):
        return member_logits(model, {"params": params}, images, key, rate)

    members = dropped(rates, noise(2))
    plain = logits(model, {"params": params}, images)
    np.testing.assert_allclose(members[0], plain, rtol=1e-5, atol=1e-5)
    # The result depends only on the member's rate, not on its position.
    reverse = dropped(rates[::-1], noise(2))
    np.testing.assert_array_equal(reverse[::-1], members)
    assert jnp.abs(members[1] - members[0]).max() > 0.1
    assert jnp.abs(members[2] - members[1]).max() > 0.1
    other = dropped(rates, noise(3))
    np.testing.assert_array_equal(other[0], members[0])
    assert jnp.abs(other[1] - members[1]).max() > 0.1


def test_zero_rate_and_evaluation_have_no_dropout():
    arch = small_cnn(1, 10)
    model, params = arch.module("relu", "uniform"), made_up_params(arch)
    images = made_up_batch(arch, 4).images
    plain = logits(model, {"params": params}, images)
    for key, rate in [
        (noise(0), jnp.float32(0)),
        (noise(0), None),
        (None, jnp.float32(0.5)),
    ]:
        np.testing.assert_array_equal(logits(model, {"params": params}, images, key, rate), plain)


def test_initialization_of_sirens():
    """Uniform in the bounds of the paper, which the first layer has of its own."""
    for shape, is_first, bound in [((2, 400), True, 1 / 2), ((96, 300), False, 0.25 / 30)]:
        init = layers.layer_init("siren", is_first)
        kernel = np.asarray(init(jax.random.key(0), shape))
        assert stats.kstest(kernel.ravel() / bound, stats.uniform(-1, 2).cdf).pvalue > 1e-3
        assert 0.99 < np.abs(kernel).max() / bound <= 1
