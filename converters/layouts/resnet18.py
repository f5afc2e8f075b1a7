"""Torch's layout of ResNet-18: torchvision's names, or those of WeightCLIP's ResNet18Slim."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from zoojax.architectures import resnet18
from zoojax.architectures.base import Architecture
from zoojax.architectures.linen import LinenArchitecture
from zoojax.architectures.registry import architecture
from zoojax.converters.layouts.base import Layer, NetworkLayout
from zoojax.converters.layouts.normalizations import BATCH_NORM
from zoojax.converters.layouts.torch_networks import TorchResNet18

# Names of the downsamplings: torchvision's, and those of ResNet18Slim.
_DOWNSAMPLINGS = ("downsample", "shortcut")
_MAX_CLASSES = 10_000


class ResNet18Layout(NetworkLayout):
    """Convolutions without biases, batch normalizations with their statistics, one linear layer."""

    model_type: ClassVar = "Resnet18"

    def takes(self, architecture: Architecture) -> bool:
        """ResNet-18 of any width."""
        return isinstance(architecture, LinenArchitecture) and isinstance(
            architecture.network, resnet18.ResNet18
        )

    def infer(
        self, weights: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]
    ) -> tuple[Architecture, tuple[str, ...]] | None:
        """Files do not have the side of the images: it is assumed to be 32, as for CIFAR."""
        kernels = {name for name, shape in weights.items() if len(shape) > 1}
        for name in _DOWNSAMPLINGS:
            prefixes = _prefixes(name)
            if kernels != set(prefixes):
                continue
            (width, channels, *_), (classes, *_) = weights["conv1"], weights["fc"]
            if channels not in (1, 3) or not 0 < classes <= _MAX_CLASSES:
                return None
            network = _network(width, channels, classes)
            if network is None or any(
                weights[each.prefix] != each.shape
                for each in self.layers(network, prefixes)
                if each.tensors is None
            ):
                return None
            return network, prefixes
        return None

    def default_prefixes(self, architecture: Architecture, dropout: bool) -> tuple[str, ...]:
        """Torchvision's names."""
        return _prefixes(_DOWNSAMPLINGS[0])

    def layers(self, architecture: Architecture, prefixes: Sequence[str]) -> tuple[Layer, ...]:
        """Convolutions, each followed by its normalization, in torchvision's order; then `fc`."""
        shapes, layers = architecture.parameter_shapes(), []
        for name, prefix in zip(resnet18.layer_names(), prefixes, strict=True):
            kernel = shapes[name]["kernel"]
            layer = Layer(name, prefix, (*kernel[:-3:-1], *kernel[:-2]), "bias" in shapes[name])
            layers.append(layer)
            if layer.is_conv:
                norm, features = resnet18.norm_of(name), layer.shape[:1]
                layers.append(Layer(norm, _norm_prefix(prefix), features, tensors=BATCH_NORM))
        return tuple(layers)

    def torch_module(self, architecture: Architecture, activation: str) -> TorchResNet18:
        """Torchvision's network with the zoos' stem."""
        assert isinstance(architecture, LinenArchitecture)
        network = architecture.network
        assert isinstance(network, resnet18.ResNet18)
        return TorchResNet18(architecture.channels, network.classes, network.width, activation)


def _network(width: int, channels: int, classes: int) -> Architecture | None:
    if not resnet18.is_valid((width,)):
        return None
    is_published = width == resnet18.WIDTH
    name = resnet18.NAME if is_published else resnet18.FAMILY.name_of((width,))
    return architecture(name, channels, classes)


def _prefixes(downsampling: str) -> tuple[str, ...]:
    names = resnet18.layer_names()
    return tuple(name.replace(_DOWNSAMPLINGS[0], downsampling) for name in names)


def _norm_prefix(conv: str) -> str:
    if conv.endswith(".0"):
        return conv.removesuffix("0") + "1"
    return conv.replace("conv", "bn")
