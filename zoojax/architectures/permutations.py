"""Permutations of hidden units that do not change the function of a network.

Permuting the units on all axes of a group in the same order does not change the function of the
network (Ainsworth et al., "Git Re-Basin", 2023).
"""

from collections.abc import Sequence
from typing import cast

import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from zoojax.architectures.permuted_axes import PermutationGroup, PermutedAxis


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
