"""The variables of a network as one vector.

Without JAX, so that worker processes can read datasets of weights without importing it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from zoojax.architectures.permuted_axes import PermutationGroup
from zoojax.errors import ZoojaxError

PARAMS = "params"


class Leaf(NamedTuple):
    """An array of a network's variables, and its place in the vector.

    Attributes:
        collection: Name of its collection: "params", or another such as "batch_stats".
        path: Path in the collection, such as "conv1/kernel".
        shape: Shape of the array of one member.
        start: Position of its first value in the vector.
        dtype: Its type, of four bytes. Vectors are float32; other types keep their bits.
    """

    collection: str
    path: str
    shape: tuple[int, ...]
    start: int
    dtype: str = "float32"

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def layer(self) -> str:
        """Path of the layer, such as "conv1"."""
        return self.path.rpartition("/")[0]


class ArrayType(Protocol):
    """Shape and type of an array."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...


@dataclass(frozen=True)
class VectorLayout:
    """Where the variables of a network are in its vector.

    The arrays follow each other in the order of `leaves`, each in row-major order. Parameters come
    first; the other collections, such as running statistics, follow.

    Attributes:
        leaves: All arrays.
        groups: Axes that are permuted together.
    """

    leaves: tuple[Leaf, ...]
    groups: tuple[PermutationGroup, ...] = ()

    @staticmethod
    def of_arrays(
        collections: Mapping[str, Mapping[str, Mapping[str, ArrayType]]],
        groups: tuple[PermutationGroup, ...] = (),
    ) -> "VectorLayout":
        """Creates the layout of arrays.

        Args:
            collections: {"params": {layer path: {name: array}}} and further collections.
            groups: Axes that are permuted together.
        """
        leaves: list[Leaf] = []
        start = 0
        for collection, layers in collections.items():
            for layer, arrays in layers.items():
                for name, array in arrays.items():
                    path, dtype = f"{layer}/{name}", np.dtype(array.dtype).name
                    leaf = Leaf(collection, path, tuple(array.shape), start, dtype)
                    leaves.append(leaf)
                    start += leaf.size
        return VectorLayout(tuple(leaves), groups)

    @cached_property
    def params(self) -> tuple[Leaf, ...]:
        """The arrays of the parameters."""
        return tuple(leaf for leaf in self.leaves if leaf.collection == PARAMS)

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(leaf.size for leaf in self.params)

    @property
    def size(self) -> int:
        """Number of values, with those of other collections."""
        return sum(leaf.size for leaf in self.leaves)

    def layers(self) -> dict[str, list[Leaf]]:
        """Returns the arrays of the parameters by layer."""
        layers: dict[str, list[Leaf]] = {}
        for leaf in self.params:
            layers.setdefault(leaf.layer, []).append(leaf)
        return layers

    def index(self, leaf: Leaf) -> np.ndarray:
        """Returns the position in the vector of each value of an array, in its shape."""
        return np.arange(leaf.start, leaf.start + leaf.size).reshape(leaf.shape)

    def flatten(self, variables: Mapping[str, Any]) -> np.ndarray:
        """Joins stacked variables.

        Args:
            variables: {"params": ...}, and all or none of the other collections, [members, ...].

        Returns:
            [members, size], or [members, parameters] of the parameters alone.
        """
        leaves = self.params if set(variables) == {PARAMS} else self.leaves
        arrays = (np.ascontiguousarray(_at(variables, leaf)) for leaf in leaves)
        return np.concatenate([x.reshape(len(x), -1).view(np.float32) for x in arrays], axis=1)

    def unflatten(self, vectors: np.ndarray) -> dict[str, Any]:
        """Inverts `flatten` without copies.

        Args:
            vectors: [..., size], or [..., parameters] for the parameters alone.

        Returns:
            Variables with the leading axes of the vectors.

        Raises:
            ZoojaxError: If the vectors have another length.
        """
        length = vectors.shape[-1] if vectors.ndim else 0
        if length not in (self.size, self.parameters):
            raise ZoojaxError(f"vectors of {length} values; the network has {self.parameters}")
        leaves = self.leaves if length == self.size else self.params
        tree: dict[str, Any] = {}
        for leaf in leaves:
            values = vectors[..., leaf.start : leaf.start + leaf.size]
            *parents, name = leaf.collection, *leaf.path.split("/")
            inner = tree
            for part in parents:
                inner = inner.setdefault(part, {})
            inner[name] = values.view(leaf.dtype).reshape((*vectors.shape[:-1], *leaf.shape))
        return tree


def inverse_order(order: np.ndarray) -> np.ndarray:
    """Returns the order that undoes another one."""
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return inverse


def _at(variables: Mapping[str, Any], leaf: Leaf) -> Any:
    x: Any = variables[leaf.collection]
    for part in leaf.path.split("/"):
        x = x[part]
    return x
