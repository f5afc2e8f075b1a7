"""Networks as data: a chain of layers, from which everything else is derived.

    Chain("tiny", 28, 1, 10, (Conv(4, 5), MaxPool(2), Activation(), Flatten(), Dense(10)))

Parameters, the Linen module, permutation groups, noise slots, the C++ kernel and the torch module
(`zoojax.converters.layouts`) are derived from the description; nothing else knows the network.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from zoojax.architectures import chain_kernel, chain_rescalings
from zoojax.architectures.base import Architecture
from zoojax.architectures.chain_layers import (
    Conv,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MisfitError,
    Parameters,
    Shape,
    Skip,
)
from zoojax.architectures.chain_module import ChainModule
from zoojax.architectures.layers import PLAIN, Layers
from zoojax.architectures.permuted_axes import PermutationGroup, PermutedAxis
from zoojax.architectures.rescalings import Rescaling
from zoojax.errors import ZoojaxError

if TYPE_CHECKING:
    from zoojax.ops.kernel.spec import KernelSpec

MAX_LAYERS = 1000
# 200 MB per member.
MAX_PARAMETERS = 50_000_000


class Step(NamedTuple):
    """A layer in its place in a chain.

    Attributes:
        layer: The layer.
        name: Name of its parameters, such as "conv1"; empty if it has none.
        inputs: Shape of its input: (height, width, channels) or (values,).
        outputs: Shape of its output.
        slot: Noise slot of a layer with weights or of a dropout; None for the others.
    """

    layer: Layer
    name: str
    inputs: Shape
    outputs: Shape
    slot: int | None

    @property
    def parameters(self) -> Parameters:
        """Shapes of its parameters by name."""
        return self.layer.parameters(self.inputs)


@dataclass(frozen=True)
class Chain(Architecture):
    """A network that is a sequence of layers.

    Layers with parameters are named by kind and number: conv1, conv2, ..., fc1, ..., norm1, ...

    Attributes:
        sequence: The layers, from the images to the logits.

    Raises:
        ZoojaxError: If a layer does not take the output of the one before it, the last layer
            does not return the logits, or the network is too large. The message names the layer
            and the shapes.

    Example:
        >>> layers = Flatten(), Dense(32), Activation("relu"), Dense(10)
        >>> Chain("tiny", 28, channels=1, classes=10, sequence=layers).layers
        ('fc1', 'fc2')
    """

    sequence: tuple[Layer, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= len(self.sequence) <= MAX_LAYERS:
            raise ZoojaxError(
                f"{self.label} has {len(self.sequence)} layers; give 1 to {MAX_LAYERS}"
            )
        end, parameters = self.steps[-1].outputs, self.parameter_shapes().values()
        if end != (self.classes,):
            raise ZoojaxError(
                f"the last layer of {self.label}, {self.sequence[-1]}, returns {_format(end)}, not "
                f"{self.classes} logits"
            )
        count = sum(math.prod(shape) for leaves in parameters for shape in leaves.values())
        if count > MAX_PARAMETERS:
            raise ZoojaxError(
                f"{self.label} has {count:,} parameters; at most {MAX_PARAMETERS:,} are supported"
            )

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The layers with their names and shapes, in order."""
        steps: list[Step] = []
        shape: Shape = self.image_shape
        numbers: dict[str, int] = {}
        weights = sum(layer.has_weights for layer in self.sequence)
        layer_slot, dropout_slot = 0, weights
        for position, layer in enumerate(self.sequence, start=1):
            name, slot = "", None
            try:
                if isinstance(layer, Skip):
                    blocks = [step.inputs for step in steps if step.layer.has_weights]
                    layer.check_blocks(shape, blocks[1:])
                outputs = layer.output(shape)
            except MisfitError as error:
                raise ZoojaxError(
                    f"layer {position} of {self.label}, {layer}, does not fit its input of "
                    f"{_format(shape)}: {error}"
                ) from error
            if layer.prefix:
                numbers[layer.prefix] = numbers.get(layer.prefix, 0) + 1
                name = f"{layer.prefix}{numbers[layer.prefix]}"
            if layer.has_weights:
                slot, layer_slot = layer_slot, layer_slot + 1
            elif isinstance(layer, Dropout):
                # The slot of the layer before it, after the slots of all layers.
                slot = max(dropout_slot, weights + layer_slot - 1)
                dropout_slot = slot + 1
            steps.append(Step(layer, name, shape, outputs, slot))
            shape = outputs
        return tuple(steps)

    @property
    def label(self) -> str:
        """Name in texts, such as "small CNN"."""
        has_convs = any(isinstance(layer, Conv) for layer in self.sequence)
        return f"{self.name} CNN" if has_convs else super().label

    def module(self, activation: str, init: str, layers: Layers = PLAIN) -> ChainModule:
        """Creates the Flax module of one member."""
        return ChainModule(self, activation, init, layers)

    @property
    def kernel(self) -> "KernelSpec | None":
        """Operations for the CPU kernel; None if it cannot compute one of the layers."""
        return chain_kernel.kernel_spec(self)

    @property
    def kernel_gap(self) -> str:
        """The layers that the CPU kernel does not support; empty if it supports all."""
        layers = chain_kernel.unknown_layers(self)
        return f"it does not support {', '.join(layers)}" if layers else ""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers with weights in order, such as conv1, conv2, fc1."""
        return tuple(step.name for step in self.steps if step.layer.has_weights)

    @property
    def noise_slots(self) -> int:
        """Noise slots per training step, a power of two."""
        used = max((step.slot for step in self.steps if step.slot is not None), default=0)
        return max(super().noise_slots, 1 << used.bit_length())

    @property
    def permutations(self) -> tuple[PermutationGroup, ...]:
        """Axes of the parameters that are permuted together, one group per hidden layer."""
        groups, mixed = enumerate(self.unit_groups), self._mixed_blocks
        return tuple(group for index, group in groups if index not in mixed)

    @property
    def unit_groups(self) -> tuple[PermutationGroup, ...]:
        """Axes of the parameters that hold the same units, one group per hidden layer."""
        groups: list[list[PermutedAxis]] = []
        units = 0
        for step in self.steps:
            if step.layer.has_weights:
                if groups:
                    # Images are flattened with their channels last.
                    positions = step.parameters["kernel"][-2] // units
                    groups[-1].append(PermutedAxis(f"{step.name}/kernel", -2, positions))
                groups.append([])
                units = step.outputs[-1]
            if groups:
                positions = step.outputs[-1] // units
                leaves = (*step.parameters, *step.layer.statistics)
                groups[-1] += [
                    PermutedAxis(f"{step.name}/{leaf}", -1, positions) for leaf in leaves
                ]
        # The units of the last layer are the classes.
        return tuple(map(tuple, groups[:-1]))

    @property
    def _mixed_blocks(self) -> set[int]:
        """Positions of the layers with weights whose units cannot be permuted alone."""
        mixed, block = set[int](), -1
        for layer in self.sequence:
            block += layer.has_weights
            if isinstance(layer, Skip):
                mixed |= {layer.block - 1, block}
            elif layer.mixes_units:
                mixed.add(block)
        return mixed

    def rescalings(self, activation: str) -> tuple[Rescaling, ...]:
        """Returns the factors of hidden units that do not change the function of a member."""
        return chain_rescalings.rescalings(self, activation)

    def narrowed(self, units: tuple[int, ...]) -> "Chain":
        """Returns the chain with fewer hidden units, under the same name."""
        sequence = list(self.sequence)
        for (first, *others), count in zip(self.hidden_spans(), units, strict=True):
            layer = sequence[first]
            assert isinstance(layer, Conv | Dense)
            across = [sequence[i] for i in others if sequence[i].computes_across_units]
            if across and count < layer.features:
                name = self.steps[first].name
                raise ZoojaxError(
                    f"{self.label} cannot have fewer units in {name}: {across[0]} computes with "
                    "all of them"
                )
            sequence[first] = replace(layer, features=count)
        return replace(self, sequence=tuple(sequence))

    def hidden_spans(self) -> list[list[int]]:
        """Returns the positions of the layers that compute the units of each permutation group.

        A span starts with a layer with weights and ends before the next one.
        """
        # The last layer with weights returns the logits.
        spans: list[list[int]] = [[]]
        for position, layer in enumerate(self.sequence):
            if layer.has_weights:
                spans.append([])
            spans[-1].append(position)
        mixed = self._mixed_blocks
        return [span for block, span in enumerate(spans[1:-1]) if block not in mixed]

    def parameter_shapes(self) -> dict[str, dict[str, Shape]]:
        """Returns the shapes of one member's parameters, without tracing the module."""
        return {step.name: step.parameters for step in self.steps if step.name}

    def flattened_shape(self, name: str) -> Shape | None:
        """Returns the shape of the image that a layer's inputs were flattened from.

        Args:
            name: Name of a layer with weights.

        Returns:
            (height, width, channels); None if the layer takes an image, or the inputs are the
            units of another layer.
        """
        image = None
        for step in self.steps:
            if step.name == name:
                return image
            if isinstance(step.layer, Flatten):
                image = step.inputs
            elif step.layer.has_weights:
                image = None
        return None


def _format(shape: Shape) -> str:
    """Formats a shape: "28x28x1", or "36 values"."""
    return f"{shape[0]} values" if len(shape) == 1 else "x".join(map(str, shape))
