"""Networks that a config stored with the weights describes: those of CNN Wild Park.

Shapes do not determine their skips and activations. A network is n_layers convolutions, each
followed by a skip and an activation; global average pooling; and a linear layer. See
experiments/cnn_generalization in https://github.com/mkofinas/neural-graphs.
"""

from collections.abc import Mapping
from typing import Any

from zoojax.architectures.chain import Chain
from zoojax.architectures.chain_layers import (
    Activation,
    Conv,
    Dense,
    GlobalAvgPool,
    Layer,
    Skip,
)
from zoojax.architectures.chain_names import with_name
from zoojax.architectures.layers import LAYER_ACTIVATIONS
from zoojax.converters.config_names import spelled
from zoojax.converters.inert import UnsafePickleError
from zoojax.errors import ZoojaxError

_SIDE = 32  # The images are those of CIFAR-10.
_NEEDED = ("n_classes", "channels", "kernel_size", "activation")
_MAX_LAYERS = 100


def described_network(stored: Mapping[str, Any]) -> Chain | None:
    """Creates the network that a stored config describes.

    Args:
        stored: Values that a file stores with the weights.

    Returns:
        The network; None if there is no such config.

    Raises:
        UnsafePickleError: If the config is damaged, or zoojax does not have the network.
    """
    config = stored.get("config")
    if not isinstance(config, dict) or not all(name in config for name in _NEEDED):
        return None
    try:
        chain = with_name(_chain(config))
    except (ZoojaxError, TypeError, ValueError, IndexError) as error:
        raise UnsafePickleError(f"its config describes no known network: {error}") from error
    if chain is None:
        raise UnsafePickleError(f"its config describes {config['n_layers']} layers, too many")
    return chain


def _chain(config: Mapping[str, Any]) -> Chain:
    channels = config["channels"]
    count = len(channels) - 1
    if not 1 <= count <= _MAX_LAYERS:
        raise ValueError(f"it has {count} layers")

    def of_layers(name: str, default: Any) -> list[Any]:
        value = config.get(name, default)
        values = value if isinstance(value, list) else [value] * count
        if len(values) != count:
            raise ValueError(f"{name} has {len(values)} values for {count} layers")
        return values

    kernels = of_layers("kernel_size", None)
    paddings = of_layers("padding", [kernel // 2 for kernel in kernels])
    layers: list[Layer] = []
    for features, kernel, stride, padding, source, activation in zip(
        channels[1:],
        kernels,
        of_layers("stride", 1),
        paddings,
        of_layers("residual", -1),
        of_layers("activation", None),
        strict=True,
    ):
        layers.append(Conv(features, kernel, stride, padding))
        layers += [Skip(source + 1)] if source > -1 else []
        name = spelled(str(activation), tuple(LAYER_ACTIVATIONS))
        if name is None:
            raise ValueError(f"activation {str(activation)[:40]} is unknown")
        layers.append(Activation(name))
    classes = config["n_classes"]
    layers += [GlobalAvgPool(), Dense(classes)]
    return Chain("described", _SIDE, channels[0], classes, tuple(layers))
