"""What the members of a zoo compute: logits, predicted classes, accuracy."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from zoojax.api.data import load_data
from zoojax.datasets.specs import ImageSet
from zoojax.errors import ZoojaxError
from zoojax.storage.opening import as_zoo
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_images import load_images
from zoojax.training import inference
from zoojax.training.inputs import checked_images

# Images that exceed the range of the zoo's images by this factor are taken for raw pixels.
_RANGE_FACTOR = 10


def apply(
    zoo: Zoo | str | Path,
    images: Any,
    epoch: int | None = None,
    members: Sequence[int] | None = None,
) -> np.ndarray:
    """Computes the logits of all members of a zoo on given images.

    Members are evaluated as in training: pruned weights are zero, and dropout is off.

    Args:
        zoo: The zoo, or its folder.
        images: Images [n, height, width, channels], float, normalized like those of the zoo. For
            members that learn one image each: coordinates (x, y) in [-1, 1], [n, 1, 1, 2].
        epoch: Saved epoch to use; None for the newest.
        members: Ids of the members to use, in this order; None for all.

    Returns:
        Logits [members, n, classes], float32; or pixels, [members, n, channels], normalized like
        the images.

    Raises:
        ZoojaxError: There is no such epoch or member, or the images have the wrong shape, type
            or range.

    Example:
        >>> zoojax.apply(zoo, np.zeros((5, 28, 28, 1), np.float32)).shape
        (3, 5, 10)
    """
    zoo = as_zoo(zoo)
    return inference.logits(zoo, _normalized(zoo, images), epoch, members)


def predict(
    zoo: Zoo | str | Path,
    images: Any,
    epoch: int | None = None,
    members: Sequence[int] | None = None,
) -> np.ndarray:
    """Predicts the classes of images with all members of a zoo.

    Args:
        zoo: The zoo, or its folder.
        images: Images [n, height, width, channels], float, normalized like those of the zoo.
        epoch: Saved epoch to use; None for the newest.
        members: Ids of the members to use, in this order; None for all.

    Returns:
        Predicted classes [members, n], uint16.

    Raises:
        ZoojaxError: There is no such epoch or member, or the images have the wrong shape, type
            or range.

    Example:
        >>> zoojax.predict(zoo, np.zeros((5, 28, 28, 1), np.float32), members=[0, 2]).shape
        (2, 5)
    """
    zoo = as_zoo(zoo)
    if zoo.config.shape.task.has_own_images:
        raise ZoojaxError(
            f"members of {zoo.path} learn one image each and predict no classes; `apply` computes "
            "the pixels at coordinates"
        )
    return inference.predict(zoo, _normalized(zoo, images), epoch, members)


def evaluate(
    zoo: Zoo | str | Path,
    data: Any = None,
    epoch: int | None = None,
    *,
    members: Sequence[int] | None = None,
    data_dir: str | Path | None = None,
) -> pl.DataFrame:
    """Evaluates the members of a zoo on its images, or on others.

    Training accuracy is measured on the training images after the epoch; in `Zoo.metrics` it is
    the running accuracy during the epoch, with dropout and noise.

    Args:
        zoo: The zoo, or its folder.
        data: Other images than the zoo's, as in `train_zoo`. They are split, resized and
            normalized like the zoo's.
        epoch: Saved epoch to evaluate; None for the newest.
        members: Ids of the members to evaluate, in this order; None for all.
        data_dir: Folder of image sets; see `zoojax.datasets.loading.data_directory`.

    Returns:
        One row per member, with the columns of `Zoo.metrics`: losses and accuracies (fractions)
        on training, validation and test images, ggap, sparsities.

    Raises:
        ZoojaxError: There is no such epoch, or the images are missing or do not suit the zoo.

    Example:
        >>> zoojax.evaluate(zoo, epoch=2).select("member", "test_acc").shape
        (3, 2)
    """
    zoo = as_zoo(zoo)
    return inference.evaluate(zoo, images_for(zoo, data, data_dir), epoch, members)


def images_for(zoo: Zoo, data: Any, data_dir: str | Path | None) -> ImageSet:
    """Loads the images of a zoo, or others with the same normalization.

    Args:
        zoo: The zoo.
        data: Other images, see `train_zoo`; None for the zoo's.
        data_dir: Folder of image sets.

    Returns:
        The images.

    Raises:
        ZoojaxError: They are missing or do not suit the zoo.
    """
    if data is None:
        return load_images(zoo, data_dir)
    if zoo.config.shape.task.has_own_images:
        raise ZoojaxError(
            f"members of {zoo.path} learn one image each; they cannot be evaluated on others"
        )
    template = zoo.config.data
    if template is None and not isinstance(data, ImageSet):
        raise ZoojaxError(
            f"{zoo.path} stores its own images with unknown normalization; "
            "it cannot be evaluated on others"
        )
    images = load_data(data, template, zoo.config.shape.size, data_dir).images
    if images.num_classes > zoo.config.classes:
        raise ZoojaxError(
            f"'{images.name}' has {images.num_classes} classes, but the members of "
            f"{zoo.path} predict {zoo.config.classes}"
        )
    return images


def _normalized(zoo: Zoo, images: Any) -> np.ndarray:
    """Checks that images have the shape of the zoo's images, and are normalized.

    Raises:
        ZoojaxError: They have the wrong shape or type, or look like raw pixels.
    """
    array, spec = checked_images(zoo.config.shape, images), zoo.config.data
    if zoo.config.shape.task.has_own_images:
        return array
    low, high = float(array.min()), float(array.max())
    if math.isnan(low):
        raise ZoojaxError("images contain NaN; give finite pixels")
    if spec is None:
        return array
    mean, std = np.asarray(spec.mean), np.asarray(spec.std)
    darkest, brightest = float(((0 - mean) / std).min()), float(((1 - mean) / std).max())
    is_bytes = high > _RANGE_FACTOR * max(abs(darkest), abs(brightest))
    # Black is exactly 0 only before normalization.
    is_unit = darkest < 0 and low == 0 and 0 < high <= 1
    if is_bytes or is_unit:
        raise ZoojaxError(
            f"images run from {low:g} to {high:g}, like pixels that are not normalized; give "
            f"(pixels in [0, 1] - {_format(mean)}) / {_format(std)}, from {darkest:.3g} to "
            f"{brightest:.3g}, as the zoo was trained on"
        )
    return array


def _format(values: np.ndarray) -> str:
    """Formats a number, or one per channel: "0.5", "(0.491, 0.482, 0.447)"."""
    if not values.ndim:
        return f"{values:g}"
    return f"({', '.join(f'{value:.3g}' for value in values)})"
