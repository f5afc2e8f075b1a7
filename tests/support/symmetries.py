"""Copies of members with the same function: permuted, rescaled and noisy."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from zoojax.architectures.base import Architecture
from zoojax.architectures.rescalings import Rescaling
from zoojax.geometry.transforms import Transform


def random_transform(
    arch: Architecture, members: int, seed: int = 0, rescalings: Sequence[Rescaling] = ()
) -> Transform:
    """Random orders of all groups, and random factors of the groups that allow them."""
    rng = np.random.default_rng(seed)
    units = arch.permuted_units()
    orders = [np.stack([rng.permutation(n) for _ in range(members)]) for n in units]
    factors = [np.ones((members, n), np.float32) for n in units]
    for each in rescalings:
        shape = factors[each.group].shape
        signs = rng.choice(np.array([-1, 1], np.float32), shape)
        scales = np.exp(rng.normal(scale=0.7, size=shape)).astype(np.float32)
        factors[each.group] = signs if each.kind == "sign" else scales
    return Transform(tuple(orders), tuple(factors))


def changed(
    arch: Architecture,
    variables: dict[str, Any],
    transform: Transform,
    rescalings: Sequence[Rescaling] = (),
) -> dict[str, Any]:
    """Applies a transform to stacked variables."""
    moved = {name: transform.moved(arch, tree) for name, tree in variables.items()}
    factors = transform.factors_of(arch, rescalings)
    return {**moved, "params": jax.tree.map(np.multiply, moved["params"], factors)}


def copies(tree: Any, count: int, noise: float = 0.0, seed: int = 0) -> Any:
    """Stacks copies of one member, with noise relative to the deviation of each array."""
    rng = np.random.default_rng(seed)

    def copy(x: np.ndarray) -> np.ndarray:
        x = np.asarray(x)
        stacked = np.repeat(x[None], count, axis=0)
        if x.dtype.kind != "f" or not noise:
            return stacked
        return stacked + np.float32(noise * x.std()) * rng.normal(size=stacked.shape).astype("f")

    return jax.tree.map(copy, tree)


def is_undone(planted: Transform, found: Transform) -> np.ndarray:
    """Whether each member is back in its order after both transforms, [members] bool."""
    orders = planted.then(found).orders
    return np.all([(order == np.arange(order.shape[1])).all(axis=1) for order in orders], axis=0)
