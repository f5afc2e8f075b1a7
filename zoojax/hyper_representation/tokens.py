"""Conversion between the parameters of one member and token sequences.

All functions handle a single member; use `jax.vmap` for batches.

Neuron tokens: one token per output unit, its weights followed by its bias, layer by layer (48
tokens for the small CNN). The last axis of every parameter of a layer holds its units.
Chunk tokens: the same values in the same order, cut into pieces of equal length (the last one
zero-padded), for any architecture.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.architectures.base import Architecture
from zoojax.errors import ZoojaxError

TokenKind = Literal["neuron", "chunk"]

# {group: [count, width]}. The tokens of a group have the same width and share an embedding.
Tokens = dict[str, Array]


@dataclass(frozen=True)
class Group:
    """A group of tokens with the same width.

    Attributes:
        name: Name of the layer (neuron tokens) or "chunk".
        count: Number of tokens.
        width: Values per token.
    """

    name: str
    count: int
    width: int


@dataclass(frozen=True)
class Tokenizer:
    """Converts the parameters of an architecture to tokens and back.

    Attributes:
        arch: The architecture.
        kind: Kind of token, "neuron" or "chunk".
        length: Values per chunk token.
    """

    arch: Architecture
    kind: TokenKind = "neuron"
    length: int = 64

    def __post_init__(self):
        if self.kind not in ("neuron", "chunk"):
            raise ZoojaxError(f"unknown kind of tokens '{self.kind}'; choose from: neuron, chunk")
        if self.length < 1:
            raise ZoojaxError(f"chunk length is {self.length}; give at least 1")

    @cached_property
    def layers(self) -> tuple[Group, ...]:
        """Neuron tokens by layer."""
        return tuple(
            Group(layer, _units(leaves), sum(_width(shape) for shape in leaves.values()))
            for layer, leaves in self.arch.parameter_shapes().items()
        )

    @property
    def groups(self) -> tuple[Group, ...]:
        """The token groups, in sequence order."""
        if self.kind == "neuron":
            return self.layers
        return (Group("chunk", -(-self.num_parameters // self.length), self.length),)

    @property
    def num_parameters(self) -> int:
        """Number of parameters of a member, including biases."""
        return sum(group.count * group.width for group in self.layers)

    @property
    def count(self) -> int:
        """Number of tokens of a member."""
        return sum(group.count for group in self.groups)

    def tokenize(self, tree: dict) -> Tokens:
        """Converts a parameter-shaped tree to tokens."""
        neurons = {}
        for layer, leaves in self.arch.parameter_shapes().items():
            columns = [jnp.reshape(tree[layer][name], (-1, _units(leaves))).T for name in leaves]
            neurons[layer] = jnp.concatenate(columns, axis=1)
        if self.kind == "neuron":
            return neurons
        (group,) = self.groups
        flat = jnp.concatenate([x.ravel() for x in neurons.values()])
        padded = jnp.pad(flat, (0, group.count * group.width - flat.shape[0]))
        return {group.name: padded.reshape(group.count, group.width)}

    def detokenize(self, tokens: Tokens) -> dict:
        """Inverts `tokenize` exactly."""
        neurons = tokens
        if self.kind == "chunk":
            flat = tokens["chunk"].ravel()[: self.num_parameters]
            ends = np.cumsum([group.count * group.width for group in self.layers])[:-1]
            neurons = {
                group.name: piece.reshape(group.count, group.width)
                for group, piece in zip(self.layers, jnp.split(flat, ends), strict=True)
            }
        params = {}
        for layer, leaves in self.arch.parameter_shapes().items():
            ends = np.cumsum([_width(shape) for shape in leaves.values()])[:-1]
            columns = jnp.split(neurons[layer], ends, axis=1)
            params[layer] = {
                name: jnp.reshape(x.T, shape)
                for x, (name, shape) in zip(columns, leaves.items(), strict=True)
            }
        return params

    def mask(self, present: dict) -> Tokens:
        """Returns a mask over token values: 1 if present, 0 for padding and missing leaves.

        Args:
            present: A tree with a subset of the parameter leaves, for example log alphas.
                Only the names of its leaves are used.
        """
        ones = {
            layer: {
                name: np.full(shape, float(name in present.get(layer, {})), np.float32)
                for name, shape in leaves.items()
            }
            for layer, leaves in self.arch.parameter_shapes().items()
        }
        with jax.ensure_compile_time_eval():
            return self.tokenize(ones)


def fill_missing(tree: dict, arch: Architecture) -> dict:
    """Adds zeros for the parameter leaves that are missing from a tree, such as log alphas."""
    return {
        layer: {
            name: tree[layer][name] if name in tree.get(layer, {}) else jnp.zeros(shape)
            for name, shape in leaves.items()
        }
        for layer, leaves in arch.parameter_shapes().items()
    }


def _units(leaves: dict[str, tuple[int, ...]]) -> int:
    """Returns the number of units of a layer from the shapes of its parameters."""
    return next(iter(leaves.values()))[-1]


def _width(shape: tuple[int, ...]) -> int:
    """Returns the number of values of a parameter per unit."""
    return math.prod(shape[:-1])
