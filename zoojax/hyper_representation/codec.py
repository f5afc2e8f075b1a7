"""Encodes and decodes stacked zoo parameters."""

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
# Slope of the differentiable threshold, in units of 1 / r.
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
        activation: Activation of all members; None if their behavior is not used.
    """

    settings: Settings
    arch: Architecture
    normalization: Normalization
    variational: dict[str, tuple[str, ...]]
    activation: str | None = None

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the architecture."""
        return Tokenizer(self.arch, self.settings.tokens, self.settings.chunk_length)

    @cached_property
    def module(self) -> Autoencoder:
        """The Flax module."""
        return Autoencoder(self.settings, self.tokenizer, bool(self.variational), self.probed)

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
        """Computes the normalized outputs of stacked parameters on the probes, [n, probed]."""
        if not self.settings.probes:
            return None
        probes = variables[PROBES]
        answers = self.behavior(weights, probes["images"])
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
        if self.settings.task == "sparsify":
            # alpha = sigma^2 / w^2 and w is known, so the network predicts log sigma^2 only.
            weights = self.normalization.invert(normalized)
            own = jax.tree.map(lambda w: -jnp.log(jnp.square(w) + 1e-12), weights)
            own = self.tokens(own)
            r, predicted = self.settings.alpha_radius, out.tokens[1]
            alphas = {n: x + own[n] / r for n, x in predicted.items()}
            out = out._replace(tokens=[out.tokens[0], alphas])
        return out

    def embed(self, variables: Variables, weights: dict) -> Array:
        """Embeds stacked parameters: [n, latent]."""
        tokens = self.tokens(self.normalization.apply(weights))
        probed = self.probe(variables, weights)
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

    def soft_thresholded(self, out: list[Tokens]) -> dict:
        """Returns decoded parameters, multiplied by a differentiable threshold on log alpha.

        The factor is sigmoid(4 (3 - log alpha) / r) where a log alpha is decoded, otherwise 1.
        """
        weights = self.normalization.invert(jax.vmap(self.tokenizer.detokenize)(out[0]))
        if not self.variational:
            return weights
        scaled = jax.vmap(self.tokenizer.detokenize)(out[1])
        return {
            layer: {
                name: w * jax.nn.sigmoid(-_SHARPNESS * scaled[layer][name])
                if name in self.variational.get(layer, ())
                else w
                for name, w in leaves.items()
            }
            for layer, leaves in weights.items()
        }

    def decode(self, variables: Variables, z: Array) -> tuple[dict, dict | None]:
        """Decodes embeddings [n, latent] to stacked parameters, and log alphas or None."""
        out = self.module.apply({"params": variables["params"]}, z, method="decode")
        return self.to_params(cast(list[Tokens], out))

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
