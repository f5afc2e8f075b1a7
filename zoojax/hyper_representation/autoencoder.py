"""The autoencoder of Figure 6 of "Sparsified Model Zoo Twins", in Linen, over batches.

Weights become tokens, pass through a pre-norm transformer and are compressed linearly to
z. The decoder decompresses z linearly to two sequences, one of the weights and one of the
log alphas, lets one stack of self-attention see both, and maps them back to numbers.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from zoojax.hyper_representation.settings import Settings
from zoojax.hyper_representation.tokens import Tokenizer, Tokens

_small = nn.initializers.normal(0.02)


class Block(nn.Module):
    """Self-attention and feed-forward, each behind a layer norm and around a shortcut."""

    heads: int
    feed_forward: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x_BTD: Array, train: bool) -> Array:
        drop = nn.Dropout(self.dropout, deterministic=not train)
        y = nn.LayerNorm(dtype=self.dtype)(x_BTD)
        y = nn.MultiHeadDotProductAttention(
            self.heads, dtype=self.dtype, dropout_rate=self.dropout, deterministic=not train
        )(y)
        x_BTD = x_BTD + drop(y)
        y = nn.LayerNorm(dtype=self.dtype)(x_BTD)
        y = nn.gelu(nn.Dense(self.feed_forward, dtype=self.dtype)(y))
        return x_BTD + drop(nn.Dense(x_BTD.shape[-1], dtype=self.dtype)(drop(y)))


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
        self.compress = nn.Dense(s.latent, dtype=dtype)
        self.projection = [nn.Dense(n, dtype=dtype) for n in s.projection]
        self.decompress = nn.Dense(sequences * count * s.width, dtype=dtype)
        self.decoder_positions = self.param("decoder_positions", _small, (count, s.width))
        self.types = self.param("types", _small, (sequences, 1, s.width))
        self.decoder = blocks(s.layers)
        self.heads = [
            {g.name: nn.Dense(g.width, dtype=dtype) for g in groups} for _ in range(sequences)
        ]
        if s.task == "sparsify":
            self.shortcut = nn.Dense(s.width, dtype=dtype)

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
        x_BTD = x_BTD + self.encoder_positions.astype(x_BTD.dtype)
        for block in self.encoder:
            x_BTD = block(x_BTD, train)
        summary = x_BTD[:, -1:] if self.settings.summary == "cls" else x_BTD
        z_BL = self.compress(summary.reshape(summary.shape[0], -1))
        return z_BL.astype(jnp.float32), x_BTD[:, :-1]

    def _project(self, z_BL: Array) -> Array:
        hidden, out = self.projection
        return out(nn.relu(hidden(z_BL))).astype(jnp.float32)

    def _decode(self, z_BL: Array, encoded_BTD: Array | None, train: bool) -> list[Tokens]:
        count, width = self.tokenizer.count, self.settings.width
        x = self.decompress(z_BL).reshape(z_BL.shape[0], -1, count, width)
        x = x + (self.decoder_positions + self.types).astype(x.dtype)
        if self.settings.task == "sparsify" and encoded_BTD is not None:
            x = x + self.shortcut(encoded_BTD)[:, None]
        x_BTD = x.reshape(x.shape[0], -1, width)
        for block in self.decoder:
            x_BTD = block(x_BTD, train)
        x = x_BTD.reshape(x.shape)
        result = []
        for i, head in enumerate(self.heads):
            tokens, first = {}, 0
            for g in self.tokenizer.groups:
                tokens[g.name] = head[g.name](x[:, i, first : first + g.count]).astype(jnp.float32)
                first += g.count
            result.append(tokens)
        return result
