"""Image sets: specification and arrays."""

import dataclasses
import math
import numbers

import numpy as np

from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.declaration import check_whole
from zoojax.text import printable


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """The image set a zoo is trained on.

    Attributes:
        name: Name of a known set (see `zoojax.datasets.loading.names`), or path of an ``.npz``
            file.
        size: Side of the square images, in pixels.
        channels: 1 (color is converted to ITU-R 601 luma) or 3 (grayscale is repeated).
        mean: Subtracted from pixels in [0, 1]: a number, or one per channel.
        std: Divisor of the result: a number, or one per channel.
        crop: Whether to crop the center instead of resizing.
        train: Number of training images; None for the set's default.
        val: Number of validation images; None for the set's default.
        seed: Seed of the split.

    Raises:
        ZoojaxError: If a field has the wrong type, or is out of range.

    Example:
        >>> spec = zoojax.DataSpec("digits", size=28, mean=0.5, std=0.5, train=1000)
        >>> spec.channels, spec.val
        (1, None)
    """

    name: str
    size: int = 28
    channels: int = 1
    mean: float | tuple[float, ...] = 0.5
    std: float | tuple[float, ...] = 0.5
    crop: bool = False
    train: int | None = None
    val: int | None = None
    seed: int = 42

    def __post_init__(self):
        if not isinstance(self.name, str):
            raise ZoojaxError(f"name of images is {printable(self.name, 80)}; give a string")
        for field in ("size", "channels", "seed", "train", "val"):
            value = getattr(self, field)
            if value is not None or field not in ("train", "val"):
                object.__setattr__(self, field, check_whole(f"{field} of images", value))
        for field in ("mean", "std"):
            given = getattr(self, field)
            value = tuple(given) if isinstance(given, list) else given
            object.__setattr__(self, field, value)
            values = _per_channel(value)
            if not all(isinstance(x, numbers.Real) and math.isfinite(x) for x in values):
                raise ZoojaxError(
                    f"{field} of images is {printable(value, 60)}; give a number, or one for each "
                    "channel"
                )
            if not isinstance(value, numbers.Real) and len(values) != self.channels:
                raise ZoojaxError(
                    f"{field} of images has {len(values)} numbers; give one, or one for each of "
                    f"{self.channels} channel(s)"
                )
        if self.size < 1:
            raise ZoojaxError(f"size of images is {self.size}; give at least 1")
        if self.channels not in (1, 3):
            raise ZoojaxError(f"images with {self.channels} channels; give 1 or 3")
        if not min(_per_channel(self.std)) > 0:
            raise ZoojaxError(f"std of images is {self.std}; give a number above 0")
        for part in ("train", "val"):
            count = getattr(self, part)
            if count is not None and count < 1:
                raise ZoojaxError(f"{part} of {self.name} is {count}; give at least 1 image")
        if not 0 <= self.seed < 2**32:
            raise ZoojaxError(f"seed of the split is {self.seed}; give one from 0 to 2**32 - 1")


def _per_channel(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


@dataclasses.dataclass(frozen=True)
class Images:
    """One part of a loaded image set.

    Attributes:
        images: Normalized images, ``[n, size, size, channels]`` float32.
        labels: ``[n]`` int32.
    """

    images: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """A loaded image set.

    Attributes:
        name: Name as in its spec.
        train: Training images.
        val: Validation images.
        test: Test images: the official test set in its order, if there is one.
        num_classes: Number of classes.
        hash: SHA-256 of the shapes and bytes of the six arrays.

    Example:
        >>> from zoojax.datasets import loading
        >>> images = loading.load(zoojax.DataSpec("digits", size=8))
        >>> images.train.images.shape, images.num_classes
        ((1200, 8, 8, 1), 10)
    """

    name: str
    train: Images
    val: Images
    test: Images
    num_classes: int
    hash: str
