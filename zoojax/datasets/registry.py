"""The image sets that have a name: where they are found, or fetched from.

`zoojax.datasets.readers` reads the files, `zoojax.datasets.loading` splits and transforms.
"""

import contextlib
import dataclasses
import http.client
import importlib.util
import logging
import shlex
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoojax.datasets import readers
from zoojax.datasets.readers import RawPart, RawSet, first_line
from zoojax.errors import ZoojaxError

PROBE_SECONDS = 5.0

# Images per digit of the official USPS training set. OpenML serves training and
# test images in one table; these counts show that its first rows are the former.
_USPS_TRAIN_COUNTS = [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644]

_IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)

_LIBSVM_URL = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass.html#usps"


class Parts(NamedTuple):
    """What a reader found, and the file or folder it found it in, for messages."""

    origin: Path | str
    train: RawPart
    test: RawPart | None


@dataclasses.dataclass(frozen=True)
class KnownSet:
    """What is fixed about an image set that has a name.

    Attributes:
        read: Finds and reads the parts: ``read(name, directory)``.
        sizes: Images in the official training and test sets (no test set: 0).
        default_train: Training images where the spec names no number.
        default_val: Validation images where the spec names no number.
        url: A file of the download, asked for first to see if there is a network.
    """

    read: Callable[[str, Path], Parts]
    sizes: tuple[int, int]
    default_train: int
    default_val: int
    url: str = ""


def read_known(name: str, directory: Path) -> RawSet:
    """Reads one of the sets in `KNOWN`.

    Args:
        name: A key of `KNOWN`.
        directory: Where its files are, or are downloaded to.

    Raises:
        ZoojaxError: The files are missing and cannot be fetched, are damaged, or
            hold another number of images than the official set.
    """
    known = KNOWN[name]
    origin, train, test = known.read(name, directory)
    sizes = (len(train.labels), 0 if test is None else len(test.labels))
    # A name stands for one fixed set: a cut-down one under the same name would
    # give zoos that look comparable and are not.
    if sizes != known.sizes:
        raise ZoojaxError(
            f"{origin}: {sizes[0]} training and {sizes[1]} test images where the official {name} "
            f"has {known.sizes[0]} and {known.sizes[1]}: fetch the files again, or "
            "give a set of your own as a .npz file"
        )
    return RawSet(
        train=train,
        val=None,
        test=test,
        num_classes=10,
        default_train=known.default_train,
        default_val=known.default_val,
        default_test=known.sizes[0] - known.default_train - known.default_val,
    )


def _read_digits(name: str, directory: Path) -> Parts:
    """scikit-learn's bundled digits, 1797 of 8x8, without importing it: that takes seconds."""
    del name, directory
    spec = importlib.util.find_spec("sklearn")
    assert spec is not None and spec.origin is not None, "scikit-learn is a dependency"
    rows = np.loadtxt(Path(spec.origin).parent / "datasets/data/digits.csv.gz", delimiter=",")
    pixels = readers.to_uint8(rows[:, :-1].reshape(-1, 8, 8, 1) / 16)
    return Parts("scikit-learn's digits", RawPart(pixels, rows[:, -1].astype(np.int32)), None)


def _read_usps(name: str, directory: Path) -> Parts:
    """USPS from ``usps.h5``, from torchvision's two ``.bz2`` files or from OpenML."""
    if (path := directory / "usps.h5").is_file():
        return Parts(path, *readers.read_usps_h5(path))
    paths = [directory / "usps.bz2", directory / "usps.t.bz2"]
    missing = [path.name for path in paths if not path.is_file()]
    if not missing:
        return Parts(
            paths[0], readers.read_usps_libsvm(paths[0]), readers.read_usps_libsvm(paths[1])
        )
    if len(missing) == 1:
        raise ZoojaxError(f"{name}: {directory} lacks {missing[0]}; put it beside the other file")
    return _fetch_usps(name, directory)


def _fetch_usps(name: str, directory: Path) -> Parts:
    """USPS from OpenML, kept in the data directory."""
    from sklearn.datasets import fetch_openml

    known = KNOWN[name]
    by_hand = f"put usps.h5, or usps.bz2 and usps.t.bz2 from {_LIBSVM_URL}, there"
    if not (directory / "openml").is_dir():
        # scikit-learn's requests have no time limit of their own.
        _need_network(known.url, f"{name} is not in {directory}; {by_hand}")
    try:
        values, digits = fetch_openml(
            "usps",
            version=2,
            data_home=str(directory),
            return_X_y=True,
            as_frame=False,
            parser="liac-arff",
            n_retries=1,
        )
        pixels = (np.asarray(values, dtype=np.float32) + 1) / 2
        # Text from 1 to 10.
        labels = np.asarray(digits).astype(np.float64).astype(np.int32) - 1
        split = known.sizes[0]
        if np.bincount(labels[:split], minlength=10).tolist() != _USPS_TRAIN_COUNTS:
            raise ValueError("its first rows are not the official training set")
        return Parts(
            directory / "openml",
            readers.usps_part(pixels[:split], labels[:split]),
            readers.usps_part(pixels[split:], labels[split:]),
        )
    except (OSError, ValueError) as error:
        raise ZoojaxError(
            f"{name}: OpenML's copy cannot be used ({first_line(error)}) and {directory} has no "
            f"other; {by_hand}"
        ) from error


def _read_mnist(name: str, directory: Path) -> Parts:
    """MNIST or Fashion-MNIST from the original four files, else from TFDS."""
    found = {file: _find_idx(name, file, directory) for file in _IDX_FILES}
    paths = [path for path in found.values() if path is not None]
    if len(paths) == len(_IDX_FILES):
        arrays = [readers.read_idx(path) for path in paths]
        parts = []
        for images, labels, path in zip(arrays[::2], arrays[1::2], paths[::2], strict=True):
            if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
                raise ZoojaxError(
                    f"{path}: images {images.shape} do not go with the labels {labels.shape} "
                    "beside it; fetch both files again"
                )
            parts.append(RawPart(images[..., None], labels.astype(np.int32)))
        return Parts(paths[0].parent, *parts)
    if paths and not _tfds_folders(name, directory):
        missing = [file for file, path in found.items() if path is None]
        raise ZoojaxError(f"{name}: {directory} lacks {', '.join(missing)} beside {paths[0].name}")
    return _read_tfds(name, directory)


def _find_idx(name: str, file: str, directory: Path) -> Path | None:
    """One of the original files: with the set's name before it, in its folder, or as it is."""
    candidates = [directory / f"{name}-{file}", directory / name / file]
    if name == "mnist":
        # Fashion-MNIST has the same file names: bare ones are taken for MNIST only.
        candidates.append(directory / file)
    return next((path for path in candidates if path.is_file()), None)


def _read_tfds(name: str, directory: Path) -> Parts:
    """A set of tensorflow-datasets, prepared first if that is possible.

    Reading needs no TensorFlow (array_record); preparing does. Images come in
    TFDS's own order, which is fixed but is not the original files'.
    """
    if not _tfds_folders(name, directory):
        _prepare_tfds(name, directory)
    import tensorflow_datasets as tfds

    # Opened by its folder, whatever version it is: by its name, TFDS would look
    # for the version that it has code for, and ask the network about it.
    folder = max(_tfds_folders(name, directory))
    try:
        with _quiet_absl():
            builder = tfds.builder_from_directory(str(folder))
            return Parts(folder, _tfds_part(builder, "train"), _tfds_part(builder, "test"))
    except ImportError:  # A missing decoder is no fault of the folder.
        raise
    # TFDS and array_record fail in many ways on a damaged or half-written folder.
    except Exception as error:
        raise ZoojaxError(
            f"{folder}: not a data set that tensorflow-datasets reads as array_record "
            f"({first_line(error)}); delete it and prepare it again: "
            f"{_tfds_command(name, directory)}"
        ) from error


def _tfds_part(builder, split: str) -> RawPart:
    """Decodes one split."""
    source = builder.as_data_source(split=split)
    images = np.empty((len(source), *builder.info.features["image"].shape), dtype=np.uint8)
    labels = np.empty(len(source), dtype=np.int32)
    for index, example in enumerate(source):
        images[index], labels[index] = example["image"], example["label"]
    return RawPart(images, labels)


def _tfds_folders(name: str, directory: Path) -> list[Path]:
    """The versions of a set that TFDS has prepared."""
    return [path.parent for path in (directory / name).glob("*/dataset_info.json")]


def _tfds_command(name: str, directory: Path) -> str:
    return f"tfds build {name} --file_format=array_record --data_dir={shlex.quote(str(directory))}"


def _prepare_tfds(name: str, directory: Path) -> None:
    """Downloads the set and writes it as array_record; fails within seconds if it cannot."""
    unprepared = f"{name} is not prepared in {directory}"
    if KNOWN[name].read is _read_mnist:
        unprepared += ", nor are its four original .gz files there,"
    if importlib.util.find_spec("tensorflow") is None:
        raise ZoojaxError(
            f"{unprepared} and preparing needs TensorFlow: pip install 'zoojax[tfds]', then: "
            f"{_tfds_command(name, directory)}"
        )
    # TFDS itself retries for minutes.
    _need_network(
        KNOWN[name].url,
        f"{unprepared}; where there is a network, run: {_tfds_command(name, directory)}",
    )
    import tensorflow_datasets as tfds

    try:
        tfds.builder(
            name, data_dir=str(directory), file_format="array_record"
        ).download_and_prepare()
    # Downloads fail in many ways, and none is a defect of zoojax.
    except Exception as error:
        raise ZoojaxError(
            f"{name} could not be prepared in {directory} ({first_line(error)}); try: "
            f"{_tfds_command(name, directory)}"
        ) from error


@contextlib.contextmanager
def _quiet_absl() -> Iterator[None]:
    """Drops TFDS's warnings, which concern its own defaults."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _need_network(url: str, otherwise: str) -> None:
    """Raises a ZoojaxError ending in `otherwise` if `url` does not answer within seconds."""
    try:
        urllib.request.urlopen(url, timeout=PROBE_SECONDS).close()
    except (OSError, http.client.HTTPException) as error:
        raise ZoojaxError(f"no answer from {url} ({first_line(error)}): {otherwise}") from error


KNOWN = {
    "digits": KnownSet(_read_digits, sizes=(1797, 0), default_train=1200, default_val=200),
    "usps": KnownSet(
        _read_usps,
        sizes=(7291, 2007),
        default_train=6000,
        default_val=1291,
        url="https://www.openml.org/api/v1/json/data/41082",
    ),
    "mnist": KnownSet(
        _read_mnist,
        sizes=(60000, 10000),
        default_train=50000,
        default_val=10000,
        url="https://storage.googleapis.com/cvdf-datasets/mnist/t10k-labels-idx1-ubyte.gz",
    ),
    "fashion_mnist": KnownSet(
        _read_mnist,
        sizes=(60000, 10000),
        default_train=50000,
        default_val=10000,
        url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-labels-idx1-ubyte.gz",
    ),
    "svhn_cropped": KnownSet(
        _read_tfds,
        sizes=(73257, 26032),
        default_train=60000,
        default_val=13257,
        url="http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
    ),
    "cifar10": KnownSet(
        _read_tfds,
        sizes=(50000, 10000),
        default_train=42000,
        default_val=8000,
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    ),
    "stl10": KnownSet(
        _read_tfds,
        sizes=(5000, 8000),
        default_train=4200,
        default_val=800,
        url="http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
    ),
}
