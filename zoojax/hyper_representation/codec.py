"""Encodes and decodes stacked zoo parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import Array

from zoojax.architectures.base import Architecture
from zoojax.hyper_representation.autoencoder import Autoencoder, Outputs
from zoojax.hyper_representation.behavior import Behavior
from zoojax.hyper_representation.dataset import Normalization
from zoojax.hyper_representation.losses import scale_log_alpha
from zoojax.hyper_representation.settings import Settings
from zoojax.hyper_representation.tokens import Tokenizer, Tokens, fill_missing
from zoojax.sparsifiers.variational_dropout import LOG_ALPHA_CLIP, LOG_ALPHA_THRESHOLD

Variables = dict[str, Any]
# The collection of variables that holds the probe images; it is not trained.
PROBES = "probes"
# Added to w^2 before the logarithm, so that log alpha stays finite; decoded weights are inexact.
_SMALLEST_KNOWN, _SMALLEST_DECODED = 1e-12, 1e-6
# Slope of the sigmoid that replaces the threshold in gradients, in units of 1 / r.
_SHARPNESS = 4.0


@dataclass(frozen=True)
class Codec:
    """Maps stacked parameters to embeddings and back. All methods are pure and not jitted.

    Attributes:
        settings: Settings of the autoencoder.
        arch: The members' architecture.
        normalization: Normalization fitted to the training samples.
        variational: Names of the leaves that have a log alpha, by layer; empty if only weights
            are reconstructed.
        slices: Dimensions of z per token, by group of tokens.
        activation: Activation of all members; None if their behavior is not used.
    """

    settings: Settings
    arch: Architecture
    normalization: Normalization
    variational: dict[str, tuple[str, ...]]
    slices: Mapping[str, int]
    activation: str | None = None

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the architecture."""
        return Tokenizer(self.arch, self.settings.tokens, self.settings.chunk_length)

    @cached_property
    def module(self) -> Autoencoder:
        """The Flax module."""
        return Autoencoder(
            self.settings, self.tokenizer, bool(self.variational), self.slices, self.probed
        )

    @property
    def probed(self) -> int:
        """Number of outputs on all probes; 0 without probes."""
        return self.settings.probes * self.arch.classes

    @property
    def behavior(self) -> Behavior:
        """Computes the behavior of members."""
        assert self.activation is not None
        return Behavior(self.arch, self.activation)

    @cached_property
    def masks(self) -> list[Tokens]:
        """Masks of valid token values for weights and, if there are any, for log alphas."""
        everything = {layer: tuple(x) for layer, x in self.arch.parameter_shapes().items()}
        present = [everything, self.variational] if self.variational else [everything]
        return [self.tokenizer.mask({k: dict.fromkeys(v) for k, v in p.items()}) for p in present]

    @cached_property
    def alpha_clips(self) -> dict[str, float]:
        """Bounds of the log alphas by layer; kernels of convolutions have four axes."""
        return {
            layer: LOG_ALPHA_CLIP["conv" if len(leaves["kernel"]) == 4 else "fc"]
            for layer, leaves in self.arch.parameter_shapes().items()
            if "kernel" in leaves
        }

    def init(self, key: Array) -> Variables:
        """Initializes the variables of the module; with probes, these are zero images."""
        groups = self.tokenizer.groups
        tokens = {g.name: jnp.zeros((2, g.count, g.width)) for g in groups}
        count, probed = self.settings.probes, None
        if count:
            probed = jnp.zeros((2, self.probed))
        variables = dict(self.module.init(key, tokens, probed))
        if count:
            images = jnp.zeros((count, *self.arch.image_shape))
            variables[PROBES] = {
                "images": images,
                "mean": jnp.zeros(self.probed),
                "std": jnp.ones(self.probed),
            }
        return variables

    def probe(self, variables: Variables, weights: dict) -> Array | None:
        """Computes the normalized probabilities of stacked parameters, [n, probed]."""
        if not self.settings.probes:
            return None
        probes = variables[PROBES]
        answers = jnp.exp(self.behavior(weights, probes["images"]))
        flat = answers.reshape(answers.shape[0], -1)
        return (flat - probes["mean"][None]) / probes["std"][None]

    def tokens(self, normalized: dict) -> Tokens:
        """Tokenizes a stacked parameter-shaped tree."""
        return jax.vmap(self.tokenizer.tokenize)(normalized)

    def targets(self, weights: dict, alphas: dict | None) -> tuple[dict, dict | None]:
        """Returns the stacked reconstruction targets.

        Args:
            weights: Stacked parameters.
            alphas: Stacked log alphas, if there are any.

        Returns:
            Normalized weights, and scaled log alphas or None.
        """
        normalized = self.normalization.apply(weights)
        if alphas is None or not self.variational:
            return normalized, None
        radius = self.settings.alpha_radius
        return normalized, jax.tree.map(lambda a: scale_log_alpha(a, radius), alphas)

    def alpha_tokens(self, tree: dict) -> Tokens:
        """Tokenizes a stacked tree of log alphas; parameters without a log alpha become 0."""
        return jax.vmap(lambda one: self.tokenizer.tokenize(fill_missing(one, self.arch)))(tree)

    def outputs(
        self,
        variables: Variables,
        inputs: Tokens,
        probed: Array | None,
        normalized: dict,
        key: Array | None = None,
    ) -> Outputs:
        """Runs the encoder on all inputs and the decoder on the first of them.

        Args:
            variables: Variables of the module.
            inputs: Encoder input, {group: [B, count, width]}.
            probed: Normalized outputs on the probes, [B, probed]; None without probes.
            normalized: Normalized weights of the first D inputs, without noise, [D, ...]; only
                these D samples are decoded.
            key: Random key of dropout; None at inference.
        """
        rngs = None if key is None else {"dropout": key}
        decoded = jax.tree.leaves(normalized)[0].shape[0]
        module_variables = {"params": variables["params"]}
        applied = self.module.apply(
            module_variables, inputs, probed, key is not None, decoded, rngs=rngs
        )
        out = cast(Outputs, applied)
        known = self.tokens(normalized) if self.settings.task == "sparsify" else None
        return out._replace(tokens=self._with_alphas(out.tokens, known))

    def _with_alphas(self, out: list[Tokens], known: Tokens | None) -> list[Tokens]:
        """Converts decoded log sigma^2 to log alphas, if the network decodes these.

        Args:
            out: Tokens of normalized weights and, if there are any, of log sigma^2 or log alphas.
            known: Tokens of the true normalized weights; None takes the decoded ones.
        """
        if len(out) == 1 or (known is None and not self.settings.decoded_noise):
            return out
        smallest = _SMALLEST_DECODED if known is None else _SMALLEST_KNOWN
        tokens = out[0] if known is None else known
        weights = self.normalization.invert(jax.vmap(self.tokenizer.detokenize)(tokens))
        # alpha = sigma^2 / w^2.
        own = self.tokens(jax.tree.map(lambda w: -jnp.log(jnp.square(w) + smallest), weights))
        r = self.settings.alpha_radius
        return [out[0], {name: x + own[name] / r for name, x in out[1].items()}]

    def embed(self, variables: Variables, weights: dict, probed: Array | None) -> Array:
        """Embeds stacked parameters with their `probe`: [n, latent]."""
        tokens = self.tokens(self.normalization.apply(weights))
        params = {"params": variables["params"]}
        return cast(Array, self.module.apply(params, tokens, probed, method="encode"))

    def reconstruct(self, variables: Variables, weights: dict) -> tuple[dict, dict | None]:
        """Encodes and decodes stacked parameters.

        Returns:
            Reconstructed parameters, and log alphas or None.
        """
        return self.to_params(self._outputs_of(variables, weights))

    def log_alphas(self, variables: Variables, weights: dict) -> dict:
        """Predicts the log alphas of stacked parameters, without clipping.

        Clipping would create ties, and pruning by ratio needs a ranking.
        """
        return self._to_alphas(self._outputs_of(variables, weights)[1])

    def _outputs_of(self, variables: Variables, weights: dict) -> list[Tokens]:
        normalized, probed = self.normalization.apply(weights), self.probe(variables, weights)
        return self.outputs(variables, self.tokens(normalized), probed, normalized).tokens

    def thresholded(self, out: list[Tokens]) -> dict:
        """Returns decoded parameters, zero where log alpha >= 3, with a useful gradient.

        Gradients are those of multiplying by sigmoid(4 (3 - log alpha) / r), the straight-through
        estimator (Bengio et al. 2013). Parameters without a decoded log alpha are unchanged.
        """
        weights = self.normalization.invert(jax.vmap(self.tokenizer.detokenize)(out[0]))
        if not self.variational:
            return weights
        scaled = jax.vmap(self.tokenizer.detokenize)(out[1])
        return {
            layer: {
                name: w * _step(scaled[layer][name])
                if name in self.variational.get(layer, ())
                else w
                for name, w in leaves.items()
            }
            for layer, leaves in weights.items()
        }

    def decode(self, variables: Variables, z: Array) -> tuple[dict, dict | None]:
        """Decodes embeddings [n, latent] to stacked parameters, and log alphas or None."""
        out = self.module.apply({"params": variables["params"]}, z, method="decode")
        return self.to_params(self._with_alphas(cast(list[Tokens], out), None))

    def to_params(self, out: list[Tokens]) -> tuple[dict, dict | None]:
        """Converts decoded tokens to stacked parameters, and clipped log alphas or None."""
        weights = self.normalization.invert(jax.vmap(self.tokenizer.detokenize)(out[0]))
        if not self.variational:
            return weights, None
        clips = self.alpha_clips
        return weights, {
            layer: {name: jnp.clip(a, -clips[layer], clips[layer]) for name, a in leaves.items()}
            for layer, leaves in self._to_alphas(out[1]).items()
        }

    def _to_alphas(self, tokens: Tokens) -> dict:
        scaled, r = jax.vmap(self.tokenizer.detokenize)(tokens), self.settings.alpha_radius
        return {
            layer: {name: LOG_ALPHA_THRESHOLD + r * scaled[layer][name] for name in names}
            for layer, names in self.variational.items()
        }


def _step(scaled: Array) -> Array:
    """Returns 1 below the threshold and 0 above, with the gradient of a sigmoid."""
    smooth = jax.nn.sigmoid(-_SHARPNESS * scaled)
    return smooth + jax.lax.stop_gradient((scaled < 0) - smooth)
