"""Axes of the parameters that hold the same hidden units.

Without JAX, so that worker processes can read datasets of weights without importing it.
"""

from typing import NamedTuple

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
