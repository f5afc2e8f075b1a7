"""The images that a caller names or gives."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoojax.datasets import loading, objects
from zoojax.datasets.readers import RawSet
from zoojax.datasets.specs import DataSpec, Images, ImageSet
from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import expand_user
from zoojax.text import printable


class LoadedData(NamedTuple):
    """Images with their origin.

    Attributes:
        images: The images, split and normalized.
        spec: Their origin and normalization; None for an `ImageSet`, which has none.
        has_source: Whether they can be loaded again, so that a zoo need not store them.
        first_label: Lowest label before the split; None for an `ImageSet`, whose number of classes
            is given.
    """

    images: ImageSet
    spec: DataSpec | None
    has_source: bool
    first_label: int | None = None


def load_data(
    data: Any, template: DataSpec | None, size: int | None, data_dir: str | Path | None
) -> LoadedData:
    """Loads the images that a caller names or gives.

    Args:
        data: Name of an image set or path of an .npz file; a `DataSpec`; an `ImageSet`; or arrays
            or a dataset, see `zoojax.datasets.objects`.
        template: Size, channels and normalization of images that have none of their own; its
            split applies only to the image set that it names. None keeps their channels, and
            normalizes pixels to [-1, 1].
        size: Side of the images without a template; None keeps theirs.
        data_dir: Folder of image sets; see `zoojax.datasets.loading.data_directory`.

    Returns:
        The images.

    Raises:
        ZoojaxError: The images are unknown, missing, or invalid.
    """
    if isinstance(data, ImageSet):
        return LoadedData(_checked(data), None, False)
    if isinstance(data, DataSpec):
        data = replace(data, name=_source_name(data.name))
        return _prepared(loading.read(data.name, data_dir), data, True)
    if isinstance(data, str | Path):
        return _load_named(_source_name(data), template, size, data_dir)
    raw = objects.read_object(data)
    spec = _spec(objects.NAME, template, size, raw)
    return _prepared(raw, spec, False)


def _prepared(raw: RawSet, spec: DataSpec, has_source: bool) -> LoadedData:
    parts = (part for part in (raw.train, raw.val, raw.test) if part is not None)
    first = min(int(part.labels.min()) for part in parts)
    return LoadedData(loading.prepare(raw, spec), spec, has_source, first)


def _checked(images: ImageSet) -> ImageSet:
    """Returns an image set that can be stored: with int32 labels, and the hash of its arrays.

    Raises:
        ZoojaxError: A part has no arrays, or pixels that are not finite.
    """
    parts = []
    for name in ("train", "val", "test"):
        part = getattr(images, name)
        arrays = getattr(part, "images", None), getattr(part, "labels", None)
        if not all(isinstance(array, np.ndarray) and array.ndim for array in arrays):
            raise ZoojaxError(f"data: {name} of the ImageSet is not Images of NumPy arrays")
        pixels, labels = map(np.asarray, arrays)
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise ZoojaxError(f"data: the {name} images have pixels that are not finite")
        is_whole = labels.dtype.kind in "iu"
        parts.append(Images(pixels, labels.astype(np.int32) if is_whole else labels))
    train, val, test = parts
    return loading.make(printable(images.name, 200), train, val, test, images.num_classes)


def _source_name(data: str | Path) -> str:
    name = str(data)
    # An absolute path, so that the images are found from any folder.
    return str(expand_user(name).resolve()) if name.endswith(".npz") else name


def _load_named(
    name: str, template: DataSpec | None, size: int | None, data_dir: str | Path | None
) -> LoadedData:
    raw = loading.read(name, data_dir)
    spec = template
    if spec is None or spec.name != name:
        spec = _spec(name, template, size, raw)
    return _prepared(raw, spec, True)


def _spec(name: str, template: DataSpec | None, size: int | None, raw: RawSet) -> DataSpec:
    if template is None:
        side, _, channels = raw.train.images.shape[1:]
        return DataSpec(name, size or side, channels)
    return replace(template, name=name, train=None, val=None, crop=False)
