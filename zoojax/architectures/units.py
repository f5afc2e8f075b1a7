"""Hidden units of a network: the weights that belong to them, and networks without some of them.

Units are those of `Architecture.permutations`: one group per hidden layer, or per residual stream,
whose layers share their units. The path of a parameter is "layer/leaf".
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.architectures.base import Architecture
from zoojax.architectures.parameters import WEIGHT, flat_layers, nested_layers
from zoojax.architectures.permuted_axes import PermutationGroup, PermutedAxis
from zoojax.errors import ZoojaxError


def parameters_by_path(params: dict[str, Any]) -> dict[str, Any]:
    """Returns parameters as {"layer/leaf": array}, in the order of the tree."""
    layers = flat_layers(params).items()
    return {f"{layer}/{leaf}": array for layer, leaves in layers for leaf, array in leaves.items()}


def weights_into(group: PermutationGroup, paths: Mapping[str, Any]) -> list[PermutedAxis]:
    """Returns the axes of kernels that hold a group's units as outputs.

    Args:
        group: The group.
        paths: Parameters by path.
    """
    return [axis for axis in _kernels(group, paths) if axis.axis == -1]


def weights_out_of(group: PermutationGroup, paths: Mapping[str, Any]) -> list[PermutedAxis]:
    """Returns the axes of kernels that hold a group's units as inputs.

    Args:
        group: The group.
        paths: Parameters by path.
    """
    return [axis for axis in _kernels(group, paths) if axis.axis != -1]


def _kernels(group: PermutationGroup, paths: Mapping[str, Any]) -> Iterator[PermutedAxis]:
    return (a for a in group if a.path in paths and a.path.rpartition("/")[2] == WEIGHT)


def weights_by_unit(array: Array, axis: PermutedAxis, units: int) -> Array:
    """Returns the entries of a parameter by the unit that they belong to, [units, entries].

    Args:
        array: The parameter of one member.
        axis: The axis that holds the units.
        units: Number of units of the group.
    """
    moved = jnp.moveaxis(array, axis.axis, -1)
    split = moved.reshape(-1, axis.positions, units, axis.width)
    return jnp.moveaxis(split, 2, 0).reshape(units, -1)


def unit_masks(
    shapes: Mapping[str, tuple[int, ...]],
    kept: Sequence[Array],
    groups: Sequence[PermutationGroup],
) -> dict[str, Array]:
    """Computes which entries of the parameters remain if units are removed.

    Args:
        shapes: Shapes of one member's parameters by path.
        kept: For each group, which units are kept, [units] bool.
        groups: The groups.

    Returns:
        {path: bool array of the parameter's shape} for all parameters: False for entries that
        belong to a removed unit, as its output or as an input from it.
    """
    masks = {path: jnp.ones(shape, bool) for path, shape in shapes.items()}
    for group, units in zip(groups, kept, strict=True):
        for path, axis, positions, width in group:
            if path in masks:
                shape = [1] * masks[path].ndim
                shape[axis] = -1
                masks[path] &= jnp.repeat(jnp.tile(units, positions), width).reshape(shape)
    return masks


def unused_units(params: dict[str, Any], groups: Sequence[PermutationGroup]) -> list[np.ndarray]:
    """Finds the unused hidden units of one member: all weights out of them are zero.

    Units that only unused units read are unused, too. At least one unit of each group is kept.

    Args:
        params: Parameters that the member is evaluated with.
        groups: The permutation groups of its architecture.

    Returns:
        For each group, [units] bool: True for unused units.
    """
    paths = {path: np.asarray(x) for path, x in parameters_by_path(params).items()}
    sizes = [_size(group, paths) for group in groups]
    unused = [np.zeros(size, bool) for size in sizes]
    while True:
        shapes = {path: x.shape for path, x in paths.items()}
        kept = unit_masks(shapes, [jnp.asarray(~each) for each in unused], groups)
        used = {path: (x != 0) & np.asarray(kept[path]) for path, x in paths.items()}
        found = [
            _without_consumers(group, size, used) for group, size in zip(groups, sizes, strict=True)
        ]
        if all(np.array_equal(a, b) for a, b in zip(found, unused, strict=True)):
            return unused
        unused = found


def _size(group: PermutationGroup, paths: Mapping[str, np.ndarray]) -> int:
    axis = next(each for each in group if each.path in paths)
    return paths[axis.path].shape[axis.axis] // (axis.positions * axis.width)


def _without_consumers(
    group: PermutationGroup, units: int, used: Mapping[str, np.ndarray]
) -> np.ndarray:
    consumers = weights_out_of(group, used)
    if not consumers:
        return np.zeros(units, bool)
    by_unit = [np.asarray(weights_by_unit(jnp.asarray(used[c.path]), c, units)) for c in consumers]
    unused = np.logical_not(np.concatenate(by_unit, axis=1).any(axis=1))
    if np.all(unused):
        unused[0] = False
    return unused


class Shrunk(NamedTuple):
    """A network without some of its hidden units.

    Attributes:
        architecture: Its description, with smaller widths.
        params: Its parameters, in the structure of the larger network's.
        collections: Its collections, such as {"batch_stats": ...}; empty if there are none.
    """

    architecture: Architecture
    params: dict[str, Any]
    collections: dict[str, Any]

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(math.prod(x.shape) for x in parameters_by_path(self.params).values())


def without_units(
    arch: Architecture,
    params: dict[str, Any],
    collections: dict[str, Any],
    removed: Sequence[np.ndarray],
) -> Shrunk:
    """Removes hidden units from one member.

    Args:
        arch: Its architecture.
        params: Its parameters.
        collections: Its collections.
        removed: For each permutation group, which units to remove, [units] bool.

    Returns:
        The smaller network.

    Raises:
        ZoojaxError: If the architecture cannot be described with fewer units, or its description
            does not fit its permutation groups.
    """
    kept = [np.flatnonzero(~each) for each in removed]
    smaller = arch.narrowed(tuple(len(each) for each in kept))

    def take(tree: dict[str, Any]) -> dict[str, Any]:
        layers = {layer: dict(leaves) for layer, leaves in flat_layers(tree).items()}
        for group, units, mask in zip(arch.permutations, kept, removed, strict=True):
            for path, axis, positions, width in group:
                layer, _, leaf = path.rpartition("/")
                if leaf in layers.get(layer, {}):
                    at = np.arange(positions)[:, None] * len(mask) + units
                    places = at.reshape(-1, 1) * width + np.arange(width)
                    values = np.asarray(layers[layer][leaf])
                    layers[layer][leaf] = np.take(values, places.ravel(), axis)
        return nested_layers(layers)

    shrunk = Shrunk(smaller, take(params), {name: take(tree) for name, tree in collections.items()})
    given = {path: x.shape for path, x in parameters_by_path(shrunk.params).items()}
    expected = parameters_by_path(smaller.parameter_shapes())
    for path in sorted(given.keys() | expected.keys()):
        if given.get(path) != expected.get(path):
            raise ZoojaxError(
                f"architecture {arch.name} with fewer units has {path} of shape "
                f"{expected.get(path)}, not {given.get(path)}; correct its narrowed or permutations"
            )
    return shrunk


def shrink(
    arch: Architecture, params: dict[str, Any], collections: dict[str, Any] | None = None
) -> Shrunk:
    """Removes the unused hidden units of one member; its logits stay the same, except for rounding.

    Args:
        arch: Architecture of the member.
        params: Parameters that it is evaluated with: pruned weights are zero.
        collections: Its collections, such as {"batch_stats": ...}; None if it has none.

    Returns:
        The smaller network.

    Raises:
        ZoojaxError: If the architecture has no permutation groups, or cannot be described with
            fewer units.
    """
    require_units(arch)
    return without_units(arch, params, collections or {}, unused_units(params, arch.permutations))


def require_units(arch: Architecture) -> None:
    """Checks that an architecture defines which weights belong to its hidden units.

    Args:
        arch: The architecture.

    Raises:
        ZoojaxError: If it has no permutation groups.
    """
    if not arch.permutations:
        raise ZoojaxError(
            f"architecture {arch.name} has no permutation groups, which define what belongs to a "
            "hidden unit; define Architecture.permutations, or prune single weights instead"
        )
