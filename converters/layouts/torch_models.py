"""The zoos' CNNs as torch modules, with the parameter names of their checkpoints.

They verify conversions, and serve as the baseline of benchmarks.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoojax.architectures.cnn import CNNArchitecture
from zoojax.sparsifiers.variational_dropout import INIT_LOG_SIGMA2, LOG_ALPHA_CLIP

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
}


class VariationalConv2d(nn.Conv2d):
    """A convolution that samples its pre-activations, with a variational bias ("released")."""

    def __init__(self, inputs: int, features: int, kernel: int):
        super().__init__(inputs, features, kernel)
        self.log_sigma2 = nn.Parameter(torch.full_like(self.weight, INIT_LOG_SIGMA2))
        self.log_sigma2_bias = nn.Parameter(torch.full((features,), INIT_LOG_SIGMA2))

    def forward(self, input: Tensor) -> Tensor:
        """Samples [batch, features, height, width]."""
        assert self.bias is not None
        mean = functional.conv2d(input, self.weight, self.bias)
        variance = functional.conv2d(
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


class CNN(nn.Module):
    """A zoo's CNN; its layers have the indices in `module_list` that the checkpoints use.

    Args:
        architecture: The network.
        activation: A key of ACTIVATIONS.
        dropout: The dropout rate; above 0, dropout layers take part in the numbering.
        variational: Whether layers are variational.
    """

    def __init__(
        self,
        architecture: CNNArchitecture,
        activation: str,
        dropout: float = 0.0,
        variational: bool = False,
    ):
        super().__init__()
        conv = VariationalConv2d if variational else nn.Conv2d
        linear = VariationalLinear if variational else nn.Linear
        layers: list[nn.Module] = []
        channels, side = architecture.channels, architecture.size
        for spec in architecture.convs:
            layers.append(conv(channels, spec.features, spec.kernel))
            layers += [nn.MaxPool2d(spec.pool)] if spec.pool > 1 else []
            layers.append(ACTIVATIONS[activation]())
            layers += [nn.Dropout(dropout)] if dropout > 0 and spec.dropout else []
            channels, side = spec.features, (side - spec.kernel + 1) // spec.pool
        layers.append(nn.Flatten())
        layers += [linear(channels * side * side, architecture.hidden), ACTIVATIONS[activation]()]
        layers += [nn.Dropout(dropout)] if dropout > 0 else []
        layers.append(linear(architecture.hidden, architecture.classes))
        self.module_list = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [batch, classes] of images [batch, channels, height, width]."""
        for layer in self.module_list:
            x = layer(x)
        return x
