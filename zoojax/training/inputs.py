"""Validation of images and parameters that a caller provides.

Without it, a wrong type or shape would surface as an error deep inside XLA.
"""

from collections.abc import Mapping
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from zoojax.architectures.base import Architecture
from zoojax.architectures.parameters import flat_layers, nested_layers
from zoojax.datasets.specs import ImageSet
from zoojax.errors import ZoojaxError
from zoojax.text import printable


def checked_images(arch: Architecture, images: Any) -> np.ndarray:
    """Validates normalized images.

    Args:
        arch: Architecture of the members.
        images: [n, H, W, C] of any floating-point type.

    Returns:
        The images as float32.

    Raises:
        ZoojaxError: If the images are integers, have the wrong shape, or are empty.
    """
    height, width, channels = arch.image_shape
    expected = f"float32 [n, {height}, {width}, {channels}]"
    array = _array("images", images)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ZoojaxError(
            f"images are {array.dtype}; give them normalized like the zoo's images, {expected}"
        )
    if array.ndim != 4 or array.shape[1:] != arch.image_shape:
        raise ZoojaxError(f"images have shape {array.shape}; give {expected}")
    if not len(array):
        raise ZoojaxError(f"there are no images; give at least one, {expected}")
    return _float32(array)


def checked_labels(arch: Architecture, labels: Any, count: int) -> np.ndarray:
    """Validates class labels; the values of a tracer are not checked.

    Args:
        arch: Architecture of the members.
        labels: [count] of any integer type.
        count: Number of images.

    Returns:
        The labels as int32.

    Raises:
        ZoojaxError: If the labels are not integers, have the wrong shape, or are out of range.
    """
    array = _array("labels", labels)
    problem = _labels_problem(arch, array, count)
    if problem is not None:
        raise ZoojaxError(problem)
    return array.astype(np.int32)


def checked_params(arch: Architecture, params: Any, members: int) -> dict[str, dict]:
    """Validates stacked parameters.

    Args:
        arch: Architecture of the members.
        params: {layer: {"kernel": [members, ...], "bias": [members, features]}}, of any
            floating-point type.
        members: Number of members.

    Returns:
        The parameters as float32.

    Raises:
        ZoojaxError: If arrays are missing, unknown, integers, or have the wrong shape.
    """
    if not members:
        raise ZoojaxError("there are no members; give at least one")
    return checked_arrays(arch, params, (members,))


def checked_arrays(arch: Architecture, params: Any, leading: tuple[int, ...]) -> dict[str, dict]:
    """Validates parameters with any number of member axes.

    Args:
        arch: Architecture of the members.
        params: {layer: {"kernel": [*leading, ...], "bias": [*leading, features]}}, of any
            floating-point type.
        leading: Sizes of the member axes; () for one member.

    Returns:
        The parameters as float32.

    Raises:
        ZoojaxError: If arrays are missing, unknown, integers, or have the wrong shape.
    """
    shapes = arch.parameter_shapes()
    params = _flat(params)
    _check_names("params", params, shapes)
    checked: dict[str, dict] = {}
    for layer, leaves in shapes.items():
        _check_names(f"params of {layer}", params[layer], leaves)
        checked[layer] = {}
        for name, shape in leaves.items():
            array = _array(f"{layer}/{name}", params[layer][name])
            if not jnp.issubdtype(array.dtype, jnp.floating):
                raise ZoojaxError(f"{layer}/{name} is {array.dtype}; give float32")
            if array.shape != (*leading, *shape):
                raise ZoojaxError(
                    f"{layer}/{name} has shape {array.shape}; give {(*leading, *shape)}"
                )
            checked[layer][name] = _float32(array)
    return nested_layers(checked)


def _flat(params: Any) -> Any:
    """Parameters by layer path; anything malformed is left to the checks that follow."""
    if not isinstance(params, Mapping) or not all(isinstance(x, dict) for x in params.values()):
        return params
    return flat_layers(dict(params))


def check_image_set(arch: Architecture, images: ImageSet) -> None:
    """Checks that members of an architecture can be evaluated on an image set.

    Args:
        arch: Architecture of the members.
        images: The image set.

    Raises:
        ZoojaxError: If images or labels have the wrong shape, type or range.
    """
    for part in ("train", "val", "test"):
        split = getattr(images, part)
        name = f"the {part} images of '{printable(images.name)}'"
        shape, labels = np.shape(split.images), np.asarray(split.labels)
        expected = arch.image_shape
        if arch.task.has_own_images:
            expected = (*shape[1:2], *shape[1:2], arch.classes)
        if shape[1:] != expected or 0 in shape:
            raise ZoojaxError(
                f"{name} have shape {shape}; the members take [n, {', '.join(map(str, expected))}]"
            )
        if np.asarray(split.images).dtype != np.float32:
            raise ZoojaxError(f"{name} are {np.asarray(split.images).dtype}; give float32")
        problem = _labels_problem(arch, labels, shape[0])
        if problem is not None:
            raise ZoojaxError(f"{name} have {problem}")


def _labels_problem(arch: Architecture, labels: np.ndarray, count: int) -> str | None:
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        return f"labels {labels.dtype} {labels.shape}; give int32 ({count},)"
    if isinstance(labels, Tracer) or arch.task.has_own_images:
        return None
    if 0 <= labels.min() <= labels.max() < arch.classes:
        return None
    return (
        f"labels from {labels.min()} to {labels.max()}; "
        f"the classes of the members are 0 to {arch.classes - 1}"
    )


def _array(name: str, value: Any) -> np.ndarray:
    if isinstance(value, Tracer):
        # A caller's jit or vmap: shape and type are known, the values are not.
        return cast(np.ndarray, value)
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ZoojaxError(f"{name} cannot be converted to an array: {printable(error)}") from error


def _float32(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # Values beyond the range of float32 become infinite.
        return array.astype(np.float32, copy=False)


def _check_names(label: str, tree: Any, expected: dict) -> None:
    names = set(tree) if isinstance(tree, Mapping) else set()
    for name in expected:
        if name not in names:
            raise ZoojaxError(f"{label}: '{name}' is missing; give {', '.join(expected)}")
    for name in names - set(expected):
        raise ZoojaxError(f"{label}: '{printable(name)}' is unknown; give {', '.join(expected)}")
