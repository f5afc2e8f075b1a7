"""Residual networks of the published CIFAR zoos, of any width: ResNet-18 and ResNet-50.

"resnet18" is torchvision's resnet18 with a 3x3 convolution of stride 1 and no max pooling at the
start, as in https://github.com/ModelZoos/ModelZooDataset (code/model_definitions/def_net.py).
"resnet18-16" starts with 16 instead of 64 channels; "resnet18-32" is ResNet18Slim of
https://github.com/HSG-AIML/WeightCLIP. Images have 32x32 pixels; a second number is another side:
"resnet18-64-64" is the network for Tiny ImageNet. "resnet50-16" is ResNet-50 with the same start,
as in https://github.com/ModelZoos/PhaseTransitionModelZoo (src/ptmz/models/def_resnet_width.py).

He et al., "Deep Residual Learning for Image Recognition", 2016.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import flax.linen as nn
from jax import Array

from zoojax import ops
from zoojax.architectures.batch_norm import BatchNorm
from zoojax.architectures.family import Family
from zoojax.architectures.layers import ACTIVATIONS, INITS, PLAIN, ConvSpec, KernelInit, Layers
from zoojax.architectures.linen import LinenArchitecture
from zoojax.architectures.permuted_axes import PermutationGroup, PermutedAxis
from zoojax.architectures.rescalings import KINDS, Rescaling
from zoojax.ops import Noise

WIDTH, SIZE = 64, 32
MAX_WIDTH, MAX_SIZE = 256, 2**10


class BlockConv(NamedTuple):
    """A convolution of a residual block.

    Attributes:
        name: Torchvision's name, such as "layer1.0.conv1".
        features: Its channels, as a multiple of the network's width.
        kernel: Side of its kernel.
        stride: Its stride.
    """

    name: str
    features: int
    kernel: int
    stride: int


class Block(NamedTuple):
    """A residual block.

    Attributes:
        name: Torchvision's name, such as "layer1.0".
        convs: Its convolutions in order.
        downsampling: The convolution of its residual connection; None without one.
    """

    name: str
    convs: tuple[BlockConv, ...]
    downsampling: BlockConv | None


@dataclass(frozen=True)
class Design:
    """The blocks of a residual network.

    Attributes:
        stages: Number of blocks of each stage.
        kernels: Sides of the kernels of a block; the first one of 3 has the stride.
        expansion: Channels of a block's last convolution, as a multiple of those of the others.
    """

    stages: tuple[int, ...]
    kernels: tuple[int, ...]
    expansion: int

    def blocks(self) -> Iterator[Block]:
        """Yields the blocks in order."""
        for stage, count in enumerate(self.stages):
            for number in range(count):
                stride = 2 if stage > 0 and number == 0 else 1
                changes = stride > 1 or (number == 0 and self.expansion > 1)
                yield self._block(f"layer{stage + 1}.{number}", 2**stage, stride, changes)

    def layer_names(self) -> list[str]:
        """Returns the names of the layers with weights, in torchvision's order."""
        names = ["conv1"]
        for block in self.blocks():
            names += [conv.name for conv in block.convs]
            names += [block.downsampling.name] if block.downsampling is not None else []
        return [*names, "fc"]

    def _block(self, name: str, features: int, stride: int, changes: bool) -> Block:
        expanded, strided = features * self.expansion, self.kernels.index(3)
        convs = [
            BlockConv(f"{name}.conv{i + 1}", features, kernel, stride if i == strided else 1)
            for i, kernel in enumerate(self.kernels)
        ]
        convs[-1] = convs[-1]._replace(features=expanded)
        downsampling = BlockConv(f"{name}.downsample.0", expanded, 1, stride)
        return Block(name, tuple(convs), downsampling if changes else None)


# Torchvision's BasicBlock and Bottleneck.
DESIGN_18 = Design((2, 2, 2, 2), (3, 3), 1)
DESIGN_50 = Design((3, 4, 6, 3), (1, 3, 1), 4)


class ResNet(nn.Module):
    """A residual network; its layers have torchvision's names.

    Attributes:
        classes: Number of classes.
        width: Channels of the first stage; they double from stage to stage.
        activation: Activation function.
        kernel_init: Initializer of the weights.
        layers: Modules of the layers with weights; variational dropout replaces them.
        design: Its blocks.
    """

    classes: int
    width: int
    activation: Callable[[Array], Array] = ACTIVATIONS["relu"]
    kernel_init: KernelInit = INITS["kaiming_uniform"]
    layers: Layers = PLAIN
    design: Design = DESIGN_18

    @nn.compact
    def __call__(
        self,
        images: Array,
        noise: Noise | None = None,
        dropout_rate: Array | None = None,
        train: bool = False,
        mask: Array | None = None,
    ) -> Array:
        """Computes the logits; see `zoojax.architectures.base.Architecture.module`.

        Dropout, which only WeightCLIP's network has, is applied before the last layer.
        """
        slots = {name: slot for slot, name in enumerate(self.design.layer_names())}

        def noise_of(layer: str) -> Noise | None:
            return None if noise is None else noise.at(slots[layer])

        def conv(x: Array, of: BlockConv) -> Array:
            features, border = of.features * self.width, of.kernel // 2
            spec = ConvSpec(
                *(features, of.kernel, 1, of.stride, (border, border)), bias=False, by_taps=True
            )
            y = self.layers.conv(spec, self.kernel_init, name=of.name)(x, noise_of(of.name))
            return BatchNorm(name=norm_of(of.name))(y[:, :, 0, 0], train, mask)

        x = self.activation(conv(images, BlockConv("conv1", 1, 3, 1)))
        for block in self.design.blocks():
            y = x
            for each in block.convs[:-1]:
                y = self.activation(conv(y, each))
            y = conv(y, block.convs[-1])
            if block.downsampling is not None:
                x = conv(x, block.downsampling)
            x = self.activation(x + y)
        x = x.mean((1, 2))
        if dropout_rate is not None and noise is not None:
            x = ops.dropout(x, dropout_rate, noise.at(len(slots)))
        return self.layers.dense(self.classes, self.kernel_init, name="fc")(x, noise_of("fc"))


def norm_of(conv: str) -> str:
    """Returns the name of the batch normalization after a convolution."""
    if conv.endswith("downsample.0"):
        return conv.removesuffix("0") + "1"
    return conv.replace("conv", "bn")


def permutation_groups(design: Design) -> tuple[PermutationGroup, ...]:
    """Channels that are permuted together: those of residual streams, and those inside each block.

    Blocks without a downsampling share their output channels with the block before.
    """

    def outputs(conv: str) -> list[PermutedAxis]:
        leaves = [f"{norm_of(conv)}/{leaf}" for leaf in ("scale", "bias", "mean", "var")]
        return [PermutedAxis(path, -1) for path in (f"{conv}/kernel", *leaves)]

    def inputs(layer: str) -> PermutedAxis:
        return PermutedAxis(f"{layer}/kernel", -2)

    streams, inner = [outputs("conv1")], []
    for block in design.blocks():
        convs = [conv.name for conv in block.convs]
        down = [] if block.downsampling is None else [block.downsampling.name]
        streams[-1] += [inputs(name) for name in (convs[0], *down)]
        if down:
            streams.append([])
        streams[-1] += [axis for name in (convs[-1], *down) for axis in outputs(name)]
        inner += [[*outputs(a), inputs(b)] for a, b in itertools.pairwise(convs)]
    streams[-1].append(inputs("fc"))
    return tuple(map(tuple, (*streams, *inner)))


@dataclass(frozen=True)
class ResNetRescalings:
    """Factors of channels: scales and offsets of normalizations write them, kernels read them.

    The sum of a residual connection is multiplied by a factor if both of its parts are.

    Attributes:
        design: The blocks of the network.
    """

    design: Design

    def __call__(self, activation: str) -> tuple[Rescaling, ...]:
        """Returns the factors that do not change the function; see `Architecture.rescalings`."""
        kind = KINDS.get(activation)
        if kind is None:
            return ()

        def writes(axis: PermutedAxis) -> bool:
            return axis.path.endswith(("/scale", "/bias"))

        return tuple(
            Rescaling(
                index,
                kind,
                tuple(axis for axis in group if writes(axis)),
                tuple(axis for axis in group if axis.axis == -2),
            )
            for index, group in enumerate(permutation_groups(self.design))
        )


def is_valid(sizes: Sequence[int]) -> bool:
    """Whether there are networks of these sizes: (width,) or (width, side of the images)."""
    return len(sizes) in (1, 2) and sizes[0] <= MAX_WIDTH and max(sizes[1:], default=1) <= MAX_SIZE


def resnet18(channels: int, classes: int) -> LinenArchitecture:
    """Returns the ResNet-18 of the published CIFAR zoos."""
    return _resnet("resnet18", DESIGN_18, (WIDTH,), channels, classes)


def _resnet(
    name: str, design: Design, sizes: Sequence[int], channels: int, classes: int
) -> LinenArchitecture:
    width, side = (*sizes, SIZE)[:2]
    network = ResNet(classes, width, design=design)
    groups, factors = permutation_groups(design), ResNetRescalings(design)
    return LinenArchitecture(name, side, channels, classes, network, groups, factors)


def _family(name: str, plural: str, design: Design) -> Family:
    def create(sizes: Sequence[int], channels: int, classes: int) -> LinenArchitecture:
        return _resnet(family.name_of(sizes), design, sizes, channels, classes)

    family = Family(name, plural, f"{name}-16", is_valid, create)
    return family


RESNET_18 = _family("resnet18", "ResNets", DESIGN_18)
RESNET_50 = _family("resnet50", "ResNets with bottlenecks", DESIGN_50)
