"""An autoencoder with all it needs to take a zoo's parameters and to give them back."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import Array

from zoojax.architectures.base import Architecture
from zoojax.hyper_representation.autoencoder import Autoencoder
from zoojax.hyper_representation.dataset import Normalization
from zoojax.hyper_representation.losses import scale_log_alpha
from zoojax.hyper_representation.settings import Settings
from zoojax.hyper_representation.tokens import Tokenizer, Tokens, fill_missing
from zoojax.sparsifiers.variational_dropout import LOG_ALPHA_CLIP, LOG_ALPHA_THRESHOLD

Variables = dict[str, Any]


@dataclass(frozen=True)
class Codec:
    """Stacked parameters to embeddings and back. Functions are pure, and not jitted.

    Attributes:
        settings: the autoencoder's.
        arch: the members' architecture.
        normalisation: of the training samples.
        variational: leaves that have a log alpha, {layer: (leaf, ...)}; none of a zoo
            without alphas.
    """

    settings: Settings
    arch: Architecture
    normalisation: Normalization
    variational: dict[str, tuple[str, ...]]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Of the architecture."""
        return Tokenizer(self.arch, self.settings.tokens, self.settings.chunk_length)

    @cached_property
    def module(self) -> Autoencoder:
        """The network."""
        return Autoencoder(self.settings, self.tokenizer, bool(self.variational))

    @cached_property
    def masks(self) -> list[Tokens]:
        """Numbers that are there in the tokens of weights, and of log alphas."""
        everything = {layer: ("kernel", "bias") for layer in self.arch.layers}
        present = [everything, self.variational] if self.variational else [everything]
        return [self.tokenizer.mask({k: dict.fromkeys(v) for k, v in p.items()}) for p in present]

    def init(self, key: Array) -> Variables:
        """Untrained variables."""
        groups = self.tokenizer.groups
        tokens = {g.name: jnp.zeros((2, g.count, g.width)) for g in groups}
        return dict(self.module.init(key, tokens))

    def tokens(self, normalised: dict) -> Tokens:
        """Tokens of a stacked tree shaped like the parameters."""
        return jax.vmap(self.tokenizer.tokenize)(normalised)

    def targets(self, weights: dict, alphas: dict | None) -> tuple[dict, dict | None]:
        """What is to be reconstructed, stacked: normalised weights, and scaled log alphas."""
        normalised = self.normalisation.apply(weights)
        if alphas is None or not self.variational:
            return normalised, None
        radius = self.settings.alpha_radius
        return normalised, jax.tree.map(lambda a: scale_log_alpha(a, radius), alphas)

    def alpha_tokens(self, tree: dict) -> Tokens:
        """Tokens of a stacked tree shaped like the log alphas; zeros where there are none."""
        return jax.vmap(lambda one: self.tokenizer.tokenize(fill_missing(one, self.arch)))(tree)

    def outputs(
        self,
        variables: Variables,
        inputs: Tokens,
        normalised: dict,
        key: Array | None = None,
    ) -> tuple[Array, Array, list[Tokens]]:
        """Embeddings, projections, and tokens of weights and of (log alpha - t) / r.

        Args:
            variables: of the network.
            inputs: tokens that the encoder sees, [B, ...].
            normalised: the weights of the first of those tokens, without noise, [D, ...];
                so many are decoded.
            key: of dropout, in training.
        """
        rngs = None if key is None else {"dropout": key}
        decoded = jax.tree.leaves(normalised)[0].shape[0]
        applied = self.module.apply(variables, inputs, key is not None, decoded, rngs=rngs)
        z, projected, out = cast(tuple[Array, Array, list[Tokens]], applied)
        if self.settings.task == "sparsify":
            # The weights are at hand: what is to be learned of alpha = sigma^2 / w^2 is sigma.
            weights = self.normalisation.invert(normalised)
            own = jax.tree.map(lambda w: -jnp.log(jnp.square(w) + 1e-12), weights)
            own = self.tokens(own)
            r = self.settings.alpha_radius
            out = [out[0], {n: x + own[n] / r for n, x in out[1].items()}]
        return z, projected, out

    def embed(self, variables: Variables, weights: dict) -> Array:
        """Embeddings [n, latent] of stacked parameters."""
        tokens = self.tokens(self.normalisation.apply(weights))
        return cast(Array, self.module.apply(variables, tokens, method="encode"))

    def reconstruct(self, variables: Variables, weights: dict) -> tuple[dict, dict | None]:
        """Stacked parameters, and log alphas, as the autoencoder gives them back."""
        normalised = self.normalisation.apply(weights)
        return self.parameters(self.outputs(variables, self.tokens(normalised), normalised)[2])

    def log_alphas(self, variables: Variables, weights: dict) -> dict:
        """Log alphas as the autoencoder predicts them of stacked parameters, not clipped.

        What clipping would make equal keeps its order, as pruning at a ratio needs.
        """
        normalised = self.normalisation.apply(weights)
        return self._alphas(self.outputs(variables, self.tokens(normalised), normalised)[2][1])

    def decode(self, variables: Variables, z: Array) -> tuple[dict, dict | None]:
        """Stacked parameters, and log alphas, of embeddings [n, latent]."""
        out = self.module.apply(variables, z, method="decode")
        return self.parameters(cast(list[Tokens], out))

    def parameters(self, out: list[Tokens]) -> tuple[dict, dict | None]:
        """What the decoder gives, as stacked parameters and log alphas."""
        weights = self.normalisation.invert(jax.vmap(self.tokenizer.detokenize)(out[0]))
        if not self.variational:
            return weights, None
        return weights, {
            layer: {name: jnp.clip(a, -_clip(layer), _clip(layer)) for name, a in leaves.items()}
            for layer, leaves in self._alphas(out[1]).items()
        }

    def _alphas(self, tokens: Tokens) -> dict:
        scaled_alphas, r = jax.vmap(self.tokenizer.detokenize)(tokens), self.settings.alpha_radius
        return {
            layer: {name: LOG_ALPHA_THRESHOLD + r * scaled_alphas[layer][name] for name in names}
            for layer, names in self.variational.items()
        }


def _clip(layer: str) -> float:
    return LOG_ALPHA_CLIP["conv" if layer.startswith("conv") else "fc"]
