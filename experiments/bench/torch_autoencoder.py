"""The autoencoder of hyper-representations in torch, and its training step.

The baseline of `zoojax bench`: the same network, views and losses in idiomatic torch. Prints
states per second:

    python -m zoojax.experiments.bench.torch_autoencoder '{"compiled": false, ...}'
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

from zoojax.architectures.base import Architecture, architecture
from zoojax.hyper_representation import autoencoder
from zoojax.hyper_representation.settings import Settings
from zoojax.hyper_representation.tokens import Tokenizer

Tree = dict[str, dict[str, Tensor]]
Tokens = dict[str, Tensor]
_STEPS = 10


def _gelu(x: Tensor) -> Tensor:
    return functional.gelu(x, approximate="tanh")


class Autoencoder(nn.Module):
    """Autoencoder of tokens, which reconstructs weights and log alphas (task "reconstruct").

    Args:
        settings: the sizes of the network.
        tokenizer: the tokenizer of the zoo's architecture.
        alphas: whether log alphas are reconstructed as well.
    """

    def __init__(self, settings: Settings, tokenizer: Tokenizer, alphas: bool):
        super().__init__()
        s, count, sequences = settings, tokenizer.count, 2 if alphas else 1
        twin = autoencoder.Autoencoder(settings, tokenizer, alphas)
        self.groups, self.parts, self.shared = (
            tokenizer.groups,
            twin.parts,
            s.latent - twin.local_size,
        )

        def layers() -> nn.ModuleList:
            return nn.ModuleList(
                nn.TransformerEncoderLayer(
                    *(s.width, s.heads, s.feed_forward, s.dropout, _gelu),
                    layer_norm_eps=1e-6,
                    batch_first=True,
                    norm_first=True,
                )
                for _ in range(s.layers)
            )

        def small(*shape: int) -> nn.Parameter:
            return nn.Parameter(0.02 * torch.randn(*shape))

        self.embed = nn.ModuleDict({g.name: nn.Linear(g.width, s.width) for g in self.groups})
        self.cls = small(1, s.width)
        self.encoder_positions = small(count + 1, s.width)
        self.encoder = layers()
        self.compress = nn.Linear(s.width, self.shared)
        self.compress_local = nn.ModuleDict(
            {name: nn.Linear(s.width, n) for name, n in self.parts.items()}
        )
        first, last = s.projection
        self.projection = nn.Sequential(nn.Linear(s.latent, first), nn.ReLU())
        self.projection.append(nn.Linear(first, last))
        self.decompress = nn.Linear(self.shared, sequences * count * s.width)
        self.decompress_local = nn.ModuleDict(
            {name: nn.Linear(n, sequences * s.width) for name, n in self.parts.items()}
        )
        self.decoder_positions = small(count, s.width)
        self.types = small(sequences, 1, s.width)
        self.decoder = layers()
        self.heads = nn.ModuleList(
            nn.ModuleDict({g.name: nn.Linear(s.width, g.width) for g in self.groups})
            for _ in range(sequences)
        )

    def forward(self, tokens: Tokens, decoded: int) -> tuple[Tensor, Tensor, list[Tokens]]:
        """Computes embeddings, their projections, and tokens of weights and log alphas.

        Args:
            tokens: normalized tokens, {group: [B, count, width]}.
            decoded: the number of samples to decode, from the first.
        """
        z = self.encode(tokens)
        return z, self.projection(z), self.decode(z[:decoded])

    def encode(self, tokens: Tokens) -> Tensor:
        """Computes embeddings [B, latent] of tokens."""
        x = torch.cat([self.embed[g.name](tokens[g.name]) for g in self.groups], 1)
        x = torch.cat([x, self.cls.expand(len(x), 1, -1)], 1) + self.encoder_positions
        for layer in self.encoder:
            x = layer(x)
        z = [self.compress(x[:, -1])]
        for group, part in zip(self.groups, self._split(x[:, :-1]), strict=True):
            if group.name in self.parts:
                z.append(self.compress_local[group.name](part).flatten(1))
        return torch.cat(z, 1)

    def decode(self, z: Tensor) -> list[Tokens]:
        """Decodes embeddings [B, latent] to tokens of weights and of (log alpha - t) / r."""
        sequences, _, width = self.types.shape
        count, first, local = len(self.decoder_positions), self.shared, []
        x = self.decompress(z[:, :first]).view(len(z), count, sequences, width)
        for group in self.groups:
            size = self.parts.get(group.name, 0)
            if not size:
                local.append(x.new_zeros(len(z), group.count, sequences, width))
                continue
            part = z[:, first : first + group.count * size].view(len(z), group.count, size)
            both = self.decompress_local[group.name](part)
            local.append(both.view(len(z), group.count, sequences, width))
            first += group.count * size
        marks = self.decoder_positions[:, None] + self.types[:, 0]
        x = (x + torch.cat(local, 1) + marks).flatten(1, 2)
        for layer in self.decoder:
            x = layer(x)
        x = x.view(len(z), count, sequences, width)
        return [
            {
                g.name: self._head(i, g.name)(part)
                for g, part in zip(self.groups, self._split(x[:, :, i]), strict=True)
            }
            for i in range(sequences)
        ]

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.split([g.count for g in self.groups], 1)

    def _head(self, sequence: int, group: str) -> nn.Module:
        heads = self.heads[sequence]
        assert isinstance(heads, nn.ModuleDict)
        return heads[group]


def load_flax(model: Autoencoder, params: dict[str, Any]) -> None:
    """Copies the parameters of the Flax autoencoder into a torch one."""

    def linear(name: str, dense: dict[str, Any]) -> dict[str, Any]:
        return {f"{name}.weight": dense["kernel"].T, f"{name}.bias": dense["bias"]}

    def norm(name: str, layer: dict[str, Any]) -> dict[str, Any]:
        return {f"{name}.weight": layer["scale"], f"{name}.bias": layer["bias"]}

    def block(name: str, layer: dict[str, Any]) -> dict[str, Any]:
        attention = layer["SelfAttention_0"]
        return {
            f"{name}.self_attn.in_proj_weight": attention["inputs"]["kernel"].T,
            f"{name}.self_attn.in_proj_bias": attention["inputs"]["bias"],
            **linear(f"{name}.self_attn.out_proj", attention["out"]),
            **norm(f"{name}.norm1", layer["LayerNorm_0"]),
            **norm(f"{name}.norm2", layer["LayerNorm_1"]),
            **linear(f"{name}.linear1", layer["Dense_0"]),
            **linear(f"{name}.linear2", layer["Dense_1"]),
        }

    state: dict[str, Any] = {}
    for key in model.state_dict():
        name, _, rest = key.partition(".")
        where = rest.split(".")
        if not rest:
            state[key] = params[name]
        elif name in ("encoder", "decoder"):
            state |= block(f"{name}.{where[0]}", params[f"{name}_{where[0]}"])
        elif name == "projection":
            # Its second layer is the ReLU.
            state |= linear(f"{name}.{where[0]}", params[f"{name}_{int(where[0]) // 2}"])
        else:
            flax_name = "_".join([name, *where[:-1]])
            state |= linear(key.rpartition(".")[0], params[flax_name])
    model.load_state_dict({name: torch.tensor(np.asarray(x)) for name, x in state.items()})


def permute(trees: list[Tree], arch: Architecture) -> list[Tree]:
    """Permutes the hidden units of each sample in stacked trees, in a random order per sample."""
    some = trees[0][arch.layers[0]]["kernel"]
    sizes = [*(conv.features for conv in arch.convs), arch.hidden]
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
    settings: Settings, arch: Architecture, variational: dict[str, list[str]], compiled: bool
) -> Callable[[Tree, Tree], Tensor]:
    """Creates a function that takes one step of Adam and returns the loss.

    The function takes normalized weights and scaled log alphas, both [B, ...].
    """
    tokenizer = Tokenizer(arch, "neuron")
    model = Autoencoder(settings, tokenizer, alphas=True).train()
    optimizer = torch.optim.Adam(
        model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    everything = {layer: ("kernel", "bias") for layer in arch.layers}
    masks = [
        {n: torch.tensor(np.asarray(m)) for n, m in tokenizer.mask(dict(present)).items()}
        for present in (everything, variational)
    ]

    def loss(weights: Tree, alphas: Tree) -> Tensor:
        size = len(weights["fc1"]["kernel"])
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
    arch = architecture(architecture_name, channels)
    chosen = Settings(**{**settings, "projection": tuple(settings["projection"])})
    step = training_step(chosen, arch, variational, compiled)
    size = chosen.batch_size
    weights: Tree = {
        g.name: {
            "kernel": torch.randn(_STEPS * size, g.width - 1, g.count),
            "bias": torch.randn(_STEPS * size, g.count),
        }
        for g in Tokenizer(arch).layers
    }
    alphas = {k: {n: torch.tanh(weights[k][n]) for n in names} for k, names in variational.items()}

    def run() -> None:
        chosen_rows = torch.randint(_STEPS * size, (size,))
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
