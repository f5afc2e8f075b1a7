"""Training of the torch autoencoder, the baseline of `zoojax bench`.

The same views and losses as zoojax's, in idiomatic torch. Prints states per second:

    python -m zoojax.experiments.bench.torch_training '{"compiled": false, ...}'
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from zoojax.architectures.chain import Chain
from zoojax.architectures.cnn import large_cnn, small_cnn
from zoojax.experiments.bench.representation import slices
from zoojax.experiments.bench.torch_autoencoder import Autoencoder, Tokens
from zoojax.hyper_representation.settings import Settings
from zoojax.hyper_representation.tokens import Tokenizer

Tree = dict[str, dict[str, Tensor]]
_BATCHES = 10


def permute(trees: list[Tree], arch: Chain) -> list[Tree]:
    """Permutes the hidden units of each sample in stacked trees, in a random order per sample."""
    some = trees[0][arch.layers[0]]["kernel"]
    sizes = arch.permuted_units()
    orders = [torch.rand(len(some), n, device=some.device).argsort(1) for n in sizes]
    results: list[Tree] = [{} for _ in trees]
    for tree, result in zip(trees, results, strict=True):
        for i, layer in enumerate(arch.layers):
            leaves = dict(tree[layer])
            if i:
                kernel, before = leaves["kernel"], orders[i - 1]
                inputs = kernel.reshape(len(kernel), -1, before.shape[1], kernel.shape[-1])
                moved = torch.take_along_dim(inputs, before[:, None, :, None], 2)
                leaves["kernel"] = moved.reshape(kernel.shape)
            if i < len(orders):
                leaves = {
                    name: torch.take_along_dim(
                        x, orders[i].view(len(x), *([1] * (x.dim() - 2)), -1), x.dim() - 1
                    )
                    for name, x in leaves.items()
                }
            result[layer] = leaves
    return results


def split(tree: Tree) -> Tokens:
    """Converts a tree to neuron tokens {layer: [B, units, inputs + 1]}; missing biases are 0."""
    tokens = {}
    for layer, leaves in tree.items():
        units = leaves["kernel"].flatten(1, -2).transpose(1, 2)
        bias = leaves["bias"] if "bias" in leaves else torch.zeros_like(units[..., 0])
        tokens[layer] = torch.cat([units, bias[..., None]], 2)
    return tokens


def augment(tokens: Tokens, noise: float, erase: float) -> Tokens:
    """Adds noise to tokens and erases one run of consecutive tokens per sample."""
    some = next(iter(tokens.values()))
    count = sum(x.shape[1] for x in tokens.values())
    place, length = torch.rand(2, len(some), 1, 1, device=some.device)
    length = length * erase * count
    start = place * (count - length)
    result, first = {}, 0
    for name, x in tokens.items():
        at = torch.arange(first, first + x.shape[1], device=x.device)[None, :, None] + 0.5
        erased = (at >= start) & (at < start + length)
        result[name] = (x + noise * torch.randn_like(x)).masked_fill(erased, 0.0)
        first += x.shape[1]
    return result


def nt_xent(both: Tensor, temperature: float) -> Tensor:
    """Computes the contrastive loss of the two views of a batch, [2 B, features]."""
    both = functional.normalize(both, dim=1, eps=1e-8)
    n = len(both)
    similarity = both @ both.T / temperature
    similarity = similarity.masked_fill(torch.eye(n, dtype=torch.bool, device=both.device), -1e9)
    partner = torch.arange(n, device=both.device).roll(n // 2)
    return functional.cross_entropy(similarity, partner)


def masked_mse(predicted: Tokens, target: Tokens, mask: Tokens) -> Tensor:
    """Computes the mean squared error of the values that the mask selects."""
    squares = [((predicted[n] - x).square() * mask[n]).sum() for n, x in target.items()]
    counts = [mask[n].sum() * len(x) for n, x in target.items()]
    return torch.stack(squares).sum() / torch.stack(counts).sum()


def objective(
    model: nn.Module,
    seen: Tokens,
    weights: Tokens,
    alphas: Tokens,
    masks: list[Tokens],
    settings: Settings,
) -> Tensor:
    """Computes the loss (equation 6) of two views of a batch.

    Args:
        model: an `Autoencoder`, compiled or not.
        seen: tokens of the first views, then of the second, {group: [2 B, count, width]}.
        weights: tokens of the first views without noise, [B, ...].
        alphas: tokens of their scaled log alphas, [B, ...].
        masks: masks of weights and of log alphas.
        settings: gives gamma and temperature.
    """
    size = len(next(iter(weights.values())))
    _, projected, out = model(seen, size)
    guessed = {name: torch.tanh(x) for name, x in out[1].items()}
    reconstruction = masked_mse(out[0], weights, masks[0]) + masked_mse(guessed, alphas, masks[1])
    contrastive = nt_xent(projected, settings.temperature)
    return settings.gamma * contrastive + (1 - settings.gamma) * reconstruction


def training_step(
    settings: Settings, arch: Chain, variational: dict[str, list[str]], compiled: bool
) -> Callable[[Tree, Tree], Tensor]:
    """Creates a function that takes one step of Adam and returns the loss.

    The function takes normalized weights and scaled log alphas, both [B, ...].
    """
    tokenizer = Tokenizer(arch, "neuron")
    each = slices(tokenizer, settings.local_latent)
    model = Autoencoder(settings, tokenizer, True, each).train()
    optimizer = torch.optim.Adam(
        model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    everything = {layer: ("kernel", "bias") for layer in arch.layers}
    masks = [
        {n: torch.tensor(np.asarray(m)) for n, m in tokenizer.mask(dict(present)).items()}
        for present in (everything, variational)
    ]

    def loss(weights: Tree, alphas: Tree) -> Tensor:
        size = len(next(iter(weights.values()))["kernel"])
        twice = [
            {
                layer: {n: torch.cat([x, x]) for n, x in leaves.items()}
                for layer, leaves in t.items()
            }
            for t in (weights, alphas)
        ]
        views = [split(tree) for tree in permute(twice, arch)]
        seen = augment(views[0], settings.noise, settings.erase)
        first = [{n: x[:size] for n, x in tokens.items()} for tokens in views]
        return objective(model, seen, first[0], first[1], masks, settings)

    if compiled:
        loss = torch.compile(loss)

    def step(weights: Tree, alphas: Tree) -> Tensor:
        optimizer.zero_grad()
        value = loss(weights, alphas)
        value.backward()
        optimizer.step()
        return value

    return step


def speed(
    settings: dict[str, Any],
    architecture_name: str,
    channels: int,
    variational: dict[str, list[str]],
    *,
    compiled: bool,
    threads: int,
    seconds: float,
    device: str,
) -> float:
    """Measures training; each state is seen in two views.

    Args:
        settings: the fields of `Settings`.
        architecture_name: "small" or "large".
        channels: channels of the images.
        variational: leaves with a log alpha, by layer.
        compiled: whether to use torch.compile.
        threads: threads of this process.
        seconds: how long to measure after the warm-up.
        device: "cpu" or "cuda".

    Returns:
        States per second.
    """
    torch.set_num_threads(threads)
    torch.set_default_device(device)
    arch = (small_cnn if architecture_name == "small" else large_cnn)(channels, 10)
    chosen = Settings(**{**settings, "projection": tuple(settings["projection"])})
    step = training_step(chosen, arch, variational, compiled)
    size = chosen.batch_size
    weights: Tree = {
        g.name: {
            "kernel": torch.randn(_BATCHES * size, g.width - 1, g.count),
            "bias": torch.randn(_BATCHES * size, g.count),
        }
        for g in Tokenizer(arch).layers
    }
    alphas = {k: {n: torch.tanh(weights[k][n]) for n in names} for k, names in variational.items()}

    def run() -> None:
        chosen_rows = torch.randint(_BATCHES * size, (size,))
        step(
            *(
                {k: {n: x[chosen_rows] for n, x in v.items()} for k, v in t.items()}
                for t in (weights, alphas)
            )
        )
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(3):
        run()
    states, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        run()
        states += size
    return states / spent


if __name__ == "__main__":
    print(json.dumps(speed(**json.loads(sys.argv[1]))))
