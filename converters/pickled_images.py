"""Reads a zoo's own images, its dataset.pt, as inert data.

The file is a dict {"trainset", "valset", "testset", "dataset_seed"} of

- TensorDatasets of normalized images [n, c, h, w] and labels [n];
- objects of any class with such images in `data` and labels in `targets`, without transforms;
- Subsets of these.

Images of torchvision, which are transformed when they are used, are not read.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoojax.converters.foreign_classes import is_foreign_class
from zoojax.converters.inert import NumpyArray, Stub, TensorRef, UnsafePickleError, shorten
from zoojax.converters.pickled_datasets import splits_of
from zoojax.converters.safe_load import MIB, Limits, TorchFile, read_torch_file, to_array
from zoojax.datasets.specs import Images

_MAX_NESTING = 8
_TENSOR_DATASET = "torch.utils.data.dataset.TensorDataset"
_SUBSET = "torch.utils.data.dataset.Subset"


class ImageFile(NamedTuple):
    """A zoo's own images.

    Attributes:
        splits: Images, channels last, by "train", "val" and "test".
        seed: The seed of the split; None if unknown.
    """

    splits: dict[str, Images]
    seed: int | None


def read_image_set(path: Path, *, limit: int = 8192 * MIB) -> ImageFile:
    """Reads a zoo's own images, its dataset.pt.

    Args:
        path: The file.
        limit: Maximum bytes of the file, and of the arrays in it.

    Raises:
        UnreadableFileError: If it is another kind of file, or unsafe or damaged.
    """
    # A Subset lists its indices in the pickle.
    limits = Limits(limit, 64 * MIB, entries=1000)
    return read_torch_file(path, limits, _image_file, _image_stub)


def _image_stub(module: str, name: str) -> bool:
    return f"{module}.{name}" in (_TENSOR_DATASET, _SUBSET) or is_foreign_class(module, name)


def _image_file(file: TorchFile) -> ImageFile:
    splits = {name: _images(file, name, split) for name, split in splits_of(file.content).items()}
    seed = file.content.get("dataset_seed") if isinstance(file.content, dict) else None
    return ImageFile(splits, seed if type(seed) is int else None)


def _images(file: TorchFile, name: str, dataset: object) -> Images:
    """The images and labels of one split."""
    images, labels, chosen = _tensors(file, name, dataset, _MAX_NESTING)
    pixels = to_array(file, images, f"the images of {name}")
    classes = to_array(file, labels, f"the labels of {name}", np.dtype(np.int64))
    if pixels.ndim != 4 or classes.shape != pixels.shape[:1]:
        raise UnsafePickleError(
            f"{shorten(name)}: images {pixels.shape} with labels {classes.shape}, "
            "not [n, channels, height, width] with [n]"
        )
    if chosen is not None:
        if chosen.size > 2 * len(pixels) or (
            chosen.size and not 0 <= chosen.min() <= chosen.max() < len(pixels)
        ):
            raise UnsafePickleError(f"{shorten(name)}: indices of a Subset outside its images")
        pixels, classes = pixels[chosen], classes[chosen]
    if classes.size and not 0 <= classes.min() <= classes.max() < 2**31:
        raise UnsafePickleError(f"{shorten(name)}: labels from {classes.min()} to {classes.max()}")
    return Images(np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), classes.astype(np.int32))


def _tensors(
    file: TorchFile, name: str, dataset: object, depth: int
) -> tuple[object, object, np.ndarray | None]:
    """Images, labels, and the indices of those that are used; None for all."""
    state = dataset.state if isinstance(dataset, Stub) else {}
    if isinstance(dataset, Stub) and dataset.cls == _SUBSET:
        if depth == 0:
            raise UnsafePickleError(f"{shorten(name)}: Subsets nested too deeply")
        images, labels, outer = _tensors(file, name, state.get("dataset"), depth - 1)
        own = _indices(file, name, state.get("indices"))
        if outer is None:
            return images, labels, own
        if own.size and own.max() >= outer.size:
            raise UnsafePickleError(f"{shorten(name)}: indices of a Subset outside its images")
        return images, labels, outer[own]
    match state.get("tensors"):
        case (TensorRef() as images, TensorRef() as labels):
            return images, labels, None
    images, labels = state.get("data"), state.get("targets")
    if state.get("transform") is not None or isinstance(images, NumpyArray):
        raise UnsafePickleError(
            f"{shorten(name)}: its images are transformed when they are used, by code that is not "
            "run"
        )
    if isinstance(images, TensorRef) and isinstance(labels, TensorRef):
        return images, labels, None
    raise UnsafePickleError(f"{name}: not images and labels")


def _indices(file: TorchFile, name: str, indices: object) -> np.ndarray:
    """The indices of a Subset."""
    if isinstance(indices, TensorRef):
        return to_array(file, indices, f"the indices of {name}", np.dtype(np.int64)).reshape(-1)
    if not isinstance(indices, list | tuple) or not all(
        type(index) is int and 0 <= index < 2**31 for index in indices
    ):
        raise UnsafePickleError(f"{shorten(name)}: the indices of a Subset are not whole numbers")
    return np.array(indices, np.int64)
