"""Factors of the hidden units of a chain that do not change its function.

The layers of a group are a layer with weights, an activation, and linear layers such as pooling
around it. Batch normalization before the activation takes the factors instead of the weights.
"""

from typing import TYPE_CHECKING

from zoojax.architectures.chain_layers import Activation, Normalization
from zoojax.architectures.rescalings import KINDS, Kind, Rescaling

if TYPE_CHECKING:
    from zoojax.architectures.chain import Chain, Step


def rescalings(chain: "Chain", activation: str) -> tuple[Rescaling, ...]:
    """Returns the factors of the hidden units of a chain; see `Architecture.rescalings`.

    Args:
        chain: The chain.
        activation: Activation of the member.
    """
    found = []
    for index, span in enumerate(chain.hidden_spans()):
        first, *others = (chain.steps[position] for position in span)
        kind = _kind(others, activation)
        if kind is not None:
            normalized = [s for s in others if isinstance(s.layer, Normalization)]
            writer = normalized[0] if normalized else first
            leaves = {f"{writer.name}/{leaf}" for leaf in writer.parameters}
            group = chain.permutations[index]
            written = tuple(axis for axis in group if axis.path in leaves and axis.axis == -1)
            read = tuple(axis for axis in group if axis.axis == -2)
            found.append(Rescaling(index, kind, written, read))
    return tuple(found)


def _kind(steps: "list[Step]", activation: str) -> Kind | None:
    """Returns the factors that the layers between two layers with weights allow; None if none."""
    layers = [step.layer for step in steps]
    activations = [layer for layer in layers if isinstance(layer, Activation)]
    if len(activations) != 1:
        return None
    kind = KINDS.get(activations[0].name or activation)
    before = layers.index(activations[0])
    for position, layer in enumerate(layers):
        normalized = any(isinstance(each, Normalization) for each in layers[:position])
        # A normalization takes the factors, so layers before it have none.
        has_factors = not any(isinstance(each, Normalization) for each in layers[position:before])
        if isinstance(layer, Normalization):
            if layer.kind != "batch" or normalized or position > before:
                return None
        elif layer is not activations[0] and has_factors and kind not in layer.commutes_with:
            return None
    return kind
