"""The autoencoder of Figure 6 of "Sparsified Model Zoo Twins", in Linen, over batches.

Weights become tokens, pass through a pre-norm transformer and are compressed linearly to
z: the CLS token alone, as published, or also each token to a part of its own. The decoder
decompresses z linearly to two sequences, one of the weights and one of the log alphas,
lets one stack of self-attention see both, and maps them back to numbers.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.hyper_representation.settings import Settings
from zoojax.hyper_representation.tokens import Tokenizer, Tokens

_small = nn.initializers.normal(0.02)


class SelfAttention(nn.Module):
    """Multi-head self-attention as Linen has it, queries, keys and values in one product."""

    heads: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x_ND: Array, batch: int, train: bool) -> Array:
        """Of tokens [batch * T, D], one sample after the other."""
        n, width = x_ND.shape
        size = width // self.heads
        x = nn.Dense(3 * width, dtype=self.dtype, name="inputs")(x_ND)
        # Batched products over [batch * heads, T, size]: no dimension is moved within them.
        x = x.reshape(batch, -1, 3, self.heads, size).transpose(2, 0, 3, 1, 4)
        q, k, v = x.reshape(3, batch * self.heads, -1, size)
        weights = nn.softmax(jnp.einsum("bqd,bkd->bqk", q * size**-0.5, k))
        weights = nn.Dropout(self.dropout, deterministic=not train)(weights)
        y = jnp.einsum("bqk,bkd->bqd", weights, v).reshape(batch, self.heads, -1, size)
        y = y.transpose(0, 2, 1, 3).reshape(n, width)
        return nn.Dense(width, dtype=self.dtype, name="out")(y)


class Block(nn.Module):
    """Self-attention and feed-forward, each behind a layer norm and around a shortcut."""

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
    """Tokens to embeddings, and to tokens of weights and of log alphas.

    Attributes:
        settings: its sizes.
        tokenizer: of the zoo's architecture.
        alphas: whether it reconstructs log alphas too.
    """

    settings: Settings
    tokenizer: Tokenizer
    alphas: bool

    def setup(self):
        s, dtype = self.settings, jnp.dtype(self.settings.precision)
        groups, count = self.tokenizer.groups, self.tokenizer.count
        sequences = 2 if self.alphas else 1

        def blocks(n: int) -> list[Block]:
            return [Block(s.heads, s.feed_forward, s.dropout, dtype) for _ in range(n)]

        self.embed = {g.name: nn.Dense(s.width, dtype=dtype) for g in groups}
        self.cls = self.param("cls", _small, (1, s.width))
        self.encoder_positions = self.param("encoder_positions", _small, (count + 1, s.width))
        self.encoder = blocks(s.layers)
        self.compress = nn.Dense(s.latent - self.local_size, dtype=dtype)
        self.compress_local = {name: nn.Dense(n, dtype=dtype) for name, n in self.parts.items()}
        self.projection = [nn.Dense(n, dtype=dtype) for n in s.projection]
        self.decompress = nn.Dense(sequences * count * s.width, dtype=dtype)
        self.decompress_local = {
            name: nn.Dense(sequences * s.width, dtype=dtype) for name in self.parts
        }
        self.decoder_positions = self.param("decoder_positions", _small, (count, s.width))
        self.types = self.param("types", _small, (sequences, 1, s.width))
        self.decoder = blocks(s.layers)
        self.heads = [
            {g.name: nn.Dense(g.width, dtype=dtype) for g in groups} for _ in range(sequences)
        ]
        if s.task == "sparsify":
            self.shortcut = nn.Dense(s.width, dtype=dtype)

    @property
    def parts(self) -> dict[str, int]:
        """Numbers of z that each token has to itself, of groups that have any."""
        shares = self.tokenizer.shares(int(self.settings.latent * self.settings.local))
        return {name: n for name, n in shares.items() if n}

    @property
    def local_size(self) -> int:
        """Numbers of z that are of single tokens; they come last."""
        counts = {group.name: group.count for group in self.tokenizer.groups}
        return sum(counts[name] * n for name, n in self.parts.items())

    def __call__(
        self, tokens: Tokens, train: bool = False, decoded: int | None = None
    ) -> tuple[Array, Array, list[Tokens]]:
        """Embeddings, their projections, and tokens of weights and log alphas.

        Args:
            tokens: normalised, {group: [B, count, width]}.
            train: with dropout.
            decoded: how many of them, the first ones, are decoded; None for all.
        """
        z_BL, encoded_BTD = self._encode(tokens, train)
        out = self._decode(z_BL[:decoded], encoded_BTD[:decoded], train)
        return z_BL, self._project(z_BL), out

    def encode(self, tokens: Tokens) -> Array:
        """Embeddings [B, latent] of normalised tokens {group: [B, count, width]}."""
        return self._encode(tokens, False)[0]

    def decode(self, z_BL: Array) -> list[Tokens]:
        """Normalised weights, and (log alpha - t) / r if there are any, of embeddings."""
        return self._decode(z_BL, None, False)

    def _encode(self, tokens: Tokens, train: bool) -> tuple[Array, Array]:
        embedded = [self.embed[g.name](tokens[g.name]) for g in self.tokenizer.groups]
        x_BTD = jnp.concatenate(embedded, axis=1)
        cls = jnp.broadcast_to(self.cls, (x_BTD.shape[0], *self.cls.shape))
        x_BTD = jnp.concatenate([x_BTD, cls.astype(x_BTD.dtype)], axis=1)
        x_BTD = x_BTD + self.encoder_positions[None].astype(x_BTD.dtype)
        for block in self.encoder:
            x_BTD = block(x_BTD, train)
        batch, z = x_BTD.shape[0], [self.compress(x_BTD[:, -1])]
        for name, part in self._split(x_BTD[:, :-1]).items():
            if name in self.parts:
                z.append(self.compress_local[name](part).reshape(batch, -1))
        return jnp.concatenate(z, axis=1).astype(jnp.float32), x_BTD[:, :-1]

    def _split(self, x: Array) -> dict[str, Array]:
        """By group what is along the last axis but one, [..., tokens, features]."""
        ends = np.cumsum([group.count for group in self.tokenizer.groups])[:-1]
        pieces = jnp.split(x, ends, axis=-2)
        return {g.name: piece for g, piece in zip(self.tokenizer.groups, pieces, strict=True)}

    def _decompressed(self, z_BL: Array) -> Array:
        """z as tokens of both sequences, [B, tokens, sequences, width]."""
        batch, count, width = z_BL.shape[0], self.tokenizer.count, self.settings.width
        first = self.settings.latent - self.local_size
        x = self.decompress(z_BL[:, :first]).reshape(batch, count, -1, width)
        local = []
        for group in self.tokenizer.groups:
            own = self.parts.get(group.name, 0)
            if not own:
                local.append(jnp.zeros((batch, group.count, x.shape[2], width), x.dtype))
                continue
            part = z_BL[:, first : first + group.count * own].reshape(-1, own)
            both = self.decompress_local[group.name](part)
            local.append(both.reshape(batch, group.count, -1, width))
            first += group.count * own
        return x + jnp.concatenate(local, axis=1)

    def _project(self, z_BL: Array) -> Array:
        hidden, out = self.projection
        return out(nn.relu(hidden(z_BL))).astype(jnp.float32)

    def _decode(self, z_BL: Array, encoded_BTD: Array | None, train: bool) -> list[Tokens]:
        x = self._decompressed(z_BL)
        marks = self.decoder_positions[:, None] + self.types.swapaxes(0, 1)
        x = x + marks[None].astype(x.dtype)
        if self.settings.task == "sparsify" and encoded_BTD is not None:
            x = x + self.shortcut(encoded_BTD)[:, :, None]
        x_BTD = x.reshape(x.shape[0], -1, x.shape[-1])
        for block in self.decoder:
            x_BTD = block(x_BTD, train)
        x = x_BTD.reshape(x.shape)
        return [
            {n: head[n](part).astype(jnp.float32) for n, part in self._split(x[:, :, i]).items()}
            for i, head in enumerate(self.heads)
        ]
