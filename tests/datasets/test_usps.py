"""USPS from its three sources, and errors for missing or damaged files."""

import bz2
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.support.image_sets import RNG_SEED, assert_valid, one_line, set_url, shrink
from zoojax.datasets import loading, registry
from zoojax.datasets.specs import DataSpec
from zoojax.errors import ZoojaxError


@pytest.fixture
def usps_directory():
    directory = os.environ.get("ZOOJAX_DATA")
    if directory is None or not Path(directory, "usps.h5").is_file():
        pytest.skip("no usps.h5: set ZOOJAX_DATA to the directory that has it")
    return Path(directory)


def test_official_usps_file(usps_directory):
    usps = loading.load(DataSpec("usps"), usps_directory)
    assert_valid(usps, (6000, 1291, 2007))
    assert usps.num_classes == 10
    with h5py.File(usps_directory / "usps.h5") as file:
        official = np.asarray(file["test/target"])
    np.testing.assert_array_equal(usps.test.labels, official)


def test_usps_pixels_match_the_original_pipeline(usps_directory):
    folder = os.environ.get("ZOOJAX_REFERENCE")
    if folder is None:
        pytest.skip("no reference images: set ZOOJAX_REFERENCE to their directory")
    with np.load(Path(folder, "logits_first64_test.npz")) as reference:
        images, labels = reference["images"], reference["labels"]
    spec = DataSpec("usps", 28, 1, 0.1307, 0.3081, train=6000, val=1291)
    test = loading.load(spec, usps_directory).test
    np.testing.assert_allclose(test.images[:64], images.transpose(0, 2, 3, 1), atol=1e-6)
    np.testing.assert_array_equal(test.labels[:64], labels)


def random_usps(count):
    """Pixels from -1 to 1 with three decimals, as in USPS, and labels."""
    rng = np.random.default_rng(RNG_SEED + count)
    return rng.integers(-1000, 1001, (count, 256)) / 1000, rng.integers(0, 10, count)


def write_usps_h5(path):
    with h5py.File(path, "w") as file:
        for part, count in (("train", 40), ("test", 10)):
            pixels, labels = random_usps(count)
            file[f"{part}/data"] = (pixels.astype(np.float32) + 1) / 2
            file[f"{part}/target"] = labels


def write_usps_libsvm(directory):
    for name, count in (("usps.bz2", 40), ("usps.t.bz2", 10)):
        rows = [
            f"{label + 1} " + " ".join(f"{i}:{pixel:g}" for i, pixel in enumerate(row, 1))
            for row, label in zip(*random_usps(count), strict=True)
        ]
        (directory / name).write_bytes(bz2.compress("\n".join(rows).encode()))


def test_usps_is_identical_from_both_file_formats(monkeypatch, tmp_path):
    shrink(monkeypatch, "usps", (40, 10), 30, 10)
    (tmp_path / "h5").mkdir()
    write_usps_h5(tmp_path / "h5" / "usps.h5")
    write_usps_libsvm(tmp_path)
    from_libsvm = loading.load(DataSpec("usps"), tmp_path)
    assert_valid(from_libsvm, (30, 10, 10))
    assert from_libsvm.hash == loading.load(DataSpec("usps"), tmp_path / "h5").hash


def test_usps_with_another_size_is_refused(tmp_path):
    write_usps_h5(tmp_path / "usps.h5")
    with pytest.raises(ZoojaxError, match=r"usps\.h5: 40 training and 10 test images, but"):
        loading.load(DataSpec("usps"), tmp_path)


@pytest.mark.parametrize("name", ["usps.h5", "usps.bz2", "usps.t.bz2"])
@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda _: b"x"])
def test_damaged_usps_file_is_named(tmp_path, name, damage):
    if name == "usps.h5":
        write_usps_h5(tmp_path / name)
    else:
        write_usps_libsvm(tmp_path)
    (tmp_path / name).write_bytes(damage((tmp_path / name).read_bytes()))
    with pytest.raises(ZoojaxError) as caught:
        loading.load(DataSpec("usps"), tmp_path)
    assert str(tmp_path / name) in one_line(caught)


def test_usps_h5_without_groups(tmp_path):
    h5py.File(tmp_path / "usps.h5", "w").close()
    with pytest.raises(ZoojaxError, match=r"usps\.h5: damaged"):
        loading.load(DataSpec("usps"), tmp_path)


def test_usps_with_one_of_two_files(tmp_path):
    write_usps_libsvm(tmp_path)
    (tmp_path / "usps.t.bz2").unlink()
    with pytest.raises(ZoojaxError, match=r"lacks usps\.t\.bz2"):
        loading.load(DataSpec("usps"), tmp_path)


def test_usps_from_openml(monkeypatch, tmp_path):
    shrink(monkeypatch, "usps", (40, 10), 30, 10)
    write_usps_libsvm(tmp_path)
    (tmp_path / "cached" / "openml").mkdir(parents=True)
    parts = [random_usps(40), random_usps(10)]
    pixels, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    table = (pixels, (labels + 1).astype(str).astype(object))
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda *_, **__: table)
    with pytest.raises(ZoojaxError, match="not the official training set"):
        loading.load(DataSpec("usps"), tmp_path / "cached")
    counts = np.bincount(parts[0][1], minlength=10).tolist()
    monkeypatch.setattr(registry, "_USPS_TRAIN_COUNTS", counts)
    from_openml = loading.load(DataSpec("usps"), tmp_path / "cached")
    assert from_openml.hash == loading.load(DataSpec("usps"), tmp_path).hash


def test_missing_usps_explains_where_to_download_it(monkeypatch, tmp_path):
    set_url(monkeypatch, "usps", "http://127.0.0.1:9/")
    with pytest.raises(ZoojaxError) as caught:
        loading.load(DataSpec("usps"), tmp_path)
    message = one_line(caught)
    assert all(part in message for part in (str(tmp_path), "usps.h5", "usps.t.bz2", "https://"))
