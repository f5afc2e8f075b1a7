"""The named image sets: where they are stored and how they are downloaded.

`zoojax.datasets.readers` reads the files; `zoojax.datasets.loading` splits and transforms the
images.
"""

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np

from zoojax.datasets import readers, tfds
from zoojax.datasets.network import require_network
from zoojax.datasets.readers import RawPart, RawSet, SourceParts
from zoojax.errors import ZoojaxError
from zoojax.text import first_line

# Images per digit in the official USPS training set. OpenML serves training and test images in
# one table; these counts verify that the training images come first.
_USPS_TRAIN_COUNTS = [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644]

_IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)

_LIBSVM_URL = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass.html#usps"


@dataclasses.dataclass(frozen=True)
class KnownSet:
    """A named image set.

    Attributes:
        read: Finds and reads the parts: ``read(name, directory, url)``.
        sizes: Number of images in the official training and test sets (0 if there is no test
            set).
        default_train: Default number of training images.
        default_val: Default number of validation images.
        url: A file of the download, requested first to check the network connection.
        classes: Number of classes.
    """

    read: Callable[[str, Path, str], SourceParts]
    sizes: tuple[int, int]
    default_train: int
    default_val: int
    url: str = ""
    classes: int = 10


def read_known(name: str, directory: Path) -> RawSet:
    """Reads a named image set.

    Args:
        name: A key of `KNOWN`.
        directory: The data directory, which contains the files or to which they are downloaded.

    Raises:
        ZoojaxError: If the files are missing and cannot be downloaded, are damaged, or do not
            have as many images as the official set.
    """
    known = KNOWN[name]
    origin, train, test = known.read(name, directory, known.url)
    sizes = (len(train.labels), 0 if test is None else len(test.labels))
    # A name stands for one fixed set: zoos trained on a subset with the same name would look
    # comparable but would not be.
    if sizes != known.sizes:
        raise ZoojaxError(
            f"{origin}: {sizes[0]} training and {sizes[1]} test images, but the official {name} "
            f"has {known.sizes[0]} and {known.sizes[1]}: download the files again, or give a set "
            "of your own as a .npz file"
        )
    return RawSet(
        train=train,
        val=None,
        test=test,
        num_classes=known.classes,
        default_train=known.default_train,
        default_val=known.default_val,
        default_test=known.sizes[0] - known.default_train - known.default_val,
    )


def _read_digits(name: str, directory: Path, url: str) -> SourceParts:
    """Reads scikit-learn's bundled digits (1797 images of 8x8) without importing scikit-learn.

    The import takes seconds.
    """
    del name, directory, url
    spec = importlib.util.find_spec("sklearn")
    assert spec is not None and spec.origin is not None, "scikit-learn is a dependency"
    rows = np.loadtxt(Path(spec.origin).parent / "datasets/data/digits.csv.gz", delimiter=",")
    pixels = readers.to_uint8(rows[:, :-1].reshape(-1, 8, 8, 1) / 16)
    part = RawPart(pixels, rows[:, -1].astype(np.int32))
    return SourceParts("scikit-learn's digits", part, None)


def _read_usps(name: str, directory: Path, url: str) -> SourceParts:
    """Reads USPS from ``usps.h5``, from torchvision's two ``.bz2`` files or from OpenML."""
    if (path := directory / "usps.h5").is_file():
        return SourceParts(path, *readers.read_usps_h5(path))
    paths = [directory / "usps.bz2", directory / "usps.t.bz2"]
    missing = [path.name for path in paths if not path.is_file()]
    if not missing:
        return SourceParts(paths[0], *map(readers.read_usps_libsvm, paths))
    if len(missing) == 1:
        raise ZoojaxError(
            f"{name}: {directory} lacks {missing[0]}; put it in the folder of the other file"
        )
    return _fetch_usps(name, directory, url)


def _fetch_usps(name: str, directory: Path, url: str) -> SourceParts:
    """Reads USPS from OpenML; the download is stored in the data directory."""
    from sklearn.datasets import fetch_openml

    by_hand = f"put usps.h5, or usps.bz2 and usps.t.bz2 from {_LIBSVM_URL}, there"
    if not (directory / "openml").is_dir():
        require_network(url, f"{name} is not in {directory}; {by_hand}")
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
        # The labels are strings from "1" to "10".
        labels = np.asarray(digits).astype(np.float64).astype(np.int32) - 1
        split = KNOWN[name].sizes[0]
        if np.bincount(labels[:split], minlength=10).tolist() != _USPS_TRAIN_COUNTS:
            raise ValueError("its first rows are not the official training set")
        return SourceParts(
            directory / "openml",
            readers.usps_part(pixels[:split], labels[:split]),
            readers.usps_part(pixels[split:], labels[split:]),
        )
    except (OSError, ValueError) as error:
        raise ZoojaxError(
            f"{name}: OpenML's copy cannot be used ({first_line(error)}) and {directory} has no "
            f"other; {by_hand}"
        ) from error


def _read_mnist(name: str, directory: Path, url: str) -> SourceParts:
    """Reads MNIST or Fashion-MNIST from the four original files, otherwise from TFDS."""
    files = {file: _find_idx(name, file, directory) for file in _IDX_FILES}
    paths = [path for path in files.values() if path is not None]
    if len(paths) == len(_IDX_FILES):
        parts = [readers.read_idx_part(*paths[i : i + 2]) for i in (0, 2)]
        return SourceParts(paths[0].parent, *parts)
    if paths and not tfds.prepared_folders(name, directory):
        missing = [file for file, path in files.items() if path is None]
        raise ZoojaxError(f"{name}: {directory} lacks {', '.join(missing)} next to {paths[0].name}")
    return tfds.read(name, directory, url, other_files="its four original .gz files")


def _find_idx(name: str, file: str, directory: Path) -> Path | None:
    """Finds an original file: in the set's folder, or in the directory with or without prefix."""
    candidates = [directory / f"{name}-{file}", directory / name / file]
    if name == "mnist":
        # Fashion-MNIST uses the same file names; files without prefix are always MNIST.
        candidates.append(directory / file)
    return next((path for path in candidates if path.is_file()), None)


def _with_test_set(
    read: Callable[[str, Path, str], SourceParts],
    sizes: tuple[int, int],
    default_train: int,
    url: str,
    classes: int = 10,
) -> KnownSet:
    """Describes a set with an official test set: the other training images are for validation."""
    return KnownSet(read, sizes, default_train, sizes[0] - default_train, url, classes)


KNOWN = {
    "digits": KnownSet(_read_digits, sizes=(1797, 0), default_train=1200, default_val=200),
    "usps": _with_test_set(
        _read_usps, (7291, 2007), 6000, "https://www.openml.org/api/v1/json/data/41082"
    ),
    "mnist": _with_test_set(
        _read_mnist,
        (60000, 10000),
        50000,
        "https://storage.googleapis.com/cvdf-datasets/mnist/t10k-labels-idx1-ubyte.gz",
    ),
    "fashion_mnist": _with_test_set(
        _read_mnist,
        (60000, 10000),
        50000,
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-labels-idx1-ubyte.gz",
    ),
    "svhn_cropped": _with_test_set(
        tfds.read,
        (73257, 26032),
        60000,
        "http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
    ),
    "cifar10": _with_test_set(
        tfds.read,
        (50000, 10000),
        42000,
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    ),
    "cifar100": _with_test_set(
        tfds.read,
        (50000, 10000),
        40000,
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        classes=100,
    ),
    "stl10": _with_test_set(
        tfds.read, (5000, 8000), 4200, "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"
    ),
}
