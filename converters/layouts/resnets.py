"""Torch's layouts of residual networks: names of torchvision, or of WeightCLIP's ResNet18Slim."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from zoojax.architectures import resnet
from zoojax.architectures.base import Architecture
from zoojax.architectures.family import Family
from zoojax.architectures.linen import LinenArchitecture
from zoojax.architectures.registry import architecture
from zoojax.converters.layouts.base import Layer, NetworkLayout
from zoojax.converters.layouts.normalizations import BATCH_NORM
from zoojax.converters.layouts.torch_networks import TorchResNet

# Names of the downsamplings: torchvision's, and those of ResNet18Slim.
_DOWNSAMPLINGS = ("downsample", "shortcut")
_MAX_CLASSES = 10_000


class ResNetLayout(NetworkLayout):
    """Convolutions without biases, batch normalizations with their statistics, one linear layer.

    Attributes:
        family: The networks of this layout.
        design: Their blocks.
    """

    family: ClassVar[Family]
    design: ClassVar[resnet.Design]

    def takes(self, architecture: Architecture) -> bool:
        """Networks of these blocks, of any width."""
        return (
            isinstance(architecture, LinenArchitecture)
            and isinstance(architecture.network, resnet.ResNet)
            and architecture.network.design == self.design
        )

    def infer(
        self, weights: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]
    ) -> tuple[Architecture, tuple[str, ...]] | None:
        """Files do not have the side of the images: it is assumed to be 32, as for CIFAR."""
        kernels = {name for name, shape in weights.items() if len(shape) > 1}
        for name in _DOWNSAMPLINGS:
            prefixes = self._prefixes(name)
            if kernels != set(prefixes):
                continue
            (width, channels, *_), (classes, *_) = weights["conv1"], weights["fc"]
            if channels not in (1, 3) or not 0 < classes <= _MAX_CLASSES:
                return None
            network = self._network(width, channels, classes)
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
        return self._prefixes(_DOWNSAMPLINGS[0])

    def layers(self, architecture: Architecture, prefixes: Sequence[str]) -> tuple[Layer, ...]:
        """Convolutions, each followed by its normalization, in torchvision's order; then `fc`."""
        shapes, layers = architecture.parameter_shapes(), []
        for name, prefix in zip(self.design.layer_names(), prefixes, strict=True):
            kernel = shapes[name]["kernel"]
            layer = Layer(name, prefix, (*kernel[:-3:-1], *kernel[:-2]), "bias" in shapes[name])
            layers.append(layer)
            if layer.is_conv:
                norm, features = resnet.norm_of(name), layer.shape[:1]
                layers.append(Layer(norm, _norm_prefix(prefix), features, tensors=BATCH_NORM))
        return tuple(layers)

    def torch_module(self, architecture: Architecture, activation: str) -> TorchResNet:
        """Torchvision's network with the zoos' stem."""
        assert isinstance(architecture, LinenArchitecture)
        network = architecture.network
        assert isinstance(network, resnet.ResNet)
        sizes = (architecture.channels, network.classes, network.width)
        return TorchResNet(*sizes, network.design, activation)

    def _network(self, width: int, channels: int, classes: int) -> Architecture | None:
        if not self.family.is_valid((width,)):
            return None
        return architecture(self._name(width), channels, classes)

    def _name(self, width: int) -> str:
        return self.family.name_of((width,))

    def _prefixes(self, downsampling: str) -> tuple[str, ...]:
        names = self.design.layer_names()
        return tuple(name.replace(_DOWNSAMPLINGS[0], downsampling) for name in names)


class ResNet18Layout(ResNetLayout):
    """ResNet-18."""

    model_type: ClassVar = "Resnet18"
    family: ClassVar = resnet.RESNET_18
    design: ClassVar = resnet.DESIGN_18

    def _name(self, width: int) -> str:
        is_published = width == resnet.WIDTH
        return self.family.name if is_published else super()._name(width)


class ResNet50Layout(ResNetLayout):
    """ResNet-50."""

    model_type: ClassVar = "Resnet50_width"
    family: ClassVar = resnet.RESNET_50
    design: ClassVar = resnet.DESIGN_50


def _norm_prefix(conv: str) -> str:
    if conv.endswith(".0"):
        return conv.removesuffix("0") + "1"
    return conv.replace("conv", "bn")
