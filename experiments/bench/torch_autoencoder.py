"""The autoencoder of hyper-representations in torch: the same network as the Flax one."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from zoojax.hyper_representation import autoencoder
from zoojax.hyper_representation.settings import Settings
from zoojax.hyper_representation.tokens import Tokenizer

Tokens = dict[str, Tensor]


def _gelu(x: Tensor) -> Tensor:
    return functional.gelu(x, approximate="tanh")


class Autoencoder(nn.Module):
    """Autoencoder of tokens, which reconstructs weights and log alphas (task "reconstruct").

    Args:
        settings: the sizes of the network.
        tokenizer: the tokenizer of the zoo's architecture.
        alphas: whether log alphas are reconstructed as well.
        slices: dimensions of z per token, by group of tokens.
    """

    def __init__(
        self, settings: Settings, tokenizer: Tokenizer, alphas: bool, slices: dict[str, int]
    ):
        super().__init__()
        s, count, sequences = settings, tokenizer.count, 2 if alphas else 1
        twin = autoencoder.Autoencoder(settings, tokenizer, alphas, slices)
        self.groups, self.parts, self.shared = (
            tokenizer.groups,
            twin.parts,
            twin.global_size,
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
        widths = {g.name: g.width for g in self.groups}
        self.linear_in = nn.ModuleDict(
            {name: nn.Linear(widths[name], n, bias=False) for name, n in self.parts.items()}
        )
        self.linear_out = nn.ModuleDict(
            {
                name: nn.Linear(n, sequences * widths[name], bias=False)
                for name, n in self.parts.items()
            }
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
                linear = self.linear_in[group.name](tokens[group.name])
                z.append((self.compress_local[group.name](part) + linear).flatten(1))
        return torch.cat(z, 1)

    def decode(self, z: Tensor) -> list[Tokens]:
        """Decodes embeddings [B, latent] to tokens of weights and of (log alpha - t) / r."""
        sequences, _, width = self.types.shape
        count, first, local, outputs = len(self.decoder_positions), self.shared, [], {}
        x = self.decompress(z[:, :first]).view(len(z), count, sequences, width)
        for group in self.groups:
            size = self.parts.get(group.name, 0)
            if not size:
                local.append(x.new_zeros(len(z), group.count, sequences, width))
                continue
            part = z[:, first : first + group.count * size].view(len(z), group.count, size)
            both = self.decompress_local[group.name](part)
            local.append(both.view(len(z), group.count, sequences, width))
            values = self.linear_out[group.name](part)
            outputs[group.name] = values.view(len(z), group.count, sequences, group.width)
            first += group.count * size
        marks = self.decoder_positions[:, None] + self.types[:, 0]
        x = (x + torch.cat(local, 1) + marks).flatten(1, 2)
        for layer in self.decoder:
            x = layer(x)
        x = x.view(len(z), count, sequences, width)
        tokens = []
        for i in range(sequences):
            decoded = {
                g.name: self._head(i, g.name)(part)
                for g, part in zip(self.groups, self._split(x[:, :, i]), strict=True)
            }
            tokens.append(decoded | {n: decoded[n] + y[:, :, i] for n, y in outputs.items()})
        return tokens

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.split([g.count for g in self.groups], 1)

    def _head(self, sequence: int, group: str) -> nn.Module:
        heads = self.heads[sequence]
        assert isinstance(heads, nn.ModuleDict)
        return heads[group]


def load_flax(model: Autoencoder, params: dict[str, Any]) -> None:
    """Copies the parameters of the Flax autoencoder into a torch one."""

    def linear(name: str, dense: dict[str, Any]) -> dict[str, Any]:
        bias = {f"{name}.bias": dense["bias"]} if "bias" in dense else {}
        return {f"{name}.weight": dense["kernel"].T, **bias}

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
