"""Reads image files, without any split or transform.

Every reader returns channels-last ``uint8`` images (a user's own ``float32`` images in [0, 1]
remain float) and ``int32`` labels, in the order of the file.
"""

import dataclasses
import gzip
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import opened
from zoojax.text import first_line

# Size limits in bytes. MNIST's largest file has a fiftieth of the limit for idx files.
_MAX_FILE_BYTES = 2**40
_MAX_IDX_BYTES = 2**31
# Predicted classes are stored as 16-bit integers.
_MAX_LABEL = 2**16 - 1


class RawPart(NamedTuple):
    """One part of an image set.

    Attributes:
        images: ``[n, h, w, c]``, uint8 or float32 in [0, 1].
        labels: ``[n]`` int32.
    """

    images: np.ndarray
    labels: np.ndarray


class SourceParts(NamedTuple):
    """The official parts of a named image set.

    Attributes:
        origin: The file or folder they were read from, for messages.
        train: The training set.
        test: The test set, if there is one.
    """

    origin: Path | str
    train: RawPart
    test: RawPart | None


@dataclasses.dataclass(frozen=True)
class RawSet:
    """An image set before the split.

    Attributes:
        train: The images from which training and validation images are drawn, and also test
            images if `test` is None.
        val: The source's own validation part, if it has one.
        test: The source's own test part, if it has one.
        num_classes: Number of classes.
        default_train: Default number of training images.
        default_val: Default number of validation images.
        default_test: Number of test images to hold out from `train` if `test` is None.
    """

    train: RawPart
    val: RawPart | None
    test: RawPart | None
    num_classes: int
    default_train: int
    default_val: int
    default_test: int = 0


def read_npz(path: Path) -> RawSet:
    """Reads a user's ``.npz`` file.

    Its arrays are ``images`` and ``labels``, or ``train_images``, ``train_labels``,
    ``test_images``, ``test_labels`` and, optionally, ``val_images`` and ``val_labels``.

    Args:
        path: The file. Object arrays are rejected, so that no pickle is executed.

    Raises:
        ZoojaxError: If the file is missing, damaged or not an ``.npz`` file, or its arrays are
            not images and labels as described in the documentation.
    """
    return raw_set(path, read_arrays(path))


def raw_set(source: Path | str, arrays: Mapping[str, np.ndarray]) -> RawSet:
    """Creates an image set from arrays with the names that `read_npz` documents.

    Args:
        source: Where the arrays are from, for messages.
        arrays: The arrays by name.

    Raises:
        ZoojaxError: If an array is missing or is not what its name says.
    """
    if "images" in arrays or "labels" in arrays:
        train, val, test = _part(source, arrays, ""), None, None
    else:
        train, test = _part(source, arrays, "train_"), _part(source, arrays, "test_")
        has_val = "val_images" in arrays or "val_labels" in arrays
        val = _part(source, arrays, "val_") if has_val else None
    parts = [part for part in (train, val, test) if part is not None]
    shapes = {part.images.shape[1:] for part in parts}
    if len(shapes) > 1:
        raise ZoojaxError(f"{source}: its parts have images of different shapes {sorted(shapes)}")
    count = len(train.labels)
    share = max(1, count * 15 // 100)
    held_out = share * ((val is None) + (test is None))
    if count <= held_out:
        raise ZoojaxError(
            f"{source}: {count} images are too few to hold out others for validation and test; "
            f"give at least {held_out + 1}"
        )
    return RawSet(
        train=train,
        val=val,
        test=test,
        num_classes=1 + max(int(part.labels.max()) for part in parts),
        default_train=count - held_out,
        default_val=share if val is None else len(val.labels),
        default_test=share if test is None else 0,
    )


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads all arrays of an ``.npz`` file.

    Args:
        path: The file.

    Raises:
        ZoojaxError: If the file is missing, damaged, not a regular file or not an ``.npz`` file,
            or contains object arrays.
    """
    # Opened here, as np.load does not close a damaged file and blocks on a pipe.
    with opened(path, _MAX_FILE_BYTES) as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                return dict(archive)
        # TypeError: a plain .npy file loads as an array, which is not a context manager.
        # MemoryError: a header can claim any size. NotImplementedError: a zip file can claim
        # any compression method.
        except (
            *(OSError, EOFError, ValueError, TypeError, KeyError, MemoryError, OverflowError),
            *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, SyntaxError),
        ) as error:
            raise ZoojaxError(
                f"{path}: not a readable .npz file of plain arrays ({first_line(error)}); "
                "write it with numpy.savez"
            ) from error


def _part(source: Path | str, arrays: Mapping[str, np.ndarray], prefix: str) -> RawPart:
    """Extracts and validates one part of a user's images."""
    image_key, label_key = f"{prefix}images", f"{prefix}labels"
    missing = [key for key in (image_key, label_key) if key not in arrays]
    if missing:
        raise ZoojaxError(
            f"{source}: lacks {' and '.join(missing)} (it has {', '.join(arrays) or 'nothing'}); "
            "give images and labels, or train_images, train_labels, test_images and test_labels"
        )
    images, labels = arrays[image_key], arrays[label_key]
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ZoojaxError(
            f"{source}: {image_key} has shape {arrays[image_key].shape}; "
            "give [n, h, w] or [n, h, w, c] with 1 or 3 channels last"
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ZoojaxError(
            f"{source}: {label_key} has shape {labels.shape} and type {labels.dtype}; "
            "give one integer per image"
        )
    if len(images) != len(labels):
        raise ZoojaxError(
            f"{source}: {len(images)} {image_key} and {len(labels)} {label_key}; "
            "give one label per image"
        )
    if images.size == 0:
        raise ZoojaxError(f"{source}: {image_key} is empty")
    if labels.min() < 0 or labels.max() > _MAX_LABEL:
        raise ZoojaxError(
            f"{source}: {label_key} runs from {labels.min()} to {labels.max()}; "
            f"number the classes from 0, up to {_MAX_LABEL}"
        )
    if images.dtype.kind == "f":
        # Negated so that NaN fails, too.
        if not (images.min() >= 0 and images.max() <= 1):
            raise ZoojaxError(
                f"{source}: {image_key} runs from {images.min():g} to {images.max():g}; "
                "floating-point images must lie in [0, 1] (or give uint8)"
            )
        images = images.astype(np.float32)
    elif images.dtype != np.uint8:
        raise ZoojaxError(
            f"{source}: {image_key} has type {images.dtype}; give uint8, or floats in [0, 1]"
        )
    return RawPart(images, labels.astype(np.int32))


def read_idx(path: Path) -> np.ndarray:
    """Reads a gzipped idx file of bytes: two zeros, type 8, rank, sizes, then the data.

    Args:
        path: The file.

    Raises:
        ZoojaxError: If it is missing or damaged.
    """
    try:
        with opened(path, _MAX_IDX_BYTES) as file, gzip.open(file) as unpacked:
            content = unpacked.read(_MAX_IDX_BYTES + 1)
        if len(content) > _MAX_IDX_BYTES:
            raise ValueError("too large")
        if content[:3] != b"\0\0\x08":
            raise ValueError("not an idx file of bytes")
        rank = content[3]
        shape = np.frombuffer(content, dtype=">u4", count=rank, offset=4).tolist()
        # Raises if the length of the content does not match the sizes.
        return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * rank).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise _damaged(path, error) from error


def read_idx_part(image_path: Path, label_path: Path) -> RawPart:
    """Reads images and labels from two idx files.

    Args:
        image_path: The file of the images.
        label_path: The file of the labels.

    Raises:
        ZoojaxError: If a file is missing or damaged, or the two files do not match.
    """
    images, labels = read_idx(image_path), read_idx(label_path)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise ZoojaxError(
            f"{image_path}: images {images.shape} do not match the labels {labels.shape} of "
            f"{label_path.name}; download both files again"
        )
    return RawPart(images[..., None], labels.astype(np.int32))


def read_usps_h5(path: Path) -> tuple[RawPart, RawPart]:
    """Reads the training and test parts of USPS from an HDF5 file.

    Args:
        path: The file, with groups ``train`` and ``test``, each with ``data`` ``[n, 256]`` in
            [0, 1] and ``target`` ``[n]``.

    Raises:
        ZoojaxError: If it is missing or damaged.
    """
    import h5py

    try:
        with opened(path, _MAX_FILE_BYTES) as opened_file, h5py.File(opened_file) as file:
            train, test = (
                usps_part(np.asarray(file[f"{part}/data"]), np.asarray(file[f"{part}/target"]))
                for part in ("train", "test")
            )
        return train, test
    # TypeError: a group in place of a dataset becomes an array of names.
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error


def read_usps_libsvm(path: Path) -> RawPart:
    """Reads one part of USPS in libsvm's text format: labels 1 to 10, pixels -1 to 1.

    Args:
        path: The file.

    Raises:
        ZoojaxError: If it is damaged.
    """
    from sklearn.datasets import load_svmlight_file

    try:
        pixels, labels = load_svmlight_file(str(path), n_features=256)
        return usps_part((pixels.toarray().astype(np.float32) + 1) / 2, labels - 1)
    except (OSError, EOFError, ValueError) as error:
        raise _damaged(path, error) from error


def usps_part(pixels: np.ndarray, labels: np.ndarray) -> RawPart:
    """Converts rows of pixels to 16x16 images.

    All sources of USPS yield the same float32 pixels, which are rounded to the nearest of 256
    levels. torchvision's own USPS class truncates instead and is up to one level darker.

    Args:
        pixels: ``[n, 256]`` in [0, 1].
        labels: ``[n]``, 0 to 9.

    Raises:
        ValueError: If the values are out of range or the lengths differ.
    """
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError("pixels out of range")
    if len(pixels) != len(labels):
        raise ValueError("unequal numbers of images and labels")
    if not (labels.min() >= 0 and labels.max() <= 9):
        raise ValueError("labels out of range")
    return RawPart(to_uint8(pixels).reshape(-1, 16, 16, 1), labels.astype(np.int32))


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """Rounds pixels in [0, 1] to the nearest of 256 levels."""
    return np.rint(pixels * 255).astype(np.uint8)


def _damaged(path: Path, error: Exception) -> ZoojaxError:
    return ZoojaxError(f"{path}: damaged or truncated ({first_line(error)}); download it again")
