"""Parameters as token sequences and back, for ONE member: `jax.vmap` makes batches.

Neuron tokens: one for every output unit, its kernel and its bias, layer by layer (48 for
the small CNN). Chunk tokens: the same numbers in the same order, cut into pieces of one
length, the last one padded, whatever the architecture.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.architectures import cnn
from zoojax.architectures.base import Architecture
from zoojax.errors import ZoojaxError

TokenKind = Literal["neuron", "chunk"]

# {group: [count, width]}: tokens of a group share their width and their embedding.
Tokens = dict[str, Array]


@dataclass(frozen=True)
class Group:
    """Tokens of one width.

    Attributes:
        name: the layer (neuron tokens) or "chunk".
        count: tokens.
        width: numbers in each.
    """

    name: str
    count: int
    width: int


def shapes(arch: Architecture) -> dict[str, dict[str, tuple[int, ...]]]:
    """Shapes of a member's parameters: {"conv1": {"kernel": (5, 5, 1, 8), ...}, ...}."""
    tree = jax.eval_shape(lambda: cnn.init_params(arch, "uniform", 0))
    return {
        layer: {name: tuple(tree[layer][name].shape) for name in ("kernel", "bias")}
        for layer in arch.layers
    }


@dataclass(frozen=True)
class Tokenizer:
    """How the parameters of an architecture become tokens.

    Attributes:
        arch: the architecture.
        kind: "neuron" or "chunk".
        length: numbers in a chunk token.
    """

    arch: Architecture
    kind: TokenKind = "neuron"
    length: int = 64

    def __post_init__(self):
        if self.kind not in ("neuron", "chunk"):
            raise ZoojaxError(f"no tokens named '{self.kind}'; there are: neuron, chunk")
        if self.length < 1:
            raise ZoojaxError(f"chunk tokens of {self.length} numbers; give at least 1")

    @cached_property
    def layers(self) -> tuple[Group, ...]:
        """Neuron tokens by layer."""
        return tuple(
            Group(layer, leaves["kernel"][-1], int(np.prod(leaves["kernel"][:-1])) + 1)
            for layer, leaves in shapes(self.arch).items()
        )

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups of tokens, in the order of the sequence."""
        if self.kind == "neuron":
            return self.layers
        return (Group("chunk", -(-self.parameters // self.length), self.length),)

    @property
    def parameters(self) -> int:
        """Parameters of a member, biases included."""
        return sum(group.count * group.width for group in self.layers)

    @property
    def count(self) -> int:
        """Tokens of a member."""
        return sum(group.count for group in self.groups)

    def shares(self, numbers: int) -> dict[str, int]:
        """How many of some numbers each token of a group gets, by its width: {group: n}."""
        total = sum(group.count * group.width for group in self.groups)
        return {group.name: numbers * group.width // total for group in self.groups}

    def tokenize(self, tree: dict) -> Tokens:
        """A tree shaped like the parameters as tokens."""
        neurons = {}
        for layer in self.arch.layers:
            kernel, bias = tree[layer]["kernel"], tree[layer]["bias"]
            units = jnp.reshape(kernel, (-1, kernel.shape[-1])).T
            neurons[layer] = jnp.concatenate([units, bias[:, None]], axis=1)
        if self.kind == "neuron":
            return neurons
        (group,) = self.groups
        flat = jnp.concatenate([neurons[layer].ravel() for layer in self.arch.layers])
        padded = jnp.pad(flat, (0, group.count * group.width - flat.shape[0]))
        return {group.name: padded.reshape(group.count, group.width)}

    def detokenize(self, tokens: Tokens) -> dict:
        """The inverse of `split`, exact."""
        neurons = tokens
        if self.kind == "chunk":
            flat = tokens["chunk"].ravel()[: self.parameters]
            ends = np.cumsum([group.count * group.width for group in self.layers])[:-1]
            neurons = {
                group.name: piece.reshape(group.count, group.width)
                for group, piece in zip(self.layers, jnp.split(flat, ends), strict=True)
            }
        return {
            layer: {
                "kernel": jnp.reshape(neurons[layer][:, :-1].T, leaves["kernel"]),
                "bias": neurons[layer][:, -1],
            }
            for layer, leaves in shapes(self.arch).items()
        }

    def mask(self, present: dict) -> Tokens:
        """Which numbers of the tokens are there: 1, and 0 for padding and what is missing.

        Args:
            present: a tree with at most the parameters' leaves, such as log alphas are;
                only which leaves there are counts.
        """
        ones = {
            layer: {
                name: np.full(shape, float(name in present.get(layer, {})), np.float32)
                for name, shape in leaves.items()
            }
            for layer, leaves in shapes(self.arch).items()
        }
        with jax.ensure_compile_time_eval():
            return self.tokenize(ones)


def fill_missing(tree: dict, arch: Architecture) -> dict:
    """A tree with some of the parameters' leaves (log alphas), zeros for the others."""
    return {
        layer: {
            name: tree[layer][name] if name in tree.get(layer, {}) else jnp.zeros(shape)
            for name, shape in leaves.items()
        }
        for layer, leaves in shapes(arch).items()
    }
