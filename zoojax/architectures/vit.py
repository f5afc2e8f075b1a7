"""Vision transformers of any width, depth, number of heads and patch size.

"vit-384-12-6-16-224" is timm's vit_small_patch16_224, of the published ViT zoos
(https://github.com/ModelZoos/ViTModelZoo). The numbers are width, blocks, heads, side of a patch,
and side of the images (32 if it is omitted). A sixth number is the width of a hidden layer before
the last one, with ReLU, as in fine-tuned members of those zoos.

Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021. Attention and MLPs have a layer
normalization before them; logits are those of the class token.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.nn import initializers

from zoojax import ops
from zoojax.architectures.family import Family
from zoojax.architectures.layers import ACTIVATIONS, INITS, PLAIN, ConvSpec, KernelInit, Layers
from zoojax.architectures.linen import LinenArchitecture
from zoojax.architectures.permuted_axes import PermutationGroup, PermutedAxis
from zoojax.ops import Noise

SIZE = 32
# Epsilon of timm's layer normalizations.
_EPSILON = 1e-6
MLP_RATIO = 4
# 800 MB per member.
MAX_PARAMETERS = 200_000_000
MAX_DEPTH, MAX_SIDE = 64, 2**10


class Sizes(NamedTuple):
    """Sizes of a vision transformer.

    Attributes:
        width: Number of values of each token.
        depth: Number of blocks.
        heads: Number of attention heads of a block.
        patch: Side of the patches that images are cut into, in pixels.
        side: Side of the images, in pixels.
        hidden: Width of the hidden layer before the last one; 0 without it.
    """

    width: int
    depth: int
    heads: int
    patch: int
    side: int = SIZE
    hidden: int = 0

    @property
    def tokens(self) -> int:
        """Number of tokens: the class token and the patches."""
        return 1 + (self.side // self.patch) ** 2

    @property
    def layers(self) -> list[str]:
        """Names of the layers with weights, in timm's order."""
        blocks = [
            f"blocks.{block}.{layer}"
            for block in range(self.depth)
            for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
        ]
        return ["patch_embed.proj", *blocks, *(["head.0", "head.2"] if self.hidden else ["head"])]


class ViT(nn.Module):
    """A vision transformer; its layers have timm's names.

    Attributes:
        classes: Number of classes.
        sizes: Sizes of the network.
        activation: Activation function of the blocks.
        kernel_init: Initializer of the weights.
        layers: Modules of the layers with weights; variational dropout replaces them.
    """

    classes: int
    sizes: Sizes
    activation: Callable[[Array], Array] = ACTIVATIONS["gelu"]
    kernel_init: KernelInit = INITS["kaiming_normal"]
    layers: Layers = PLAIN

    @nn.compact
    def __call__(
        self, images: Array, noise: Noise | None = None, dropout_rate: Array | None = None
    ) -> Array:
        """Computes the logits; dropout is applied before the last layers."""
        sizes = self.sizes
        slots = {name: slot for slot, name in enumerate(sizes.layers)}

        def noise_of(layer: str) -> Noise | None:
            return None if noise is None else noise.at(slots[layer])

        def dense(x: Array, name: str, features: int) -> Array:
            return self.layers.dense(features, self.kernel_init, name=name)(x, noise_of(name))

        def norm(x: Array, name: str) -> Array:
            return nn.LayerNorm(_EPSILON, use_fast_variance=False, name=name)(x)

        spec = ConvSpec(sizes.width, sizes.patch, stride=sizes.patch, by_taps=True)
        proj = self.layers.conv(spec, self.kernel_init, name="patch_embed.proj")
        patches = proj(images, noise_of("patch_embed.proj"))
        x_BTD = Tokens(sizes.tokens, name="tokens")(patches.reshape(len(images), -1, sizes.width))
        for block in (f"blocks.{i}" for i in range(sizes.depth)):
            qkv = dense(norm(x_BTD, f"{block}.norm1"), f"{block}.attn.qkv", 3 * sizes.width)
            x_BTD += dense(attention(qkv, sizes.heads), f"{block}.attn.proj", sizes.width)
            y = norm(x_BTD, f"{block}.norm2")
            y = self.activation(dense(y, f"{block}.mlp.fc1", MLP_RATIO * sizes.width))
            x_BTD += dense(y, f"{block}.mlp.fc2", sizes.width)
        x = norm(x_BTD, "norm")[:, 0]
        if dropout_rate is not None and noise is not None:
            x = ops.dropout(x, dropout_rate, noise.at(len(slots)))
        *hidden, last = sizes.layers[1 + 4 * sizes.depth :]
        for layer in hidden:
            x = nn.relu(dense(x, layer, sizes.hidden))
        return dense(x, last, self.classes)


class Tokens(nn.Module):
    """Puts the class token before the patches, and adds the position embeddings.

    Attributes:
        count: Number of tokens.
    """

    count: int

    @nn.compact
    def __call__(self, patches_BTD: Array) -> Array:
        batch, _, width = patches_BTD.shape
        init = initializers.normal(0.02)
        token = self.param("cls_token", init, (1, 1, width))
        positions = self.param("pos_embed", init, (1, self.count, width))
        first = jnp.broadcast_to(token, (batch, 1, width))
        return jnp.concatenate([first, patches_BTD], axis=1) + positions


def attention(qkv_BTE: Array, heads: int) -> Array:
    """Computes scaled dot-product attention.

    Args:
        qkv_BTE: Queries, keys and values, concatenated, [batch, tokens, 3 * width]; in each of
            them, the values of a head are neighbors.
        heads: Number of heads.

    Returns:
        [batch, tokens, width].
    """
    batch, tokens, values = qkv_BTE.shape
    split = qkv_BTE.reshape(batch, tokens, 3, heads, values // (3 * heads))
    q, k, v = (split[:, :, i] for i in range(3))
    scores = jnp.einsum("bqhd,bkhd->bhqk", q * q.shape[-1] ** -0.5, k)
    return jnp.einsum("bhqk,bkhd->bqhd", nn.softmax(scores), v).reshape(batch, tokens, -1)


def permutation_groups(sizes: Sizes) -> tuple[PermutationGroup, ...]:
    """Units that are permuted together: values of tokens, attention heads, and units of MLPs."""
    stream = [PermutedAxis(f"tokens/{leaf}", -1) for leaf in ("cls_token", "pos_embed")]
    stream += _outputs("patch_embed.proj")
    groups: list[list[PermutedAxis]] = []
    head = sizes.width // sizes.heads
    for block in (f"blocks.{i}" for i in range(sizes.depth)):
        qkv, proj, fc1, fc2 = (
            f"{block}.{layer}" for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
        )
        stream += [*_norm(f"{block}.norm1"), _inputs(qkv), *_outputs(proj)]
        stream += [*_norm(f"{block}.norm2"), _inputs(fc1), *_outputs(fc2)]
        heads = [each._replace(positions=3, width=head) for each in _outputs(qkv)]
        groups += [[*heads, _inputs(proj)._replace(width=head)], [*_outputs(fc1), _inputs(fc2)]]
    stream += _norm("norm")
    if not sizes.hidden:
        return tuple(map(tuple, ([*stream, _inputs("head")], *groups)))
    groups.append([*_outputs("head.0"), _inputs("head.2")])
    return tuple(map(tuple, ([*stream, _inputs("head.0")], *groups)))


def _outputs(layer: str) -> list[PermutedAxis]:
    return [PermutedAxis(f"{layer}/{leaf}", -1) for leaf in ("kernel", "bias")]


def _inputs(layer: str) -> PermutedAxis:
    return PermutedAxis(f"{layer}/kernel", -2)


def _norm(name: str) -> list[PermutedAxis]:
    return [PermutedAxis(f"{name}/{leaf}", -1) for leaf in ("scale", "bias")]


def is_valid(numbers: Sequence[int]) -> bool:
    """Whether there is a vision transformer of these sizes, in the order of `Sizes`."""
    if not 4 <= len(numbers) <= 6:
        return False
    sizes = Sizes(*numbers)
    fits = not (sizes.width % sizes.heads or sizes.side % sizes.patch)
    within = sizes.depth <= MAX_DEPTH and sizes.side <= MAX_SIDE
    parameters = 12 * sizes.depth * sizes.width**2 + sizes.tokens * sizes.width
    return fits and within and parameters + sizes.width * sizes.hidden <= MAX_PARAMETERS


def _create(numbers: Sequence[int], channels: int, classes: int) -> LinenArchitecture:
    sizes = Sizes(*numbers)
    network, groups = ViT(classes, sizes), permutation_groups(sizes)
    name = FAMILY.name_of(numbers)
    return LinenArchitecture(name, sizes.side, channels, classes, network, groups)


FAMILY = Family("vit", "vision transformers", "vit-64-4-4-8", is_valid, _create)
