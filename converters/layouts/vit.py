"""Torch's layout of vision transformers: timm's names, under "vit." in the published zoos."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch

from zoojax.architectures import vit
from zoojax.architectures.base import Architecture
from zoojax.architectures.linen import LinenArchitecture
from zoojax.architectures.registry import architecture
from zoojax.converters.layouts.base import Layer, NetworkLayout, TensorLayout
from zoojax.converters.layouts.normalizations import LAYER_NORM
from zoojax.converters.layouts.torch_networks import TorchViT, Under

_NAMES = ("vit.", "")
_PATCHES = "patch_embed.proj"
_MAX_CLASSES = 10_000
# Values of a head in timm's networks, and heads of other widths: files do not have their number.
_HEAD_WIDTH, _SMALL_HEADS = 64, 6


class ViTLayout(NetworkLayout):
    """The class token and positions, layers with biases, and layer normalizations."""

    model_type: ClassVar = "vit_s_16"

    def takes(self, architecture: Architecture) -> bool:
        """Vision transformers of any size."""
        return isinstance(architecture, LinenArchitecture) and isinstance(
            architecture.network, vit.ViT
        )

    def infer(
        self, weights: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]
    ) -> tuple[Architecture, tuple[str, ...]] | None:
        """Heads have 64 values as in timm's networks; other widths have six heads, as vit_small."""
        for start in _NAMES:
            if f"{start}{_PATCHES}" in weights:
                break
        else:
            return None
        numbers = _sizes(start, weights, shapes)
        if numbers is None or not vit.is_valid(numbers):
            return None
        sizes = vit.Sizes(*numbers)
        prefixes = tuple(f"{start}{layer}" for layer in sizes.layers)
        if any(prefix not in weights for prefix in prefixes):
            return None
        channels, classes = weights[prefixes[0]][1], weights[prefixes[-1]][0]
        if channels not in (1, 3) or not 0 < classes <= _MAX_CLASSES:
            return None
        network = architecture(vit.FAMILY.name_of(numbers), channels, classes)
        layers = [each for each in self.layers(network, prefixes) if each.tensors is None]
        fits = all(weights[each.prefix] == each.shape for each in layers)
        return (network, prefixes) if fits else None

    def default_prefixes(self, architecture: Architecture, dropout: bool) -> tuple[str, ...]:
        """timm's names under "vit."."""
        return tuple(f"{_NAMES[0]}{layer}" for layer in _network(architecture).sizes.layers)

    def layers(self, architecture: Architecture, prefixes: Sequence[str]) -> tuple[Layer, ...]:
        """In timm's order: tokens, patches, blocks, normalization, head."""
        sizes, shapes = _network(architecture).sizes, architecture.parameter_shapes()
        start, width = prefixes[0].removesuffix(_PATCHES), (sizes.width,)
        tokens = tuple(
            TensorLayout(leaf, "params", leaf, size=shapes["tokens"][leaf])
            for leaf in ("cls_token", "pos_embed")
        )
        layers = [Layer("tokens", start.removesuffix("."), width, tensors=tokens)]

        def norm(name: str) -> None:
            layers.append(Layer(name, f"{start}{name}", width, tensors=LAYER_NORM))

        for name, prefix in zip(sizes.layers, prefixes, strict=True):
            if name.endswith("attn.qkv"):
                norm(name.replace("attn.qkv", "norm1"))
            elif name.endswith("mlp.fc1"):
                norm(name.replace("mlp.fc1", "norm2"))
            elif name in ("head", "head.0"):
                norm("norm")
            kernel = shapes[name]["kernel"]
            layers.append(Layer(name, prefix, (*kernel[:-3:-1], *kernel[:-2])))
        return tuple(layers)

    def torch_module(self, architecture: Architecture, activation: str) -> torch.nn.Module:
        """timm's network, held as `vit`."""
        network = _network(architecture)
        model = TorchViT(architecture.channels, network.classes, network.sizes, activation)
        return Under(_NAMES[0].removesuffix("."), model)


def _network(architecture: Architecture) -> vit.ViT:
    assert isinstance(architecture, LinenArchitecture)
    assert isinstance(architecture.network, vit.ViT)
    return architecture.network


def _sizes(
    start: str, weights: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[int, ...] | None:
    """Returns the sizes in a name of the family; None if there are no such sizes."""
    patches, positions = weights[f"{start}{_PATCHES}"], shapes.get(f"{start}pos_embed", ())
    if len(patches) != 4 or len(positions) != 3:
        return None
    width, patch = patches[0], patches[2]
    heads = width // _HEAD_WIDTH if width % _HEAD_WIDTH == 0 else _SMALL_HEADS
    depth = sum(name.startswith(start) and name.endswith(".attn.qkv") for name in weights)
    grid = round((positions[1] - 1) ** 0.5) if positions[1] > 0 else 0
    side = grid * patch
    if not depth or not side or not heads or grid**2 + 1 != positions[1]:
        return None
    hidden = weights.get(f"{start}head.0", ())
    if hidden:
        return width, depth, heads, patch, side, hidden[0]
    return (width, depth, heads, patch, *(() if side == vit.SIZE else (side,)))
