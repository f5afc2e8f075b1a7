"""Images and parameters that a caller brings, checked before a program sees them.

Programs are compiled for whatever they are given: a wrong type or shape would be an error deep
inside XLA.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from zoojax.architectures.base import Architecture
from zoojax.datasets.specs import ImageSet
from zoojax.errors import ZoojaxError
from zoojax.text import printable


def checked_images(arch: Architecture, images: Any) -> np.ndarray:
    """Normalised images for members of an architecture.

    Args:
        arch: the shape of the members.
        images: [n, H, W, C] of any floating type.

    Returns:
        The same as float32.

    Raises:
        ZoojaxError: they are integers, have another shape, or there are none.
    """
    height, width, channels = arch.image_shape
    wanted = f"float32 [n, {height}, {width}, {channels}]"
    array = _array("images", images)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ZoojaxError(
            f"images are {array.dtype}; give them normalised as the zoo's were, {wanted}"
        )
    if array.ndim != 4 or array.shape[1:] != arch.image_shape:
        raise ZoojaxError(f"images have the shape {array.shape}; give {wanted}")
    if not len(array):
        raise ZoojaxError(f"there are no images; give at least one, {wanted}")
    return _float32(array)


def checked_params(arch: Architecture, params: Any, members: int) -> dict[str, dict]:
    """Stacked parameters of members of an architecture.

    Args:
        arch: the shape of the members.
        params: {layer: {"kernel": [members, ...], "bias": [members, features]}}, of any
            floating type.
        members: how many.

    Returns:
        The same as float32.

    Raises:
        ZoojaxError: leaves are missing, too many, of another shape, or integers.
    """
    if not members:
        raise ZoojaxError("there are no members; give at least one")
    shapes = arch.parameter_shapes()
    _same_names("params", params, shapes)
    found: dict[str, dict] = {}
    for layer, leaves in shapes.items():
        _same_names(f"params of {layer}", params[layer], leaves)
        found[layer] = {}
        for name, shape in leaves.items():
            array = _array(f"{layer}/{name}", params[layer][name])
            if not jnp.issubdtype(array.dtype, jnp.floating):
                raise ZoojaxError(f"{layer}/{name} is {array.dtype}; give float32")
            if array.shape != (members, *shape):
                raise ZoojaxError(
                    f"{layer}/{name} has the shape {array.shape}; give {(members, *shape)}"
                )
            found[layer][name] = _float32(array)
    return found


def check_image_set(arch: Architecture, images: ImageSet) -> None:
    """Raises ZoojaxError unless members of an architecture can be measured on an image set."""
    for part in ("train", "val", "test"):
        split = getattr(images, part)
        where = f"the {part} images of '{printable(images.name)}'"
        shape, labels = np.shape(split.images), np.asarray(split.labels)
        if shape[1:] != arch.image_shape or not shape[0]:
            raise ZoojaxError(
                f"{where} have the shape {shape}; the members take "
                f"[n, {', '.join(map(str, arch.image_shape))}]"
            )
        if np.asarray(split.images).dtype != np.float32:
            raise ZoojaxError(f"{where} are {np.asarray(split.images).dtype}; give float32")
        if labels.shape != shape[:1] or not np.issubdtype(labels.dtype, np.integer):
            raise ZoojaxError(f"{where} have labels {labels.dtype} {labels.shape}; give int32 [n]")
        if labels.min() < 0 or labels.max() >= arch.classes:
            raise ZoojaxError(
                f"{where} have labels from {labels.min()} to {labels.max()}; "
                f"the members know 0 to {arch.classes - 1}"
            )


def _array(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ZoojaxError(f"{name} cannot be made an array: {printable(error)}") from error


def _float32(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # Beyond float32 is infinite.
        return array.astype(np.float32, copy=False)


def _same_names(what: str, tree: Any, wanted: dict) -> None:
    found = set(tree) if isinstance(tree, Mapping) else set()
    for name in wanted:
        if name not in found:
            raise ZoojaxError(f"{what}: '{name}' is missing; give {', '.join(wanted)}")
    for name in found - set(wanted):
        raise ZoojaxError(f"{what}: no '{printable(name)}' is known; give {', '.join(wanted)}")
