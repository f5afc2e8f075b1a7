"""A canonical form of members: one of the networks that differ only by symmetries.

Scales minimize the sum of squared parameters (Stock et al., "Equi-normalization of Neural
Networks", 2019). Signs make the bias of each unit (or the offset of its normalization) positive.
Units are sorted by the squared norm of the parameters that write them, in descending order. Each
of these quantities is the same in all networks of the set, so all of them have the same form, up
to units whose quantities are equal.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from zoojax.architectures.base import Architecture
from zoojax.architectures.rescalings import Rescaling
from zoojax.architectures.units import parameters_by_path, require_units
from zoojax.geometry.blocks import Block, apply_step, make_blocks
from zoojax.geometry.transforms import Arrays, Symmetry, Transform, by_unit

_MAX_ROUNDS = 1000
# Largest relative change of a factor in the last round.
_TOLERANCE = 1e-6


def canonical_transform(
    arch: Architecture,
    params: dict[str, Any],
    activation: str = "tanh",
    symmetries: Sequence[Symmetry] = ("permutation", "sign", "scale"),
) -> Transform:
    """Finds the transforms that bring members into a canonical form.

    Args:
        arch: Architecture of the members.
        params: Stacked parameters.
        activation: Activation of the members.
        symmetries: Changes to use.

    Returns:
        The transform of each member.

    Raises:
        ZoojaxError: If the architecture has no permutation groups.

    Example:
        >>> transform = zoojax.geometry.canonical_transform(zoo.config.shape, zoo.params())
        >>> order = transform.orders[0][0]
        >>> kernel = zoo.member(0)["conv1"]["kernel"]
        >>> norms = np.square(kernel[..., order]).sum((0, 1, 2))
        >>> len(norms)
        8
    """
    require_units(arch)
    arrays = {path: np.asarray(x) for path, x in parameters_by_path(params).items()}
    units = arch.permuted_units()
    count = len(next(iter(arrays.values())))
    rescalings = [each for each in arch.rescalings(activation) if each.kind in symmetries]
    blocks = make_blocks(arch.permutations, units, arrays, rescalings)
    factors = [np.ones((count, size), np.float32) for size in units]
    scaled = [block for block in blocks if block.kind == "scale"]
    for _ in range(_MAX_ROUNDS if scaled else 0):
        largest = 0.0
        for block in scaled:
            factor = _balancing(block, arrays)
            arrays |= apply_step(block, arrays, _own(count, block), factor)
            factors[block.index] = factors[block.index] * factor
            largest = max(largest, float(np.abs(np.log(factor)).max()))
        if largest < _TOLERANCE:
            break
    allowed = {each.group: each for each in rescalings}
    for block in (block for block in blocks if block.kind == "sign"):
        factor = _positive(block, allowed[block.index], arrays)
        arrays |= apply_step(block, arrays, _own(count, block), factor)
        factors[block.index] = factors[block.index] * factor
    orders = [_own(count, block) for block in blocks]
    if "permutation" in symmetries:
        orders = [np.argsort(-_written(block, arrays), axis=1, kind="stable") for block in blocks]
    moved = (np.take_along_axis(f, o, 1) for f, o in zip(factors, orders, strict=True))
    return Transform(tuple(orders), tuple(moved))


def _own(count: int, block: Block) -> np.ndarray:
    return np.tile(np.arange(block.units), (count, 1))


def _squares(block: Block, arrays: Arrays, power: int) -> np.ndarray:
    """Sums the squares of the entries of each unit with a power of its factor."""
    entries = [by_unit(arrays[a.path], a, block.units) for a, p in block.axes if p == power]
    return np.sum([np.einsum("nue,nue->nu", x, x) for x in entries], axis=0)


def _balancing(block: Block, arrays: Arrays) -> np.ndarray:
    """Returns the factors with which both sides of each unit have the same norm."""
    written, read = _squares(block, arrays, 1), _squares(block, arrays, -1)
    # Units without weights on one side keep their scale.
    usable = (written > 0) & (read > 0)
    ratio = np.divide(read, written, out=np.ones_like(read), where=usable)
    return ratio**0.25


def _positive(block: Block, rescaling: Rescaling, arrays: Arrays) -> np.ndarray:
    """Returns the signs that make the biases of the units positive."""
    biases = [a for a in rescaling.written if a.path.endswith("/bias")]
    total = sum((by_unit(arrays[a.path], a, block.units).sum(-1) for a in biases), np.float32(0))
    signs = np.ones((len(next(iter(arrays.values()))), block.units), np.float32)
    return np.where(total < 0, -signs, signs)


def _written(block: Block, arrays: Arrays) -> np.ndarray:
    """Sums the squares of the parameters that write each unit."""
    entries = [by_unit(arrays[a.path], a, block.units) for a, _ in block.axes if a.axis == -1]
    return np.sum([np.einsum("nue,nue->nu", x, x) for x in entries], axis=0)
