"""ResNet-18 of the published CIFAR zoos, of any width.

"resnet18" is torchvision's resnet18 with a 3x3 convolution of stride 1 and no max pooling at the
start, as in https://github.com/ModelZoos/ModelZooDataset (code/model_definitions/def_net.py).
"resnet18-16" starts with 16 instead of 64 channels; "resnet18-32" is ResNet18Slim of
https://github.com/HSG-AIML/WeightCLIP. Images have 32x32 pixels; a second number is another side:
"resnet18-64-64" is the network for Tiny ImageNet.

He et al., "Deep Residual Learning for Image Recognition", 2016.
"""

from collections.abc import Callable, Sequence

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

NAME = "resnet18"
WIDTH, SIZE = 64, 32
MAX_WIDTH, MAX_SIZE = 256, 2**10
STAGES, BLOCKS = 4, 2


def block_names() -> list[tuple[str, int, int, bool]]:
    """Lists the blocks in order: (name, stage, stride, whether the block downsamples)."""
    return [
        (f"layer{stage + 1}.{block}", stage, 2 if first else 1, first)
        for stage in range(STAGES)
        for block in range(BLOCKS)
        for first in [stage > 0 and block == 0]
    ]


def layer_names() -> list[str]:
    """Returns the names of the layers with weights, in torchvision's order."""
    names = ["conv1"]
    for block, _, _, downsamples in block_names():
        names += [f"{block}.conv1", f"{block}.conv2"]
        names += [f"{block}.downsample.0"] if downsamples else []
    return [*names, "fc"]


class ResNet18(nn.Module):
    """ResNet-18; its layers have torchvision's names.

    Attributes:
        classes: Number of classes.
        width: Channels of the first stage; they double from stage to stage.
        activation: Activation function.
        kernel_init: Initializer of the weights.
        layers: Modules of the layers with weights; variational dropout replaces them.
    """

    classes: int
    width: int
    activation: Callable[[Array], Array] = ACTIVATIONS["relu"]
    kernel_init: KernelInit = INITS["kaiming_uniform"]
    layers: Layers = PLAIN

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
        slots = {name: slot for slot, name in enumerate(layer_names())}

        def noise_of(layer: str) -> Noise | None:
            return None if noise is None else noise.at(slots[layer])

        def conv(x: Array, name: str, features: int, kernel: int = 3, stride: int = 1) -> Array:
            border = kernel // 2
            spec = ConvSpec(features, kernel, 1, stride, (border, border), bias=False, by_taps=True)
            y = self.layers.conv(spec, self.kernel_init, name=name)(x, noise_of(name))
            return BatchNorm(name=norm_of(name))(y[:, :, 0, 0], train, mask)

        x = self.activation(conv(images, "conv1", self.width))
        for block, stage, stride, downsamples in block_names():
            features = self.width * 2**stage
            y = self.activation(conv(x, f"{block}.conv1", features, stride=stride))
            y = conv(y, f"{block}.conv2", features)
            if downsamples:
                x = conv(x, f"{block}.downsample.0", features, kernel=1, stride=stride)
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


def permutation_groups() -> tuple[PermutationGroup, ...]:
    """Channels that are permuted together: those of each stage, and those inside each block.

    The blocks of a stage share their output channels because of the residual connections.
    """

    def outputs(conv: str) -> list[PermutedAxis]:
        leaves = [f"{norm_of(conv)}/{leaf}" for leaf in ("scale", "bias", "mean", "var")]
        return [PermutedAxis(path, -1) for path in (f"{conv}/kernel", *leaves)]

    def inputs(layer: str) -> PermutedAxis:
        return PermutedAxis(f"{layer}/kernel", -2)

    streams = [outputs("conv1"), *([] for _ in range(STAGES - 1))]
    inner = []
    for block, stage, _, downsamples in block_names():
        first, second, down = f"{block}.conv1", f"{block}.conv2", f"{block}.downsample.0"
        streams[stage - downsamples] += [inputs(first), *([inputs(down)] if downsamples else [])]
        streams[stage] += [*outputs(second), *(outputs(down) if downsamples else [])]
        inner.append([*outputs(first), inputs(second)])
    streams[-1].append(inputs("fc"))
    return tuple(map(tuple, (*streams, *inner)))


def rescalings(activation: str) -> tuple[Rescaling, ...]:
    """Factors of channels: scales and offsets of normalizations write them, kernels read them.

    The sum of a residual connection is multiplied by a factor if both of its parts are.
    """
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
        for index, group in enumerate(permutation_groups())
    )


def is_valid(sizes: Sequence[int]) -> bool:
    """Whether there is a ResNet-18 of these sizes: (width,) or (width, side of the images)."""
    return len(sizes) in (1, 2) and sizes[0] <= MAX_WIDTH and max(sizes[1:], default=1) <= MAX_SIZE


def resnet18(channels: int, classes: int) -> LinenArchitecture:
    """Returns the ResNet-18 of the published CIFAR zoos."""
    network = ResNet18(classes, WIDTH)
    groups = permutation_groups()
    return LinenArchitecture(NAME, SIZE, channels, classes, network, groups, rescalings)


def _create(sizes: Sequence[int], channels: int, classes: int) -> LinenArchitecture:
    width, *sides = sizes
    network, side = ResNet18(classes, width), sides[0] if sides else SIZE
    name = FAMILY.name_of(sizes)
    groups = permutation_groups()
    return LinenArchitecture(name, side, channels, classes, network, groups, rescalings)


FAMILY = Family(NAME, "ResNets", "resnet18-16", is_valid, _create)
