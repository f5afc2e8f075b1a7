"""Images that are given in Python: arrays, and datasets of torchvision or Hugging Face.

    (images, labels)                      arrays: uint8, or floats in [0, 1]; channels last
    {"train_images": ..., ...}            arrays with the names of an .npz file
    torchvision.datasets.MNIST(...)       any sequence of (image, label)
    datasets.load_dataset("mnist")        any sequence of {"image": ..., "label": ...}, or a dict
                                          of them: "train", "test" and optionally "validation"

They become a `RawSet`; `zoojax.datasets.loading.prepare` splits and normalizes it.
"""

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from zoojax.datasets.readers import RawSet, raw_set
from zoojax.errors import ZoojaxError
from zoojax.text import first_line, printable

# Name in the config of a zoo that was trained on such images.
NAME = "arrays"
_SOURCE = "data"
_EXPECTED = (
    "give the name of an image set, the path of an .npz file, a DataSpec, an ImageSet, "
    "(images, labels), or a dataset of images and labels"
)
_PARTS = {"train": "train_", "test": "test_", "validation": "val_", "val": "val_"}
_IMAGE_KEYS, _LABEL_KEYS = ("image", "img"), ("label", "labels")


def read_object(data: Any) -> RawSet:
    """Converts images and labels to an image set before its split.

    Args:
        data: Arrays or a dataset; see the module's docstring.

    Returns:
        The image set.

    Raises:
        ZoojaxError: If the object holds no images with labels, or they have the wrong shape,
            type or range.

    Example:
        >>> images, labels = np.zeros((40, 8, 8), np.uint8), np.arange(40) % 10
        >>> read_object((images, labels)).train.images.shape
        (40, 8, 8, 1)
    """
    if _is_array(data) or (isinstance(data, tuple) and len(data) == 1 and _is_array(data[0])):
        raise ZoojaxError("data is an array without labels; give both: data=(images, labels)")
    if isinstance(data, tuple | list) and len(data) == 2:
        return raw_set(_SOURCE, _arrays({"images": data[0], "labels": data[1]}))
    if isinstance(data, Mapping) and data and set(data) <= set(_PARTS):
        arrays: dict[str, np.ndarray] = {}
        for part, dataset in data.items():
            arrays |= _dataset_arrays(dataset, _PARTS[part])
        return raw_set(_SOURCE, arrays)
    if isinstance(data, Mapping):
        return raw_set(_SOURCE, _arrays(data))
    return raw_set(_SOURCE, _dataset_arrays(data, ""))


def _is_array(data: Any) -> bool:
    """Whether an object is an array of NumPy, JAX, PyTorch or the like."""
    return hasattr(data, "shape") and hasattr(data, "dtype")


def _arrays(data: Mapping[Any, Any]) -> dict[str, np.ndarray]:
    return {printable(name, 60): _array(printable(name, 60), value) for name, value in data.items()}


def _array(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ZoojaxError(
            f"data: {name} cannot be converted to an array ({first_line(error)})"
        ) from error


def _dataset_arrays(dataset: Any, prefix: str) -> dict[str, np.ndarray]:
    """Reads all items of a dataset."""
    if isinstance(dataset, str | bytes) or not (
        hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    ):
        raise ZoojaxError(f"data is {type(dataset).__name__}; {_EXPECTED}")
    count = _from_user(lambda: len(dataset), "its length")
    if not count:
        raise ZoojaxError(f"data: {prefix}images is empty")
    images, labels = [], []
    for index in range(count):
        item = _from_user(functools.partial(operator.getitem, dataset, index), f"item {index}")
        image, label = _item(item, index)
        image = _channels_last(_array(f"image {index}", image))
        if images and image.shape != images[0].shape:
            raise ZoojaxError(
                f"data: image {index} has shape {image.shape}, but image 0 has "
                f"{images[0].shape}; resize all images to one shape"
            )
        images.append(image)
        labels.append(label)
    return {
        f"{prefix}images": np.stack(images),
        f"{prefix}labels": _array(f"{prefix}labels", labels),
    }


def _from_user(read: Callable[[], Any], what: str) -> Any:
    """Returns what a dataset returns, whose methods may raise anything."""
    try:
        return read()
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ZoojaxError(f"data: {what} cannot be read ({reason})") from error


def _item(item: Any, index: int) -> tuple[Any, Any]:
    """Returns image and label of an item."""
    if isinstance(item, Mapping):
        image = next((item[key] for key in _IMAGE_KEYS if key in item), None)
        label = next((item[key] for key in _LABEL_KEYS if key in item), None)
        if image is None or label is None:
            keys = ", ".join(printable(key, 40) for key in item)
            raise ZoojaxError(f"data: item {index} has the keys {keys}; give 'image' and 'label'")
        return image, label
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    if _is_array(item):
        raise ZoojaxError(
            f"data: item {index} is an image without a label; give pairs (image, label)"
        )
    raise ZoojaxError(f"data: item {index} is {type(item).__name__}; {_EXPECTED}")


def _channels_last(image: np.ndarray) -> np.ndarray:
    """Moves the channels of an image in torch's layout to the end."""
    is_torch_layout = image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] not in (1, 3)
    return np.moveaxis(image, 0, -1) if is_torch_layout else image
