"""Changes of stacked members that keep their functions: permuted and rescaled units."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from zoojax.architectures.base import Architecture
from zoojax.architectures.parameters import WEIGHT, nested_layers
from zoojax.architectures.permuted_axes import PermutationGroup, PermutedAxis
from zoojax.architectures.rescalings import Rescaling
from zoojax.errors import ZoojaxError
from zoojax.text import printable

Symmetry = Literal["permutation", "sign", "scale"]
SYMMETRIES: tuple[Symmetry, ...] = get_args(Symmetry)
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Transform:
    """A permutation and factors of the hidden units of stacked members.

    Attributes:
        orders: For each permutation group, the unit that moves to each position,
            [members, units] int64.
        factors: For each permutation group, the factor of the unit at each position after
            permuting, [members, units] float32; 1 where the activation allows none.

    Example:
        >>> identity = zoojax.geometry.Transform.identity((3, 2), members=1)
        >>> [order.tolist() for order in identity.orders]
        [[[0, 1, 2]], [[0, 1]]]
    """

    orders: tuple[np.ndarray, ...]
    factors: tuple[np.ndarray, ...]

    @staticmethod
    def identity(units: Sequence[int], members: int) -> "Transform":
        """Returns the transform that changes nothing.

        Args:
            units: Number of units of each permutation group.
            members: Number of members.

        Example:
            >>> len(zoojax.geometry.Transform.identity((3, 2), members=5))
            5
        """
        return Transform(
            tuple(np.tile(np.arange(size), (members, 1)) for size in units),
            tuple(np.ones((members, size), np.float32) for size in units),
        )

    def __len__(self) -> int:
        return len(self.orders[0]) if self.orders else 0

    def take(self, rows: np.ndarray | slice) -> "Transform":
        """Selects members.

        Args:
            rows: Their positions.

        Example:
            >>> len(zoojax.geometry.Transform.identity((3, 2), members=5).take(slice(2)))
            2
        """
        return Transform(tuple(x[rows] for x in self.orders), tuple(x[rows] for x in self.factors))

    def then(self, other: "Transform") -> "Transform":
        """Returns the transform that applies this one first and another one second.

        Args:
            other: The second transform, of the same members.

        Example:
            >>> transform = zoojax.geometry.Transform.identity((3,), members=1)
            >>> transform.then(transform).orders[0].tolist()
            [[0, 1, 2]]
        """
        pairs = list(zip(self.orders, self.factors, other.orders, strict=True))
        return Transform(
            tuple(np.take_along_axis(order, second, 1) for order, _, second in pairs),
            tuple(
                np.take_along_axis(factor, second, 1) * later
                for (_, factor, second), later in zip(pairs, other.factors, strict=True)
            ),
        )

    def inverse(self) -> "Transform":
        """Returns the transform that undoes this one.

        Example:
            >>> order = np.array([[1, 2, 0]])
            >>> transform = zoojax.geometry.Transform((order,), (np.ones((1, 3), np.float32),))
            >>> transform.inverse().orders[0].tolist()
            [[2, 0, 1]]
        """
        orders = tuple(np.argsort(order, axis=1) for order in self.orders)
        return Transform(
            orders,
            tuple(
                1 / np.take_along_axis(factor, order, 1)
                for factor, order in zip(self.factors, orders, strict=True)
            ),
        )

    def moved(self, arch: Architecture, tree: Any) -> Any:
        """Permutes the units of a stacked tree, without rescaling them.

        Args:
            arch: Architecture of the members.
            tree: Arrays [members, ...] in the structure of the parameters or of a collection,
                or by layer path, such as a mask {layer: kernel}. Leaves without hidden units,
                such as one number per member, are not changed.

        Returns:
            The tree with permuted units.

        Raises:
            ZoojaxError: If an array of a layer with hidden units has another shape than its
                parameter.

        Example:
            >>> transform = zoojax.geometry.Transform.identity((8, 6, 4, 20), members=3)
            >>> moved = transform.moved(zoo.config.shape, zoo.params())
            >>> np.array_equal(moved["fc2"]["kernel"], zoo.params()["fc2"]["kernel"])
            True
        """
        axes = _axes_by_path(arch.permutations)
        shapes = shapes_by_path(arch)

        def change(path: str, leaf: np.ndarray) -> np.ndarray:
            for group, axis in _axes_of(path, leaf, axes, shapes):
                leaf = reordered(leaf, self.orders[group], axis)
            return leaf

        return _map(tree, change)

    def factors_of(self, arch: Architecture, rescalings: Sequence[Rescaling]) -> dict[str, Any]:
        """Returns the factors of all parameters.

        Args:
            arch: Architecture of the members.
            rescalings: Factors that the activation of the members allows.

        Returns:
            Tree in the structure of the parameters; arrays broadcast to [members, ...].

        Example:
            >>> transform = zoojax.geometry.Transform.identity((8, 6, 4, 20), members=3)
            >>> shape = zoo.config.shape
            >>> factors = transform.factors_of(shape, shape.rescalings("relu"))
            >>> bool((factors["conv1"]["kernel"] == 1).all())
            True
        """
        shapes = shapes_by_path(arch)
        found = {path: np.ones((1,) * (len(x) + 1), np.float32) for path, x in shapes.items()}
        for each in rescalings:
            factor = self.factors[each.group]
            for axes, values in ((each.written, factor), (each.read, 1 / factor)):
                for axis in axes:
                    along = along_axis(values, axis, len(shapes[axis.path]) + 1)
                    found[axis.path] = found[axis.path] * along
        layers: dict[str, dict[str, np.ndarray]] = {}
        for path, values in found.items():
            layer, _, leaf = path.rpartition("/")
            layers.setdefault(layer, {})[leaf] = values
        return nested_layers(layers)

    @property
    def is_permutation(self) -> bool:
        """Whether all factors are 1."""
        return all((factor == 1).all() for factor in self.factors)


def replaced(transform: Transform, rows: np.ndarray, part: Transform) -> Transform:
    """Replaces the transforms of the members at some positions."""

    def put(array: np.ndarray, values: np.ndarray) -> np.ndarray:
        changed = array.copy()
        changed[rows] = values
        return changed

    orders = zip(transform.orders, part.orders, strict=True)
    factors = zip(transform.factors, part.factors, strict=True)
    return Transform(tuple(put(*pair) for pair in orders), tuple(put(*pair) for pair in factors))


def concatenated(transforms: Sequence[Transform]) -> Transform:
    """Joins the transforms of consecutive members."""
    orders = zip(*(each.orders for each in transforms), strict=True)
    factors = zip(*(each.factors for each in transforms), strict=True)
    return Transform(tuple(map(np.concatenate, orders)), tuple(map(np.concatenate, factors)))


def reordered(leaf: np.ndarray, order: np.ndarray, axis: PermutedAxis) -> np.ndarray:
    """Reorders the units of a stacked array.

    Args:
        leaf: [members, ...].
        order: The unit that moves to each position, [members, units].
        axis: The axis that holds the units.
    """
    units = order.shape[1]
    at = np.arange(axis.positions)[:, None, None] * units + order[:, None, :, None]
    places = (at * axis.width + np.arange(axis.width)).reshape(len(order), -1)
    result = np.empty(leaf.shape, leaf.dtype)
    # Member by member: `take` copies runs of values, which `take_along_axis` does not.
    for one, moved, chosen in zip(leaf, result, places, strict=True):
        np.take(one, chosen, axis.axis, out=moved, mode="clip")
    return result


def by_unit(leaf: np.ndarray, axis: PermutedAxis, units: int) -> np.ndarray:
    """Returns the entries of a stacked array by unit, [members, units, entries]."""
    count, side = len(leaf), leaf.ndim + axis.axis
    inner = axis.positions, units, axis.width
    split = leaf.reshape(*leaf.shape[:side], *inner, *leaf.shape[side + 1 :])
    return np.moveaxis(split, side + 1, 1).reshape(count, units, -1)


def along_axis(factor: np.ndarray, axis: PermutedAxis, ndim: int) -> np.ndarray:
    """Repeats factors of units [members, units] along an axis of a stacked array.

    Args:
        factor: The factors.
        axis: The axis that holds the units.
        ndim: Number of axes of the stacked array.

    Returns:
        Array that broadcasts to the stacked array.
    """
    values = np.repeat(np.tile(factor, (1, axis.positions)), axis.width, axis=1)
    shape = [1] * ndim
    shape[0], shape[axis.axis] = len(factor), -1
    return values.reshape(shape)


def _axes_by_path(
    groups: Sequence[PermutationGroup],
) -> dict[str, list[tuple[int, PermutedAxis]]]:
    axes: dict[str, list[tuple[int, PermutedAxis]]] = {}
    for index, group in enumerate(groups):
        for axis in group:
            axes.setdefault(axis.path, []).append((index, axis))
    return axes


def shapes_by_path(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of one member's parameters by path."""
    layers = arch.parameter_shapes().items()
    return {f"{layer}/{leaf}": shape for layer, leaves in layers for leaf, shape in leaves.items()}


def _axes_of(
    path: str,
    leaf: np.ndarray,
    axes: dict[str, list[tuple[int, PermutedAxis]]],
    shapes: dict[str, tuple[int, ...]],
) -> list[tuple[int, PermutedAxis]]:
    """Returns the groups and axes of a stacked array that is shaped like a parameter.

    Its path is that of the parameter or statistic, or of a layer: then it has the shape of the
    kernel, or one value per output unit.
    """
    if leaf.ndim < 2:
        return []
    name = path if path in axes or path in shapes else f"{path}/{WEIGHT}"
    found = axes.get(name, [])
    shape = shapes.get(name)
    if shape is None or leaf.shape[1:] == shape:
        return found
    if leaf.shape[1:] == shape[-1:]:
        return [(group, axis) for group, axis in found if axis.axis == -1]
    raise ZoojaxError(
        f"{printable(path, 80)} has shape {leaf.shape[1:]} per member, not {shape} as its "
        "parameter: its units cannot be permuted"
    )


def _map(tree: Any, change: Callable[[str, np.ndarray], np.ndarray]) -> Any:
    """Changes the leaves of nested dicts; a tree may be a single array, which has no path."""
    if not isinstance(tree, dict):
        return change("", np.asarray(tree))
    flat = flatten_dict(tree, keep_empty_nodes=True)
    changed = {
        path: change("/".join(path), np.asarray(leaf)) if hasattr(leaf, "shape") else leaf
        for path, leaf in flat.items()
    }
    return unflatten_dict(changed)


def checked_symmetries(symmetries: object) -> tuple[Symmetry, ...]:
    """Validates names of symmetries.

    Raises:
        ZoojaxError: If one is unknown, or there are none.
    """
    given = (symmetries,) if isinstance(symmetries, str) else symmetries
    listed = ", ".join(SYMMETRIES)
    if not isinstance(given, Sequence) or not given:
        raise ZoojaxError(f"symmetries is {printable(symmetries, 80)}; give some of: {listed}")
    for each in given:
        if each not in SYMMETRIES:
            raise ZoojaxError(f"no symmetry named '{printable(each, 60)}'; there are: {listed}")
    return tuple(each for each in SYMMETRIES if each in given)
