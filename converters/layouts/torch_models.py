"""Chains as torch modules, with the parameter names of the zoos' checkpoints.

They verify conversions, and serve as the baseline of benchmarks.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoojax.architectures import chain_layers as data
from zoojax.architectures.chain import Chain, Step
from zoojax.architectures.layers import OMEGA
from zoojax.converters.layouts.networks import known_network, torch_steps
from zoojax.errors import ZoojaxError
from zoojax.sparsifiers.variational_dropout import INIT_LOG_SIGMA2, LOG_ALPHA_CLIP

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
    "sine": lambda: Sine(OMEGA),
    "identity": nn.Identity,
}


class VariationalConv2d(nn.Conv2d):
    """A convolution that samples its pre-activations, with a variational bias ("released")."""

    def __init__(self, inputs: int, features: int, kernel: int, **options: Any):
        super().__init__(inputs, features, kernel, **options)
        self.log_sigma2 = nn.Parameter(torch.full_like(self.weight, INIT_LOG_SIGMA2))
        self.log_sigma2_bias = nn.Parameter(torch.full((features,), INIT_LOG_SIGMA2))

    def forward(self, input: Tensor) -> Tensor:
        """Samples [batch, features, height, width]."""
        assert self.bias is not None
        mean = super().forward(input)
        variance = self._conv_forward(
            input * input,
            _variance(self.weight, self.log_sigma2, LOG_ALPHA_CLIP["conv"]),
            _variance(self.bias, self.log_sigma2_bias, LOG_ALPHA_CLIP["conv"]),
        )
        return mean + torch.sqrt(variance + 1e-8) * torch.randn_like(mean)


class VariationalLinear(nn.Linear):
    """A fully connected layer that samples its pre-activations."""

    def __init__(self, inputs: int, features: int):
        super().__init__(inputs, features)
        self.log_sigma2 = nn.Parameter(torch.full_like(self.weight, INIT_LOG_SIGMA2))
        # It is part of the zoos' checkpoints, but never read.
        self.log_sigma2_bias = nn.Parameter(torch.full((features,), INIT_LOG_SIGMA2))

    def forward(self, input: Tensor) -> Tensor:
        """Samples [batch, features]."""
        mean = functional.linear(input, self.weight, self.bias)
        weight_variance = _variance(self.weight, self.log_sigma2, LOG_ALPHA_CLIP["fc"])
        variance = functional.linear(input * input, weight_variance)
        return mean + torch.sqrt(variance + 1e-8) * torch.randn_like(mean)


def log_alpha(weight: Tensor, log_sigma2: Tensor, clip: float) -> Tensor:
    """log(sigma^2 / w^2), clipped."""
    return torch.clamp(log_sigma2 - 2 * torch.log(weight.abs() + 1e-15), -clip, clip)


def _variance(weight: Tensor, log_sigma2: Tensor, clip: float) -> Tensor:
    return torch.exp(log_alpha(weight, log_sigma2, clip)) * weight * weight


def kl(model: nn.Module) -> Tensor:
    """Sums the KL divergence of all variational weights (Molchanov et al. 2017, eq. 14)."""
    total = torch.zeros(())
    for module in model.modules():
        if isinstance(module, VariationalConv2d | VariationalLinear):
            clip = LOG_ALPHA_CLIP["conv" if isinstance(module, VariationalConv2d) else "fc"]
            alphas = [log_alpha(module.weight, module.log_sigma2, clip)]
            if isinstance(module, VariationalConv2d) and module.bias is not None:
                alphas.append(log_alpha(module.bias, module.log_sigma2_bias, clip))
            for alpha in alphas:
                gain = 0.63576 * torch.sigmoid(1.8732 + 1.48695 * alpha)
                total = total - torch.sum(gain - 0.5 * torch.log1p(torch.exp(-alpha)) - 0.63576)
    return total


class Sine(nn.Module):
    """sin(omega x)."""

    def __init__(self, omega: float):
        super().__init__()
        self.omega = omega

    def forward(self, x: Tensor) -> Tensor:
        """Values of the same shape."""
        return torch.sin(self.omega * x)


class SineLinear(nn.Linear):
    """sin(omega (W x + b)), with the parameters of the linear layer."""

    def __init__(self, inputs: int, features: int, omega: float):
        super().__init__(inputs, features)
        self.omega = omega

    def forward(self, input: Tensor) -> Tensor:
        """Values [batch, features]."""
        return torch.sin(self.omega * super().forward(input))


class SkipBlock(nn.Module):
    """Adds the first channels of the output of an earlier block.

    Args:
        block: Number of the block, from 1.
    """

    def __init__(self, block: int):
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, blocks: list[Tensor]) -> Tensor:
        """Values of the same shape; `blocks` are the inputs of the layers with weights so far."""
        earlier = blocks[self.block]
        shared = min(x.shape[1], earlier.shape[1])
        return torch.cat([x[:, :shared] + earlier[:, :shared], x[:, shared:]], 1)


class TorchChain(nn.Module):
    """A chain; its layers have the names that the checkpoints use, such as "module_list.0".

    Args:
        chain: The network.
        activation: A key of ACTIVATIONS, for activations without a name of their own.
        dropout: The dropout rate; above 0, dropout layers are numbered (in some networks
            always, see `torch_steps`).
        variational: Whether layers are variational.

    Raises:
        ZoojaxError: If a layer has no counterpart in torch.
    """

    def __init__(
        self, chain: Chain, activation: str, dropout: float = 0.0, variational: bool = False
    ):
        super().__init__()
        steps = torch_steps(known_network(chain), dropout > 0)
        self.flattens_images = len(steps[0].inputs) == 1
        self.has_own_images = chain.task.has_own_images
        # The names of `default_prefixes`.
        if self.has_own_images:
            self.seq = nn.ModuleList(_sine_modules(steps, activation, variational))
        else:
            self.module_list = nn.ModuleList(
                _module(step, activation, dropout, variational) for step in steps
            )

    def forward(self, x: Tensor) -> Tensor:
        """Logits [batch, classes] of images [batch, channels, height, width]."""
        x = x.flatten(1) if self.flattens_images else x
        blocks: list[Tensor] = []
        for layer in self.seq if self.has_own_images else self.module_list:
            if next(layer.parameters(), None) is not None:
                blocks.append(x)
            x = layer(x, blocks) if isinstance(layer, SkipBlock) else layer(x)
        return x


def _sine_modules(steps: list[Step], activation: str, variational: bool) -> list[nn.Module]:
    """Creates one module per layer with weights, which includes the sine after it."""
    modules: list[nn.Module] = []
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        after = None if following is None else following.layer
        if not isinstance(step.layer, data.Dense):
            continue
        if not isinstance(after, data.Activation):
            modules.append(_module(step, activation, 0.0, variational))
        elif variational:
            layer = _module(step, activation, 0.0, variational)
            modules.append(nn.Sequential(layer, Sine(after.omega)))
        else:
            modules.append(SineLinear(step.inputs[0], step.layer.features, after.omega))
    return modules


def _module(step: Step, activation: str, dropout: float, variational: bool) -> nn.Module:
    """Creates the torch module of a layer."""
    conv = VariationalConv2d if variational else nn.Conv2d
    linear = VariationalLinear if variational else nn.Linear
    match step.layer:
        case data.Conv(features, kernel, stride):
            padding = _padding(step)
            return conv(step.inputs[-1], features, kernel, stride=stride, padding=padding)
        case data.Dense(features):
            return linear(step.inputs[0], features)
        case data.Pool(window) as layer:
            pool: Callable[..., nn.Module] = (
                nn.MaxPool2d if isinstance(layer, data.MaxPool) else nn.AvgPool2d
            )
            return pool(window, layer.step, _padding(step))
        case data.GlobalAvgPool():
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case data.Flatten():
            return nn.Flatten()
        case data.Skip(block):
            return SkipBlock(block)
        case data.Dropout():
            return nn.Dropout(dropout)
        case data.Activation("sine", omega):
            return Sine(omega)
        case data.Activation(name):
            return ACTIVATIONS[name or activation]()
    raise ZoojaxError(f"no torch module is known for {step.layer}")


def _padding(step: Step) -> int:
    """Returns the padding at each border.

    Raises:
        ZoojaxError: If it differs between borders, which torch's modules do not support.
    """
    assert isinstance(step.layer, data.Conv | data.Pool)
    before, after = step.layer.borders(step.inputs[0])
    if before != after:
        raise ZoojaxError(
            f"{step.layer} pads images by {before} before and {after} after; torch pads both sides "
            "equally"
        )
    return before
