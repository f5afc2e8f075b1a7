"""Residual networks and vision transformers as torch modules, under the names of published zoos."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoojax.architectures import resnet, vit
from zoojax.converters.layouts.torch_models import ACTIVATIONS


class TorchResNet(nn.Module):
    """A residual network with torchvision's names.

    Args:
        channels: Channels of the images.
        classes: Number of classes.
        width: Channels of the first stage.
        design: Its blocks.
        activation: A key of `torch_models.ACTIVATIONS`.
    """

    def __init__(
        self, channels: int, classes: int, width: int, design: resnet.Design, activation: str
    ):
        super().__init__()
        self.act = ACTIVATIONS[activation]()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs, stages = width, {}
        for block in design.blocks():
            module = _ResidualBlock(inputs, width, block, self.act)
            stages.setdefault(block.name.split(".")[0], []).append(module)
            inputs = width * block.convs[-1].features
        for name, modules in stages.items():
            setattr(self, name, nn.Sequential(*modules))
        self.stages = tuple(stages)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [batch, classes] of images [batch, channels, height, width]."""
        x = self.act(self.bn1(self.conv1(x)))
        for stage in self.stages:
            x = getattr(self, stage)(x)
        return self.fc(x.mean((2, 3)))


class _ResidualBlock(nn.Module):
    """Convolutions conv1, conv2, ... with normalizations, and a residual connection."""

    def __init__(self, inputs: int, width: int, block: resnet.Block, act: nn.Module):
        super().__init__()
        self.count, before = len(block.convs), inputs
        for i, each in enumerate(block.convs, start=1):
            setattr(self, f"conv{i}", _conv(before, width, each))
            before = width * each.features
            setattr(self, f"bn{i}", nn.BatchNorm2d(before))
        self.downsample = None
        if block.downsampling is not None:
            conv = _conv(inputs, width, block.downsampling)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(before))
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Values [batch, features, height, width]."""
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = self.act(y) if i < self.count else y
        return self.act(y + (x if self.downsample is None else self.downsample(x)))


def _conv(inputs: int, width: int, conv: resnet.BlockConv) -> nn.Conv2d:
    features, padding = width * conv.features, conv.kernel // 2
    return nn.Conv2d(inputs, features, conv.kernel, conv.stride, padding, bias=False)


class TorchViT(nn.Module):
    """A vision transformer with timm's names.

    Args:
        channels: Channels of the images.
        classes: Number of classes.
        sizes: Sizes of the network.
        activation: A key of `torch_models.ACTIVATIONS`, of the blocks.
    """

    def __init__(self, channels: int, classes: int, sizes: vit.Sizes, activation: str):
        super().__init__()
        width, patch = sizes.width, sizes.patch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, sizes.tokens, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(channels, width, patch, patch)})
        self.blocks = nn.Sequential(
            *(_Block(width, sizes.heads, ACTIVATIONS[activation]()) for _ in range(sizes.depth))
        )
        self.norm = nn.LayerNorm(width, 1e-6)
        if sizes.hidden:
            first, last = nn.Linear(width, sizes.hidden), nn.Linear(sizes.hidden, classes)
            self.head = nn.Sequential(first, nn.ReLU(), last)
        else:
            self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [batch, classes] of images [batch, channels, height, width]."""
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


class _Block(nn.Module):
    """Attention and an MLP, normalized at their start, with residual connections."""

    def __init__(self, width: int, heads: int, act: nn.Module):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, 1e-6)
        self.attn = nn.ModuleDict(
            {"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)}
        )
        self.norm2 = nn.LayerNorm(width, 1e-6)
        hidden = vit.MLP_RATIO * width
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})
        self.heads, self.act = heads, act

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [batch, tokens, width]."""
        batch, tokens, width = x.shape
        qkv = self.attn["qkv"](self.norm1(x)).reshape(batch, tokens, 3, self.heads, -1)
        y = functional.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
        x = x + self.attn["proj"](y.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.mlp["fc2"](self.act(self.mlp["fc1"](self.norm2(x))))


class Under(nn.Module):
    """A module that holds a network under a name, which prefixes the names of its tensors.

    Args:
        name: The name.
        network: The network.
    """

    def __init__(self, name: str, network: nn.Module):
        super().__init__()
        self.add_module(name, network)

    def forward(self, x: Tensor) -> Tensor:
        """What the network returns."""
        return next(self.children())(x)
