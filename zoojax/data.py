"""Image sets in memory, split, resized and normalised as a zoo asks for them.

`load` takes a `DataSpec` and returns an `ImageSet` of float32 arrays on the host,
channels last. Files are looked for in `data_directory`; what each set needs there
is told by the error that says it is missing. Two image sets are the same if and
only if their hashes are.
"""

import dataclasses
import difflib
import hashlib
import os
from pathlib import Path

import numpy as np

from zoojax import image_sources
from zoojax.errors import ZoojaxError
from zoojax.image_files import RawPart, RawSet, read_arrays, read_npz
from zoojax.paths import expanded
from zoojax.text import printable

# Pillow's fixed point for eight-bit images: 32 bits, less 8 for the pixel and 2 to spare.
_FIXED_POINT = 2.0**22
_CHUNK = 256


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """The image set a zoo is trained on.

    Attributes:
        name: One of `names`, or the path of a user's ``.npz`` file.
        size: Side of the square images.
        channels: 1 (colour becomes ITU-R 601 luma) or 3 (grey is repeated).
        mean: Taken from pixels in [0, 1].
        std: Divides what is left.
        crop: Cut `size` from the centre instead of resizing to it.
        train: Training images; None for the set's default.
        val: Validation images; None for the set's default.
        seed: Seed of the split.

    Raises:
        ZoojaxError: A value that no image set could have.
    """

    name: str
    size: int = 28
    channels: int = 1
    mean: float = 0.5
    std: float = 0.5
    crop: bool = False
    train: int | None = None
    val: int | None = None
    seed: int = 42

    def __post_init__(self):
        if self.size < 1:
            raise ZoojaxError(f"size of images is {self.size}; give at least 1")
        if self.channels not in (1, 3):
            raise ZoojaxError(f"images with {self.channels} channels; give 1 or 3")
        if not self.std > 0:
            raise ZoojaxError(f"std of images is {self.std}; give a number above 0")
        for part in ("train", "val"):
            count = getattr(self, part)
            if count is not None and count < 1:
                raise ZoojaxError(f"{part} of {self.name} is {count}; give at least 1 image")
        if not 0 <= self.seed < 2**32:
            raise ZoojaxError(f"seed of the split is {self.seed}; give one from 0 to 2**32 - 1")


@dataclasses.dataclass(frozen=True)
class Images:
    """Images ``[n, size, size, channels]`` float32 and labels ``[n]`` int32."""

    images: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """A loaded image set.

    Attributes:
        name: As in its spec.
        train: Training images.
        val: Validation images.
        test: Test images; the official ones in their order where there are such.
        num_classes: How many classes there are.
        hash: SHA-256 over the shapes and bytes of the six arrays.
    """

    name: str
    train: Images
    val: Images
    test: Images
    num_classes: int
    hash: str


def names() -> list[str]:
    """The image sets that `load` knows by name."""
    return list(image_sources.KNOWN)


def data_directory(data_dir: Path | str | None = None) -> Path:
    """Where image sets are kept: the argument, else ``$ZOOJAX_DATA``, else the user's cache."""
    import platformdirs

    chosen = data_dir or os.environ.get("ZOOJAX_DATA") or platformdirs.user_cache_dir("zoojax")
    return expanded(chosen)


def load(spec: DataSpec, data_dir: Path | str | None = None) -> ImageSet:
    """Loads, splits and transforms an image set.

    Training and validation images are drawn by a seeded permutation of the
    official training set: that of ``torch.utils.data.random_split``, so that the
    default parts are, image for image, those that the published zoos trained on.
    Test images are the official test set in its order.
    Validation takes the end of the permutation and training the start, so that
    with another number of training images validation stays as it is. A set with
    no test part holds out the end of the permutation for it first, as much as
    is its default or as `train` and `val` leave.

    A TFDS set that is not in the data directory is prepared there if TensorFlow
    is installed and the network answers. USPS is fetched from OpenML unless the
    directory has its files.

    Args:
        spec: The image set.
        data_dir: Where to look for files, see `data_directory`.

    Raises:
        ZoojaxError: The set is unknown, missing, damaged or smaller than asked.
    """
    if spec.name.endswith(".npz"):
        raw = read_npz(expanded(spec.name))
    elif spec.name in image_sources.KNOWN:
        raw = image_sources.read_known(spec.name, data_directory(data_dir))
    else:
        raise _unknown(spec.name)
    train, val, test = (_transform(part, spec) for part in _split(raw, spec))
    return make(spec.name, train, val, test, raw.num_classes)


def save(images: ImageSet, file: Path) -> None:
    """Writes an image set as it is, split and normalised, for `load_saved`.

    Args:
        images: The image set.
        file: A ``.npz`` file to be made; see `zoojax.files.write_beside`.
    """
    parts = {"train": images.train, "val": images.val, "test": images.test}
    arrays = {f"{name}_images": part.images for name, part in parts.items()}
    arrays |= {f"{name}_labels": part.labels for name, part in parts.items()}
    arrays |= {"name": np.array(images.name), "num_classes": np.array(images.num_classes)}
    with file.open("wb") as opened:
        np.savez(opened, allow_pickle=False, **arrays)


def load_saved(file: Path) -> ImageSet:
    """Reads what `save` wrote.

    Raises:
        ZoojaxError: The file is missing or damaged.
    """
    held = read_arrays(file)
    try:
        train, val, test = (
            _checked(held[f"{part}_images"], held[f"{part}_labels"])
            for part in ("train", "val", "test")
        )
        name, num_classes = printable(held["name"], 200), int(held["num_classes"])
        highest = max(int(part.labels.max()) for part in (train, val, test))
        if not highest < num_classes <= 2**16:
            raise ValueError(f"labels up to {highest} of {num_classes} classes")
    except (ValueError, TypeError, KeyError) as error:
        raise ZoojaxError(f"{file} is damaged: {printable(error)}") from error
    return make(name, train, val, test, num_classes)


def _checked(images: np.ndarray, labels: np.ndarray) -> Images:
    """Images as `save` writes them; raises ValueError of others."""
    if images.dtype != np.float32 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(f"images {images.dtype} {images.shape}")
    if labels.dtype != np.int32 or labels.shape != images.shape[:1] or not len(labels):
        raise ValueError(f"labels {labels.dtype} {labels.shape} of images {images.shape}")
    if labels.min() < 0:
        raise ValueError("a negative label")
    return Images(images, labels)


def make(name: str, train: Images, val: Images, test: Images, num_classes: int) -> ImageSet:
    """An image set of arrays that are split and normalised already."""
    return ImageSet(name, train, val, test, num_classes, _hash(train, val, test))


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Resizes bilinearly, averaging over the source pixels that a target pixel covers.

    This is Pillow's resize, to the bit for square uint8 images: pixel centres at
    half-integers, the triangle filter widened when shrinking, columns before rows,
    and eight-bit images rounded after each. (Pillow takes some tall images by rows
    first, which can differ by one level.) Float images are not rounded.

    Args:
        images: uint8 or float32 ``[n, h, w, c]``.
        size: Side of the result.

    Returns:
        ``[n, size, size, c]`` of the same type.
    """
    count, height, width, channels = images.shape
    if height == width == size:
        return images
    # Small chunks, as the sums are taken in float64 (exact there for fixed point).
    resized = np.empty((count, size, size, channels), images.dtype)
    columns, rows = _interpolation(width, size), _interpolation(height, size)
    for start in range(0, count, _CHUNK):
        chunk = _resize_axis(images[start : start + _CHUNK], columns, axis=2)
        resized[start : start + _CHUNK] = _resize_axis(chunk, rows, axis=1)
    return resized


def _interpolation(source: int, target: int) -> np.ndarray:
    """Weights ``[target, source]`` of source pixels in target pixels; rows add up to 1."""
    scale = source / target
    centres = (np.arange(target) + 0.5) * scale
    distance = np.abs(np.arange(source) + 0.5 - centres[:, None])
    weights = np.maximum(0.0, 1.0 - distance / max(scale, 1.0))
    return weights / weights.sum(axis=1, keepdims=True)


def _resize_axis(images: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    """Applies interpolation weights along one axis, in the arithmetic of the images' type."""
    moved = np.moveaxis(images, axis, -1).astype(np.float64)
    if images.dtype == np.uint8:
        weights = np.floor(weights * _FIXED_POINT + 0.5)
        resized = np.floor(moved @ weights.T / _FIXED_POINT + 0.5).clip(0, 255)
    else:
        resized = moved @ weights.T
    return np.moveaxis(resized, -1, axis).astype(images.dtype)


def _unknown(name: str) -> ZoojaxError:
    close = difflib.get_close_matches(name, names(), n=1)
    suggestion = f"did you mean {close[0]!r}? " if close else ""
    return ZoojaxError(
        f"unknown image set {name!r}: {suggestion}known are {', '.join(names())}, "
        "or give the path of a .npz file"
    )


def _split(raw: RawSet, spec: DataSpec) -> tuple[RawPart, RawPart, RawPart]:
    """Training, validation and test part; how they are drawn is told at `load`."""
    train_size = raw.default_train if spec.train is None else spec.train
    val_size = raw.default_val if spec.val is None else spec.val
    pool = _permutation(len(raw.train.labels), spec.seed)
    test = raw.test
    if test is None:
        # At least one, so that too large a request fails below for train or val.
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
    """`torch.randperm` of a generator of this seed: a forward Fisher-Yates shuffle."""
    # The legacy generator on purpose: it is torch's (MT19937, seeded alike), and NumPy's
    # policy (NEP 19) freezes its stream.
    draws = np.random.RandomState(seed).randint(0, 2**32, count, np.uint32).tolist()
    order = list(range(count))
    for i, draw in enumerate(draws):
        j = i + draw % (count - i)
        order[i], order[j] = order[j], order[i]
    return np.array(order, np.int64)


def _take(part: RawPart, indices: np.ndarray) -> RawPart:
    return RawPart(part.images[indices], part.labels[indices])


def _transform(part: RawPart, spec: DataSpec) -> Images:
    """Grey, then crop or resize, then normalise: the order of the published zoos."""
    images = part.images
    if spec.channels == 1 and images.shape[-1] == 3:
        images = _luma(images)
    images = _centre_crop(images, spec) if spec.crop else resize(images, spec.size)
    # In place from here on: CIFAR-10 is 700 MB as float32.
    pixels = images.astype(np.float32, order="C")
    if images.dtype == np.uint8:
        pixels /= np.float32(255)
    pixels -= np.float32(spec.mean)
    pixels /= np.float32(spec.std)
    if spec.channels == 3 and pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
    return Images(pixels, part.labels)


def _luma(images: np.ndarray) -> np.ndarray:
    """ITU-R 601 luma ``[n, h, w, 1]``, for uint8 in Pillow's 16-bit fixed point."""
    if images.dtype != np.uint8:
        return images @ np.array([[0.299], [0.587], [0.114]], np.float32)
    luma = np.full(images.shape[:-1], 1 << 15, np.uint32)
    for channel, weight in enumerate((19595, 38470, 7471)):
        luma += images[..., channel] * np.uint32(weight)
    return (luma >> 16).astype(np.uint8)[..., None]


def _centre_crop(images: np.ndarray, spec: DataSpec) -> np.ndarray:
    _, height, width, _ = images.shape
    if min(height, width) < spec.size:
        raise ZoojaxError(
            f"{spec.name}: images of {height}x{width} cannot be cropped to {spec.size}; "
            "set a smaller size, or crop to false"
        )
    # round() as torchvision does, which matters where the margin is odd.
    top, left = round((height - spec.size) / 2), round((width - spec.size) / 2)
    return images[:, top : top + spec.size, left : left + spec.size]


def _hash(*parts: Images) -> str:
    """SHA-256 of the arrays in the order train, val, test, images before labels."""
    digest = hashlib.sha256()
    for part in parts:
        for array in (part.images, part.labels):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
