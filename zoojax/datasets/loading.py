"""Loads image sets and splits, resizes and normalizes them.

`load` takes a `DataSpec` and returns an `ImageSet` of float32 arrays on the host, channels last.
Files are searched in `data_directory`; for the files that a set needs, see the error message
that is raised if they are missing. Two image sets are equal if and only if their hashes are.
"""

import difflib
import hashlib
import os
from pathlib import Path

import numpy as np

from zoojax.datasets import registry
from zoojax.datasets.readers import RawPart, RawSet, read_arrays, read_npz
from zoojax.datasets.specs import DataSpec, Images, ImageSet
from zoojax.datasets.transforms import transform
from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import expand_user, user_path
from zoojax.text import printable


def names() -> list[str]:
    """Returns the names of the image sets that `load` knows."""
    return list(registry.KNOWN)


def data_directory(data_dir: Path | str | None = None) -> Path:
    """Returns the folder of image sets.

    Args:
        data_dir: The folder; if None, ``$ZOOJAX_DATA`` or the user's cache folder.

    Raises:
        ZoojaxError: If a home folder in the path cannot be determined.
    """
    import platformdirs

    chosen = data_dir or os.environ.get("ZOOJAX_DATA") or platformdirs.user_cache_dir("zoojax")
    return user_path(chosen, "data_dir")


def load(spec: DataSpec, data_dir: Path | str | None = None) -> ImageSet:
    """Loads, splits and transforms an image set.

    Training and validation images are drawn from the official training set with the seeded
    permutation of ``torch.utils.data.random_split``. The default parts therefore contain
    exactly the images on which the published zoos were trained. Test images are the official
    test set in its order. Validation takes the end of the permutation and training the start,
    so that validation does not change with the number of training images. If there is no
    official test set, the end of the permutation is held out for testing first: the set's
    default number of images, or as many as `train` and `val` leave.

    A TFDS set that is not in the data directory is prepared there if TensorFlow is installed
    and the network is available. USPS is downloaded from OpenML unless the directory contains
    its files.

    Args:
        spec: The image set.
        data_dir: Folder of the files, see `data_directory`.

    Raises:
        ZoojaxError: If the set is unknown, missing, damaged or smaller than requested.

    Example:
        >>> digits = load(DataSpec("digits", size=8))
        >>> digits.train.images.shape
        (1200, 8, 8, 1)
    """
    return prepare(read(spec.name, data_dir), spec)


def read(name: str, data_dir: Path | str | None = None) -> RawSet:
    """Reads an image set without splitting or transforming it.

    Args:
        name: Name of a known set, or path of an ``.npz`` file.
        data_dir: Folder of the files, see `data_directory`.

    Raises:
        ZoojaxError: If the set is unknown, missing or damaged.
    """
    if name.endswith(".npz"):
        return read_npz(expand_user(name))
    if name in registry.KNOWN:
        return registry.read_known(name, data_directory(data_dir))
    raise _unknown(name)


def prepare(raw: RawSet, spec: DataSpec) -> ImageSet:
    """Splits and transforms an image set as documented in `load`.

    Args:
        raw: The images before the split.
        spec: The split, size, channels and normalization.

    Raises:
        ZoojaxError: If the set is smaller than requested.
    """
    train, val, test = (transform(part, spec) for part in _split(raw, spec))
    return make(spec.name, train, val, test, raw.num_classes)


def save(images: ImageSet, file: Path) -> None:
    """Writes a loaded image set, split and normalized, for `load_saved`.

    Args:
        images: The image set.
        file: The ``.npz`` file to create; see `zoojax.filesystem.atomic.atomic_write`.
    """
    parts = {"train": images.train, "val": images.val, "test": images.test}
    arrays = {f"{name}_images": part.images for name, part in parts.items()}
    arrays |= {f"{name}_labels": part.labels for name, part in parts.items()}
    arrays |= {"name": np.array(images.name), "num_classes": np.array(images.num_classes)}
    with file.open("wb") as opened:
        np.savez(opened, allow_pickle=False, **arrays)


def load_saved(file: Path) -> ImageSet:
    """Reads an image set that `save` has written.

    Args:
        file: The ``.npz`` file.

    Raises:
        ZoojaxError: If the file is missing or damaged.
    """
    arrays = read_arrays(file)
    try:
        train, val, test = (
            _validate(arrays[f"{part}_images"], arrays[f"{part}_labels"])
            for part in ("train", "val", "test")
        )
        name, num_classes = printable(arrays["name"], 200), int(arrays["num_classes"])
        highest = max(int(part.labels.max()) for part in (train, val, test))
        if not highest < num_classes <= 2**16:
            raise ValueError(f"labels up to {highest} of {num_classes} classes")
    except (ValueError, TypeError, KeyError) as error:
        raise ZoojaxError(f"{file} is damaged: {printable(error)}") from error
    return make(name, train, val, test, num_classes)


def _validate(images: np.ndarray, labels: np.ndarray) -> Images:
    """Checks that arrays are as `save` writes them.

    Raises:
        ValueError: If they are not.
    """
    if images.dtype != np.float32 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(f"images {images.dtype} {images.shape}")
    if labels.dtype != np.int32 or labels.shape != images.shape[:1] or not len(labels):
        raise ValueError(f"labels {labels.dtype} {labels.shape} of images {images.shape}")
    if labels.min() < 0:
        raise ValueError("a negative label")
    return Images(images, labels)


def make(name: str, train: Images, val: Images, test: Images, num_classes: int) -> ImageSet:
    """Creates an image set from parts that are already split and normalized.

    Args:
        name: Name of the set.
        train: Training images.
        val: Validation images.
        test: Test images.
        num_classes: Number of classes.
    """
    return ImageSet(name, train, val, test, num_classes, _hash(train, val, test))


def _unknown(name: str) -> ZoojaxError:
    close = difflib.get_close_matches(name, names(), n=1)
    suggestion = f"did you mean {close[0]!r}? " if close else ""
    return ZoojaxError(
        f"unknown image set {name!r}: {suggestion}known are {', '.join(names())}, "
        "or give the path of a .npz file"
    )


def _split(raw: RawSet, spec: DataSpec) -> tuple[RawPart, RawPart, RawPart]:
    """Draws training, validation and test parts as documented in `load`."""
    train_size = raw.default_train if spec.train is None else spec.train
    val_size = raw.default_val if spec.val is None else spec.val
    pool = _permutation(len(raw.train.labels), spec.seed)
    test = raw.test
    if test is None:
        # At least one, so that too large a request fails in the check of train or val below.
        test_size = max(1, min(raw.default_test, len(pool) - train_size - val_size))
        pool, held_out = np.split(pool, [len(pool) - test_size])
        test = _take(raw.train, held_out)
    if raw.val is None:
        pool, val_drawn = np.split(pool, [max(0, len(pool) - val_size)])
        val = _take(raw.train, val_drawn)
    else:
        val = _take(raw.val, _permutation(len(raw.val.labels), spec.seed)[:val_size])
    train = _take(raw.train, pool[:train_size])
    for part, wanted, drawn in (("train", train_size, train), ("val", val_size, val)):
        if wanted < 1 or len(drawn.labels) < wanted:
            raise ZoojaxError(
                f"{spec.name}: train={train_size} and val={val_size} leave only "
                f"{len(drawn.labels)} images for {part}; set train and val to fit the set"
            )
    return train, val, test


def _permutation(count: int, seed: int) -> np.ndarray:
    """Reproduces `torch.randperm` with a seeded generator: a forward Fisher-Yates shuffle."""
    # The legacy generator is the same as torch's (MT19937 with the same seeding), and NumPy's
    # policy (NEP 19) guarantees that its stream does not change.
    draws = np.random.RandomState(seed).randint(0, 2**32, count, np.uint32).tolist()
    order = list(range(count))
    for i, draw in enumerate(draws):
        j = i + draw % (count - i)
        order[i], order[j] = order[j], order[i]
    return np.array(order, np.int64)


def _take(part: RawPart, indices: np.ndarray) -> RawPart:
    return RawPart(part.images[indices], part.labels[indices])


def _hash(*parts: Images) -> str:
    """Computes the SHA-256 of all arrays: train, val, test; images before labels."""
    digest = hashlib.sha256()
    for part in parts:
        for array in (part.images, part.labels):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
