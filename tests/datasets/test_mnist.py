"""MNIST and Fashion-MNIST from their original files."""

import gzip
import struct

import numpy as np
import pytest

from tests.support.image_sets import (
    assert_valid,
    hide_tensorflow,
    one_line,
    random_images,
    shrink,
)
from zoojax.datasets import loading
from zoojax.datasets.specs import DataSpec
from zoojax.errors import ZoojaxError


def write_idx(directory, prefix=""):
    directory.mkdir(exist_ok=True)
    for part, count in (("train", 40), ("t10k", 10)):
        images, labels = random_images(count, 28)
        for kind, array in (("images-idx3", images[..., 0]), ("labels-idx1", labels)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            path = directory / f"{prefix}{part}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


@pytest.mark.parametrize(
    "name, folder, prefix",
    [
        ("mnist", ".", ""),
        ("mnist", ".", "mnist-"),
        ("mnist", "mnist", ""),
        ("fashion_mnist", ".", "fashion_mnist-"),
        ("fashion_mnist", "fashion_mnist", ""),
    ],
)
def test_idx_files(monkeypatch, tmp_path, name, folder, prefix):
    shrink(monkeypatch, name, (40, 10), 30, 10)
    write_idx(tmp_path / folder, prefix)
    mnist = loading.load(DataSpec(name, mean=0, std=1), tmp_path)
    assert_valid(mnist, (30, 10, 10))
    images, labels = random_images(10, 28)
    np.testing.assert_array_equal(mnist.test.images, images / np.float32(255))
    np.testing.assert_array_equal(mnist.test.labels, labels)


def test_idx_files_without_prefix_are_not_fashion_mnist(monkeypatch, tmp_path):
    hide_tensorflow(monkeypatch)
    write_idx(tmp_path)
    with pytest.raises(ZoojaxError, match="fashion_mnist is not prepared"):
        loading.load(DataSpec("fashion_mnist"), tmp_path)


def test_missing_idx_files_are_named(tmp_path):
    write_idx(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ZoojaxError, match=r"lacks train-labels-idx1-ubyte\.gz next to"):
        loading.load(DataSpec("mnist"), tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda _: gzip.compress(b"\0\0\x08"),
        lambda content: gzip.compress(gzip.decompress(content)[:-1]),
        lambda _: b"not gzip",
    ],
)
def test_damaged_idx_file_is_named(tmp_path, damage):
    write_idx(tmp_path)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ZoojaxError) as caught:
        loading.load(DataSpec("mnist"), tmp_path)
    assert f"{path}: damaged" in one_line(caught)


def test_idx_images_and_labels_that_do_not_match(tmp_path):
    write_idx(tmp_path)
    images, labels = (tmp_path / f"t10k-{k}-ubyte.gz" for k in ("images-idx3", "labels-idx1"))
    labels.write_bytes(images.read_bytes())
    with pytest.raises(ZoojaxError, match="do not match the labels"):
        loading.load(DataSpec("mnist"), tmp_path)
