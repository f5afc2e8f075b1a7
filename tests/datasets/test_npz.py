"""Users' own image sets as .npz files."""

import io
from pathlib import Path

import numpy as np
import pytest

from tests.support.image_sets import assert_valid, one_line, random_images
from zoojax.datasets import loading
from zoojax.datasets.specs import DataSpec
from zoojax.errors import ZoojaxError


@pytest.fixture
def npz(tmp_path):
    """Writes arrays to a file and returns its path as a spec's name."""

    def write(**arrays):
        np.savez(tmp_path / "images.npz", **arrays)
        return str(tmp_path / "images.npz")

    return write


def test_npz_without_parts(npz):
    images, labels = random_images(100, 28)
    name = npz(images=images[..., 0], labels=labels % 4)
    loaded = loading.load(DataSpec(name))
    assert_valid(loaded, (70, 15, 15))
    assert loaded.name == name
    assert loaded.num_classes == 4
    assert_valid(loading.load(DataSpec(name, train=80, val=10)), (80, 10, 10))


def test_npz_of_floats_is_equivalent_to_uint8(npz):
    images, labels = random_images(20, 28, 3)
    spec = DataSpec(npz(images=images, labels=labels), channels=3)
    from_bytes = loading.load(spec).train.images
    npz(images=images / 255, labels=labels)
    np.testing.assert_allclose(loading.load(spec).train.images, from_bytes, atol=1e-6)


def test_npz_with_parts(npz):
    images, labels = random_images(40, 14)
    parts = {"train_images": images, "train_labels": labels}
    parts |= {"test_images": images[:7], "test_labels": labels[:7]}
    loaded = loading.load(DataSpec(npz(**parts), size=14, mean=0, std=1))
    assert_valid(loaded, (34, 6, 7), side=14)
    np.testing.assert_array_equal(loaded.test.images, images[:7] / np.float32(255))
    loaded = loading.load(
        DataSpec(npz(**parts, val_images=images[:5], val_labels=labels[:5]), size=14)
    )
    assert_valid(loaded, (40, 5, 7), side=14)
    np.testing.assert_array_equal(np.sort(loaded.val.labels), np.sort(labels[:5]))


IMAGES = np.zeros((4, 8, 8), np.uint8)
LABELS = np.arange(4)


@pytest.mark.parametrize(
    "arrays, reason",
    [
        ({}, "lacks train_images and train_labels (it has nothing)"),
        ({"images": IMAGES, "y": LABELS}, "lacks labels (it has images, y)"),
        ({"train_images": IMAGES, "train_labels": LABELS}, "lacks test_images and test_labels"),
        ({"images": IMAGES[:3], "labels": LABELS}, "3 images and 4 labels"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "images is empty"),
        ({"images": IMAGES[0], "labels": LABELS}, "shape (8, 8)"),
        ({"images": np.zeros((4, 3, 8, 8), np.uint8), "labels": LABELS}, "channels last"),
        ({"images": IMAGES.astype(int), "labels": LABELS}, "type int64"),
        ({"images": IMAGES + 1.5, "labels": LABELS}, "from 1.5 to 1.5"),
        ({"images": IMAGES * np.nan, "labels": LABELS}, "must lie in [0, 1]"),
        ({"images": IMAGES, "labels": LABELS * 1.0}, "type float64"),
        ({"images": IMAGES, "labels": LABELS[:, None]}, "shape (4, 1)"),
        ({"images": IMAGES, "labels": LABELS - 1}, "runs from -1 to 2"),
        ({"images": IMAGES, "labels": LABELS + 2**31}, "number the classes from 0"),
        ({"images": IMAGES, "labels": LABELS.astype(object)}, "Object arrays cannot be loaded"),
        ({"images": IMAGES[:1], "labels": LABELS[:1]}, "give at least 3"),
    ],
)
def test_invalid_npz_arrays(npz, arrays, reason):
    name = npz(**arrays)
    with pytest.raises(ZoojaxError) as caught:
        loading.load(DataSpec(name))
    message = one_line(caught)
    assert name in message
    assert reason in message


def test_npz_parts_of_different_shapes(npz):
    parts = {"train_images": IMAGES, "train_labels": LABELS}
    parts |= {"test_images": IMAGES[:, :7], "test_labels": LABELS}
    with pytest.raises(ZoojaxError, match="different shapes"):
        loading.load(DataSpec(npz(**parts)))


def test_npz_split_larger_than_the_set(npz):
    with pytest.raises(ZoojaxError, match="train=4 and val=1 leave only"):
        loading.load(DataSpec(npz(images=IMAGES, labels=LABELS), train=4, val=1))


def npy_content():
    content = io.BytesIO()
    np.save(content, IMAGES)
    return content.getvalue()


@pytest.mark.parametrize("content", [b"", b"text", npy_content()], ids=["empty", "text", "npy"])
def test_file_that_is_not_an_npz(tmp_path, content):
    path = tmp_path / "images.npz"
    path.write_bytes(content)
    with pytest.raises(ZoojaxError) as caught:
        loading.load(DataSpec(str(path)))
    assert f"{path}: not a readable .npz" in one_line(caught)


@pytest.mark.parametrize("fraction", [0.3, 0.9, 0.99])
def test_truncated_npz(tmp_path, npz, fraction):
    path = Path(npz(images=random_images(4, 28)[0], labels=LABELS))
    path.write_bytes(path.read_bytes()[: int(fraction * path.stat().st_size)])
    with pytest.raises(ZoojaxError, match=r"images\.npz: not a readable"):
        loading.load(DataSpec(str(path)))


def test_missing_npz(tmp_path):
    with pytest.raises(ZoojaxError, match=r"nowhere\.npz is missing"):
        loading.load(DataSpec(str(tmp_path / "nowhere.npz")))
