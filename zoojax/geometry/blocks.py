"""Costs of assigning the units of one permutation group to those of a reference, and assignments.

The distance between two members is a sum over parameters. As a function of the order and factors
of one group, with those of the other groups fixed, it is a sum over pairs of units: a linear
assignment problem (Ainsworth et al., "Git Re-Basin", 2023, section 3.2). It is quadratic for
parameters with the group on two axes, as the kernel of a residual block without inner channels;
for them, the cost is the linear part, and a step is taken only if the distance decreases.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from zoojax.architectures.permuted_axes import PermutationGroup, PermutedAxis
from zoojax.architectures.rescalings import Kind, Rescaling
from zoojax.geometry.transforms import Arrays, along_axis, by_unit, reordered

# Range of the factor that one step may choose.
_MAX_FACTOR = 100.0
_NEWTON_STEPS = 12


@dataclass(frozen=True)
class Block:
    """The axes of one permutation group in the parameters.

    Attributes:
        index: Index of the group.
        units: Number of units.
        axes: The axes, each with the power of the unit's factor that multiplies its entries:
            1, -1 or 0.
        quadratic: Paths of the parameters with the group on two axes.
        kind: Kind of the factors; None without factors.
    """

    index: int
    units: int
    axes: tuple[tuple[PermutedAxis, int], ...]
    quadratic: tuple[str, ...]
    kind: Kind | None


def make_blocks(
    groups: Sequence[PermutationGroup],
    units: Sequence[int],
    paths: Mapping[str, object],
    rescalings: Sequence[Rescaling],
) -> list[Block]:
    """Describes the permutation groups of a network.

    Args:
        groups: The groups.
        units: Number of units of each group.
        paths: Parameters by path; axes of other arrays, such as batch statistics, are left out.
        rescalings: Factors that are allowed.
    """
    factors = {each.group: each for each in rescalings}
    blocks = []
    for index, group in enumerate(groups):
        rescaling = factors.get(index)
        axes = [axis for axis in group if axis.path in paths]
        used = [axis.path for axis in axes]
        quadratic = sorted({path for path in used if used.count(path) > 1})
        powers = tuple((axis, _power(axis, rescaling)) for axis in axes)
        kind = None if rescaling is None else rescaling.kind
        blocks.append(Block(index, units[index], powers, tuple(quadratic), kind))
    return blocks


def _power(axis: PermutedAxis, rescaling: Rescaling | None) -> int:
    if rescaling is None:
        return 0
    return int(axis in rescaling.written) - int(axis in rescaling.read)


@dataclass(frozen=True)
class Pairs:
    """Sums over the entries of pairs of units, by power of the factor.

    Attributes:
        products: {power: inner products, [members, units of the reference, units]}.
        squares: {power: squared norms of the units, [members, units]}, for factors of kind
            "scale" and powers other than 0.
    """

    products: dict[int, np.ndarray]
    squares: dict[int, np.ndarray]


def compare_units(
    block: Block, reference: Arrays, params: Arrays, paths: frozenset[tuple[str, int]] | None = None
) -> Pairs:
    """Compares the units of members with those of references.

    Args:
        block: The group.
        reference: Parameters by path, [1 or members, ...].
        params: Parameters of the members by path, [members, ...].
        paths: (path, axis) of the axes to compare; None for all.
    """
    count = len(next(iter(params.values())))
    products = {0: np.zeros((count, block.units, block.units), np.float32)}
    squares: dict[int, np.ndarray] = {}
    for axis, power in block.axes:
        if paths is not None and (axis.path, axis.axis) not in paths:
            continue
        ours, theirs = reference[axis.path], params[axis.path]
        product = _products(ours, theirs, axis, block.units)
        products[power] = products[power] + product if power in products else product
        if power and block.kind == "scale":
            units = by_unit(theirs, axis, block.units)
            square = np.einsum("nue,nue->nu", units, units)
            squares[power] = squares[power] + square if power in squares else square
    return Pairs(products, squares)


def _products(ours: np.ndarray, theirs: np.ndarray, axis: PermutedAxis, units: int) -> np.ndarray:
    if axis.axis == -1 and axis.positions == axis.width == 1:
        # Without copies.
        ours, theirs = (x.reshape(len(x), -1, units) for x in (ours, theirs))
        return np.matmul(np.swapaxes(ours, 1, 2), theirs)
    ours, theirs = by_unit(ours, axis, units), by_unit(theirs, axis, units)
    return np.matmul(ours, np.swapaxes(theirs, 1, 2))


def costs(kind: Kind | None, pairs: Pairs) -> tuple[np.ndarray, np.ndarray | None]:
    """Computes the cost of each pair of units at its best factor.

    Args:
        kind: Kind of the factors; None without factors.
        pairs: The sums.

    Returns:
        (costs [members, units of the reference, units], the best factors in the same shape).
        The cost is half of the squared distance up to terms that do not depend on the assignment;
        the factors are None without factors.
    """
    fixed = -pairs.products[0]
    zeros = np.zeros_like(fixed)
    written, read = pairs.products.get(1, zeros), pairs.products.get(-1, zeros)
    if kind is None:
        return fixed - written - read, None
    if kind == "sign":
        both = written + read
        factor = np.where(both < 0, np.float32(-1), np.float32(1))
        return fixed - np.abs(both), factor
    none = np.zeros_like(fixed[:, 0])
    p, q = (pairs.squares.get(power, none)[:, None, :] for power in (1, -1))
    factor = _best_scale(p, q, written, read)
    return fixed + _scale_cost(factor, p, q, written, read), factor


def _scale_cost(
    s: np.ndarray, p: np.ndarray, q: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    return p * s**2 / 2 + q / s**2 / 2 - x * s - y / s


def _best_scale(p: np.ndarray, q: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Minimizes p s^2 / 2 + q / (2 s^2) - x s - y / s over s > 0 by Newton's method in log s."""
    tiny = np.float32(1e-12)
    limit = np.float32(np.log(_MAX_FACTOR))
    t = np.clip(0.25 * np.log((q + tiny) / (p + tiny)), -limit, limit) + np.zeros_like(x)
    for _ in range(_NEWTON_STEPS):
        s = np.exp(t)
        slope = p * s**2 - q / s**2 - x * s + y / s
        curvature = np.abs(2 * p * s**2 + 2 * q / s**2 - x * s - y / s) + tiny
        t = np.clip(t - np.clip(slope / curvature, -1, 1), -limit, limit)
    s = np.exp(t)
    kept = _scale_cost(np.float32(1) + np.zeros_like(s), p, q, x, y)
    return np.where(_scale_cost(s, p, q, x, y) < kept, s, np.float32(1))


def assign(cost: np.ndarray) -> np.ndarray:
    """Solves linear assignment problems.

    Args:
        cost: [problems, n, n].

    Returns:
        The column of each row, [problems, n] int64, with the smallest sum of costs.
    """
    best = np.argmin(cost, axis=2)
    # If the best columns differ, they are the solution.
    distinct = (np.sort(best, axis=1) == np.arange(cost.shape[1])).all(axis=1)
    for index in np.flatnonzero(~distinct):
        best[index] = linear_sum_assignment(cost[index])[1]
    return best


def apply_step(
    block: Block, params: Arrays, order: np.ndarray, factor: np.ndarray | None
) -> Arrays:
    """Reorders and rescales the units of one group.

    Args:
        block: The group.
        params: Parameters by path, [members, ...].
        order: The unit that moves to each position, [members, units].
        factor: Factors after reordering, [members, units]; None for 1.

    Returns:
        The parameters with the group on an axis.
    """
    changed: Arrays = {}
    for axis, power in block.axes:
        leaf = reordered(changed.get(axis.path, params[axis.path]), order, axis)
        if factor is not None and power:
            values = factor if power > 0 else 1 / factor
            leaf = leaf * along_axis(values, axis, leaf.ndim)
        changed[axis.path] = leaf
    return changed


def squared_distance(reference: Arrays, params: Arrays) -> np.ndarray:
    """Sums the squared differences of members to references, [members] float64."""
    total = np.zeros(len(next(iter(params.values()))))
    for path, leaf in params.items():
        difference = (leaf - reference[path]).reshape(len(leaf), -1)
        total += np.einsum("ne,ne->n", difference, difference, dtype=np.float64)
    return total
