"""The autoencoder of Figure 6 of "Sparsified Model Zoo Twins" as batched Flax Linen modules.

The encoder embeds weight tokens, applies a pre-norm transformer and compresses the result
linearly to z: from the CLS token only, as published, or additionally from each token to its own
slice of z, to which a linear map of the token itself is added. Outputs of the member on probe
images, if there are any, have a linear slice of z, which is embedded to further tokens.

The decoder decompresses z linearly to two sequences, one for the weights and one for the log
alphas, applies one transformer to both together, and maps them back to token values, to which a
linear map of the token's slice of z is added.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.hyper_representation.settings import Settings
from zoojax.hyper_representation.tokens import Tokenizer, Tokens

_small = nn.initializers.normal(0.02)
# Of maps to which a linear map of the token is added, so that training starts from that one.
_weak = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
# Tokens to which the slice of z of the outputs on the probes is embedded.
_PROBE_TOKENS = 4


class Outputs(NamedTuple):
    """Outputs of the autoencoder.

    Attributes:
        z: Embeddings, [B, latent].
        projected: Projections of the contrastive loss, [B, features].
        tokens: Decoded tokens: weights and, if there are any, (log alpha - 3) / r.
        probed: Normalized outputs on the probes, predicted linearly from the global part of z,
            [B, probed]; None without probes.
    """

    z: Array
    projected: Array
    tokens: list[Tokens]
    probed: Array | None


class SelfAttention(nn.Module):
    """Multi-head self-attention with a single projection for queries, keys and values."""

    heads: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x_ND: Array, batch: int, train: bool) -> Array:
        """Applies attention within each sample.

        Args:
            x_ND: Tokens of all samples, [batch * T, D].
            batch: Number of samples.
            train: Whether to apply dropout.
        """
        n, width = x_ND.shape
        size = width // self.heads
        x = nn.Dense(3 * width, dtype=self.dtype, name="inputs")(x_ND)
        # One batch dimension of size batch * heads, so that the products need no transposes.
        x = x.reshape(batch, -1, 3, self.heads, size).transpose(2, 0, 3, 1, 4)
        q, k, v = x.reshape(3, batch * self.heads, -1, size)
        weights = nn.softmax(jnp.einsum("bqd,bkd->bqk", q * size**-0.5, k))
        weights = nn.Dropout(self.dropout, deterministic=not train)(weights)
        y = jnp.einsum("bqk,bkd->bqd", weights, v).reshape(batch, self.heads, -1, size)
        y = y.transpose(0, 2, 1, 3).reshape(n, width)
        return nn.Dense(width, dtype=self.dtype, name="out")(y)


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and feed-forward layers with residual connections."""

    heads: int
    feed_forward: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x_BTD: Array, train: bool) -> Array:
        drop = nn.Dropout(self.dropout, deterministic=not train)
        batch, _, width = x_BTD.shape
        x_ND = x_BTD.reshape(-1, width)
        y = nn.LayerNorm(dtype=self.dtype)(x_ND)
        y = SelfAttention(self.heads, self.dropout, self.dtype)(y, batch, train)
        x_ND = x_ND + drop(y)
        y = nn.LayerNorm(dtype=self.dtype)(x_ND)
        y = nn.gelu(nn.Dense(self.feed_forward, dtype=self.dtype)(y))
        x_ND = x_ND + drop(nn.Dense(width, dtype=self.dtype)(drop(y)))
        return x_ND.reshape(x_BTD.shape)


class Autoencoder(nn.Module):
    """Maps tokens to embeddings, and embeddings to tokens of weights and log alphas.

    Attributes:
        settings: Sizes and dropout of the network.
        tokenizer: Tokenizer of the zoo's architecture.
        alphas: Whether log alphas are reconstructed too.
        slices: Dimensions of z per token, by group of tokens.
        probed: Number of outputs on all probes; 0 without probes.
    """

    settings: Settings
    tokenizer: Tokenizer
    alphas: bool
    slices: Mapping[str, int]
    probed: int = 0

    def setup(self):
        s, dtype = self.settings, jnp.dtype(self.settings.precision)
        groups, count = self.tokenizer.groups, self.tokenizer.count
        sequences = 2 if self.alphas else 1

        def blocks(n: int) -> list[TransformerBlock]:
            return [TransformerBlock(s.heads, s.feed_forward, s.dropout, dtype) for _ in range(n)]

        self.embed = {g.name: nn.Dense(s.width, dtype=dtype) for g in groups}
        self.cls = self.param("cls", _small, (1, s.width))
        extra = 1
        if self.probed:
            extra += _PROBE_TOKENS
            self.embed_probes = nn.Dense(_PROBE_TOKENS * s.width, dtype=dtype)
            self.compress_probes = nn.Dense(s.probe_latent, dtype=dtype)
            self.predict_probes = nn.Dense(self.probed, dtype=dtype)
        self.encoder_positions = self.param("encoder_positions", _small, (count + extra, s.width))
        self.encoder = blocks(s.layers)
        self.compress = nn.Dense(self.global_size - s.probe_latent, dtype=dtype)
        self.compress_local = {
            name: nn.Dense(n, dtype=dtype, kernel_init=_weak) for name, n in self.parts.items()
        }
        self.projection = [nn.Dense(n, dtype=dtype) for n in s.projection]
        self.decompress = nn.Dense(sequences * count * s.width, dtype=dtype)
        self.decompress_local = {
            name: nn.Dense(sequences * s.width, dtype=dtype) for name in self.parts
        }
        widths = {g.name: g.width for g in groups}
        self.linear_in = {
            name: nn.Dense(n, use_bias=False, dtype=dtype) for name, n in self.parts.items()
        }
        self.linear_out = {
            name: nn.Dense(sequences * widths[name], use_bias=False, dtype=dtype)
            for name in self.parts
        }
        self.decoder_positions = self.param("decoder_positions", _small, (count, s.width))
        self.types = self.param("types", _small, (sequences, 1, s.width))
        self.decoder = blocks(s.layers)
        self.heads = [
            {g.name: self._head(g.name, g.width) for g in groups} for _ in range(sequences)
        ]
        if s.task == "sparsify":
            self.shortcut = nn.Dense(s.width, dtype=dtype)

    def _head(self, name: str, width: int) -> nn.Dense:
        init = _weak if name in self.parts else nn.initializers.lecun_normal()
        return nn.Dense(width, dtype=jnp.dtype(self.settings.precision), kernel_init=init)

    @property
    def parts(self) -> dict[str, int]:
        """Dimensions of z per token, for the groups of tokens that have their own slice of z."""
        return {name: n for name, n in self.slices.items() if n}

    @property
    def global_size(self) -> int:
        """Dimensions of z that belong to no single token; they come first in z.

        Those of the CLS token come before those of the probes.
        """
        counts = {group.name: group.count for group in self.tokenizer.groups}
        return self.settings.latent - sum(counts[name] * n for name, n in self.parts.items())

    def __call__(
        self,
        tokens: Tokens,
        probed: Array | None,
        train: bool = False,
        decoded: int | None = None,
    ) -> Outputs:
        """Encodes, projects and decodes a batch.

        Args:
            tokens: Normalized tokens, {group: [B, count, width]}.
            probed: Normalized outputs on the probes, [B, probed]; None without probes.
            train: Whether to apply dropout.
            decoded: Number of samples to decode, from the start of the batch; None for all.
        """
        z_BL, encoded_BTD = self._encode(tokens, probed, train)
        decoded_tokens = self._decode(z_BL[:decoded], encoded_BTD[:decoded], train)
        predicted = None
        if self.probed:
            shared = z_BL[:decoded, : self.global_size]
            predicted = self.predict_probes(shared).astype(jnp.float32)
        return Outputs(z_BL, self._project(z_BL), decoded_tokens, predicted)

    def encode(self, tokens: Tokens, probed: Array | None) -> Array:
        """Encodes normalized tokens {group: [B, count, width]} to embeddings [B, latent]."""
        return self._encode(tokens, probed, False)[0]

    def decode(self, z_BL: Array) -> list[Tokens]:
        """Decodes embeddings to normalized weights and, if there are any, (log alpha - 3) / r."""
        return self._decode(z_BL, None, False)

    def _encode(self, tokens: Tokens, probed: Array | None, train: bool) -> tuple[Array, Array]:
        embedded = [self.embed[g.name](tokens[g.name]) for g in self.tokenizer.groups]
        x_BTD = jnp.concatenate(embedded, axis=1)
        batch, count, width = x_BTD.shape
        extra = [jnp.broadcast_to(self.cls, (batch, *self.cls.shape)).astype(x_BTD.dtype)]
        behavior = None if probed is None else self.compress_probes(probed)
        if behavior is not None:
            extra.insert(0, self.embed_probes(behavior).reshape(batch, _PROBE_TOKENS, width))
        x_BTD = jnp.concatenate([x_BTD, *extra], axis=1)
        x_BTD = x_BTD + self.encoder_positions[None].astype(x_BTD.dtype)
        for block in self.encoder:
            x_BTD = block(x_BTD, train)
        z = [self.compress(x_BTD[:, -1])]
        if behavior is not None:
            z.append(behavior)
        for name, part in self._split_groups(x_BTD[:, :count]).items():
            if name in self.parts:
                local = self.compress_local[name](part) + self.linear_in[name](tokens[name])
                z.append(local.reshape(batch, -1))
        return jnp.concatenate(z, axis=1).astype(jnp.float32), x_BTD[:, :count]

    def _split_groups(self, x: Array) -> dict[str, Array]:
        """Splits [..., tokens, features] into token groups."""
        ends = np.cumsum([group.count for group in self.tokenizer.groups])[:-1]
        pieces = jnp.split(x, ends, axis=-2)
        return {g.name: piece for g, piece in zip(self.tokenizer.groups, pieces, strict=True)}

    def _split_slices(self, z_BL: Array) -> dict[str, Array]:
        """Returns the slices of z of the groups that have one, [B, tokens, dimensions]."""
        result, first = {}, self.global_size
        for group in self.tokenizer.groups:
            size = self.parts.get(group.name, 0)
            if size:
                part = z_BL[:, first : first + group.count * size]
                result[group.name] = part.reshape(-1, group.count, size)
                first += group.count * size
        return result

    def _decompress(self, z_BL: Array) -> Array:
        """Decompresses z to the tokens of all sequences, [B, tokens, sequences, width]."""
        batch, count, width = z_BL.shape[0], self.tokenizer.count, self.settings.width
        x = self.decompress(z_BL[:, : self.global_size]).reshape(batch, count, -1, width)
        slices, local = self._split_slices(z_BL), []
        for group in self.tokenizer.groups:
            if group.name in slices:
                part = self.decompress_local[group.name](slices[group.name])
                local.append(part.reshape(batch, group.count, -1, width))
            else:
                local.append(jnp.zeros((batch, group.count, x.shape[2], width), x.dtype))
        return x + jnp.concatenate(local, axis=1)

    def _project(self, z_BL: Array) -> Array:
        hidden, out = self.projection
        return out(nn.relu(hidden(z_BL))).astype(jnp.float32)

    def _decode(self, z_BL: Array, encoded_BTD: Array | None, train: bool) -> list[Tokens]:
        x = self._decompress(z_BL)
        positions = self.decoder_positions[:, None] + self.types.swapaxes(0, 1)
        x = x + positions[None].astype(x.dtype)
        if self.settings.task == "sparsify" and encoded_BTD is not None:
            x = x + self.shortcut(encoded_BTD)[:, :, None]
        x_BTD = x.reshape(x.shape[0], -1, x.shape[-1])
        for block in self.decoder:
            x_BTD = block(x_BTD, train)
        x, linear = x_BTD.reshape(x.shape), self._linear_outputs(z_BL)
        result = []
        for i, head in enumerate(self.heads):
            parts = {n: head[n](part) for n, part in self._split_groups(x[:, :, i]).items()}
            parts |= {n: parts[n] + each[:, :, i] for n, each in linear.items()}
            result.append({n: part.astype(jnp.float32) for n, part in parts.items()})
        return result

    def _linear_outputs(self, z_BL: Array) -> dict[str, Array]:
        """Maps slices of z linearly to token values, [B, tokens, sequences, values]."""
        result = {}
        for name, part in self._split_slices(z_BL).items():
            values = self.linear_out[name](part)
            result[name] = values.reshape(*part.shape[:2], len(self.heads), -1)
        return result
