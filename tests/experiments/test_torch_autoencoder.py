"""The torch autoencoder, the baseline of `zoojax bench`, is equivalent to the Flax one."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from zoojax.architectures.cnn import large_cnn, small_cnn
from zoojax.experiments.bench import torch_autoencoder, torch_training
from zoojax.experiments.bench.representation import slices
from zoojax.hyper_representation import augmentation
from zoojax.hyper_representation.codec import Codec
from zoojax.hyper_representation.dataset import Normalization
from zoojax.hyper_representation.losses import masked_mse, nt_xent
from zoojax.hyper_representation.settings import Settings
from zoojax.hyper_representation.tokens import Tokenizer

ARCH = small_cnn(1, 10)
VARIATIONAL = {
    layer: ("kernel", "bias") if layer.startswith("conv") else ("kernel",) for layer in ARCH.layers
}
SETTINGS = Settings(
    width=16,
    heads=2,
    layers=2,
    feed_forward=24,
    latent=160,
    local=0.5,
    decoded_noise=False,
    projection=(12, 6),
)
SAMPLES = 3
permute = jax.jit(augmentation.permute, static_argnums=2)


def codec(settings: Settings) -> Codec:
    plain = dict.fromkeys(ARCH.layers, 0.0), dict.fromkeys(ARCH.layers, 1.0)
    each = slices(Tokenizer(ARCH), settings.local_latent)
    return Codec(settings, ARCH, Normalization(*plain), VARIATIONAL, each)


def synthetic_weights(samples: int) -> dict:
    rng = np.random.default_rng(0)
    return {
        layer: {
            name: rng.standard_normal((samples, *shape), np.float32)
            for name, shape in leaves.items()
        }
        for layer, leaves in ARCH.parameter_shapes().items()
    }


def to_torch(tree):
    return jax.tree.map(lambda x: torch.tensor(np.asarray(x)), tree)


@pytest.mark.parametrize("local", [pytest.param(0.0, marks=pytest.mark.slow), 0.5])
def test_outputs_match_flax(local):
    """Embeddings, projections, both reconstructions and the loss, with copied parameters."""
    flax_codec = codec(replace(SETTINGS, local=local))
    tokenizer, settings = flax_codec.tokenizer, flax_codec.settings
    trees = synthetic_weights(2 * SAMPLES)
    seen = flax_codec.tokens(trees)
    variables = jax.jit(flax_codec.init)(jax.random.key(0))
    # Biases and positions are initialized to zero, which would hide mistakes.
    variables = jax.tree.map(
        lambda x: x + 0.1 * np.random.default_rng(x.size).standard_normal(x.shape, np.float32),
        variables,
    )
    first = jax.tree.map(lambda x: x[:SAMPLES], trees)
    alphas = {k: {n: np.tanh(first[k][n]) for n in names} for k, names in VARIATIONAL.items()}
    weights, targets = flax_codec.tokens(first), flax_codec.alpha_tokens(alphas)

    @jax.jit
    def forward(variables):
        z, projected, out, _ = flax_codec.outputs(variables, seen, None, first)
        loss = settings.gamma * nt_xent(projected[:SAMPLES], projected[SAMPLES:], 0.1)
        guessed = {n: jnp.tanh(x) for n, x in out[1].items()}
        loss += (1 - settings.gamma) * (
            masked_mse(out[0], weights, flax_codec.masks[0])
            + masked_mse(guessed, targets, flax_codec.masks[1])
        )
        return (z, projected, out), loss

    outputs, expected = forward(variables)
    model = torch_autoencoder.Autoencoder(settings, tokenizer, True, dict(flax_codec.slices))
    model.eval()
    torch_autoencoder.load_flax(model, variables["params"])
    result = model(to_torch(seen), SAMPLES)
    for ours, theirs in zip(jax.tree.leaves(outputs), jax.tree.leaves(result), strict=True):
        np.testing.assert_allclose(theirs.detach().numpy(), ours, rtol=1e-4, atol=1e-4)
    loss = torch_training.objective(
        *(model, to_torch(seen), to_torch(weights), to_torch(targets)),
        *(to_torch(flax_codec.masks), settings),
    )
    assert loss.item() == pytest.approx(float(expected), rel=1e-4)


def test_permutation_matches_flax():
    """Weights and log alphas have the same random order, which is read from the biases."""
    torch.manual_seed(0)
    weights = synthetic_weights(SAMPLES)
    alphas = {k: {n: 2 * weights[k][n] for n in names} for k, names in VARIATIONAL.items()}
    permuted_trees = torch_training.permute([to_torch(weights), to_torch(alphas)], ARCH)
    for i in range(SAMPLES):
        before, after = (jax.tree.map(lambda x, i=i: x[i], t) for t in (weights, permuted_trees[0]))
        orders = {
            layer: np.array([before[layer]["bias"].tolist().index(b) for b in leaves["bias"]])
            for layer, leaves in after.items()
        }
        assert orders.pop("fc2").tolist() == list(range(10))
        assert any(order.tolist() != sorted(order.tolist()) for order in orders.values())
        for tree, permuted in zip((weights, alphas), permuted_trees, strict=True):
            one = jax.tree.map(lambda x, i=i: x[i], tree)
            expected = permute(one, tuple(orders.values()), ARCH)
            for layer, leaves in expected.items():
                for name, leaf in leaves.items():
                    np.testing.assert_array_equal(permuted[layer][name][i].numpy(), leaf)
    tokens = codec(SETTINGS).alpha_tokens({k: dict(v) for k, v in alphas.items()})
    for name, ours in torch_training.split(to_torch(alphas)).items():
        np.testing.assert_array_equal(ours.numpy(), tokens[name])


def test_noise_and_erased_run():
    torch.manual_seed(0)
    tokens = torch_training.split(to_torch(synthetic_weights(200)))
    noisy = torch_training.augment(tokens, 0.5, 0.0)
    difference = torch.cat([(noisy[n] - x).flatten() for n, x in tokens.items()])
    assert difference.std().item() == pytest.approx(0.5, rel=0.02)
    erased = torch_training.augment(tokens, 0.0, 0.5)
    is_erased = torch.cat([(x == 0).all(2) for x in erased.values()], 1)
    assert is_erased.sum(1).max() <= 24 and is_erased.any(0).all()
    edges = is_erased.int().diff(dim=1).abs().sum(1)
    assert edges.max() <= 2


@pytest.mark.parametrize("name", ["small", "large"])
def test_training_steps_reduce_the_loss(name):
    torch.manual_seed(0)
    arch = small_cnn(1, 10) if name == "small" else large_cnn(3, 10)
    variational = {layer: ["kernel"] for layer in arch.layers}
    settings = replace(SETTINGS, noise=0.0, erase=0.0, gamma=0.0, learning_rate=1e-2)
    step = torch_training.training_step(settings, arch, variational, compiled=False)
    weights = {
        layer: {n: torch.randn(4, *shape) for n, shape in leaves.items()}
        for layer, leaves in arch.parameter_shapes().items()
    }
    alphas = {layer: {"kernel": torch.tanh(weights[layer]["kernel"])} for layer in arch.layers}
    losses = [step(weights, alphas).item() for _ in range(10)]
    assert losses[-1] < 0.9 * losses[0]
