"""Permutations of hidden units that do not change the function of a network.

Permuting the units on all axes of a group in the same order does not change the function of the
network (Ainsworth et al., "Git Re-Basin", 2023).
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from zoojax.errors import ZoojaxError


class PermutedAxis(NamedTuple):
    """An axis of a parameter that holds the hidden units of one permutation group.

    Attributes:
        path: Path of the parameter, such as "conv1/kernel".
        axis: The axis, counted from the end (negative), so that it also holds for stacked
            parameters.
        positions: Number of image positions that are flattened into the axis together with the
            units, of which the units vary fastest; 1 if the axis holds the units alone.
        width: Number of neighboring values that belong to a unit, such as an attention head; 1 if
            units are single values.
    """

    path: str
    axis: int
    positions: int = 1
    width: int = 1


# The axes that are permuted together.
PermutationGroup = tuple[PermutedAxis, ...]


def group_units(group: PermutationGroup, shapes: dict[str, tuple[int, ...]]) -> int:
    """Returns the number of units of a permutation group.

    Args:
        group: The group.
        shapes: Shapes of the parameters by path.

    Raises:
        ZoojaxError: If the group is empty, or its axes do not exist or do not hold the same
            number of units.
    """
    units = set()
    for path, axis, positions, width in group:
        shape = shapes.get(path, ())
        exists = -len(shape) <= axis < 0 and min(positions, width) >= 1
        if not exists or shape[axis] % (positions * width):
            raise ZoojaxError(
                f"axis {axis} of {path}, of shape {shape}, does not hold units at {positions} "
                f"positions{f', of {width} values each' if width != 1 else ''}"
            )
        units.add(shape[axis] // (positions * width))
    if len(units) != 1:
        paths = ", ".join(each.path for each in group)
        raise ZoojaxError(f"the axes that are permuted together have different sizes: {paths}")
    return units.pop()


def permute(tree: dict, orders: Sequence[Array], groups: Sequence[PermutationGroup]) -> dict:
    """Permutes hidden units without changing the function of the network.

    Args:
        tree: Parameters, of one member or stacked, or a tree of the same structure such as log
            alphas; leaves may be missing.
        orders: For each group, the index of the unit that moves to each position.
        groups: The permutation groups; see `Architecture.permutations`.

    Returns:
        The permuted tree.
    """
    leaves = cast(dict[str, Array], flatten_dict(tree, sep="/"))
    for group, order in zip(groups, orders, strict=True):
        for each in group:
            if each.path in leaves:
                leaves[each.path] = _reorder(leaves[each.path], order, each)
    return unflatten_dict(leaves, sep="/")


def _reorder(x: Array, order: Array, each: PermutedAxis) -> Array:
    """Reorders the units of an axis at each of its positions."""
    axis, values = each.axis + x.ndim, () if each.width == 1 else (each.width,)
    inner = (each.positions, order.shape[0], *values)
    split = x.reshape(*x.shape[:axis], *inner, *x.shape[axis + 1 :])
    return jnp.take(split, order, axis=axis + 1).reshape(x.shape)
