"""The description of a chain for the C++ kernel."""

from typing import TYPE_CHECKING

from zoojax.architectures import chain_layers as data
from zoojax.ops.kernel import spec

if TYPE_CHECKING:
    from zoojax.architectures.chain import Chain, Step


def kernel_spec(chain: "Chain") -> spec.KernelSpec | None:
    """Returns the operations of a chain for the kernel.

    Args:
        chain: The network.

    Returns:
        The operations; None if the kernel cannot compute one of the layers.
    """
    operations = [_operation(step) for step in chain.steps]
    known = tuple(operation for operation in operations if operation is not None)
    if len(known) < len(operations):
        return None
    return spec.KernelSpec(chain.image_shape, known)


def unknown_layers(chain: "Chain") -> tuple[str, ...]:
    """Lists the layers of a chain that the kernel cannot compute, each once.

    Args:
        chain: The network.

    Returns:
        The layers as text, such as "Normalization(kind='batch', groups=1)".
    """
    missing = (step.layer for step in chain.steps if _operation(step) is None)
    return tuple(dict.fromkeys(str(layer) for layer in missing))


def _operation(step: "Step") -> spec.Operation | None:
    layer = step.layer
    match layer:
        case data.Conv(features, kernel, stride):
            borders = layer.borders(step.inputs[0])
            assert step.slot is not None
            return spec.Conv(
                *(step.name, features, (kernel, kernel), (stride, stride), (borders, borders)),
                slot=step.slot,
            )
        case data.Dense(features):
            assert step.slot is not None
            return spec.Dense(step.name, features, step.slot)
        case data.MaxPool() | data.AvgPool():
            kind = "max" if isinstance(layer, data.MaxPool) else "average"
            borders = layer.borders(step.inputs[0])
            sides = (layer.window, layer.window), (layer.step, layer.step)
            return spec.Pool(kind, *sides, (borders, borders))
        case data.GlobalAvgPool():
            return spec.GlobalAveragePool()
        case data.Flatten():
            return spec.Flatten()
        case data.Activation(None):
            return spec.Activation()
        case data.Activation(str(name), omega):
            parameter = omega if name == "sine" else spec.DEFAULT_PARAMETERS.get(name, 0.0)
            return spec.Activation(name, parameter)
        case data.Dropout():
            assert step.slot is not None
            return spec.Dropout(step.slot)
    return None
