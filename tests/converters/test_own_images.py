"""Reading a zoo's own images."""

import numpy as np
import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from tests.support.pickled_datasets import foreign_class, image_file
from tests.support.torch_files import rejection, saved
from zoojax.converters.pickled_images import read_image_set


def test_images_are_bit_identical_and_channels_last(tmp_path):
    path = tmp_path / "dataset.pt"
    content = image_file()
    del content["valset"]
    path.write_bytes(saved(content))
    splits, seed = read_image_set(path)
    assert list(splits) == ["train", "test"]
    assert seed == 42
    for name, split in splits.items():
        dataset = content[f"{name}set"]
        assert isinstance(dataset, TensorDataset)
        pixels, labels = dataset.tensors
        assert split.images.flags.c_contiguous
        assert split.images.dtype == np.float32 and split.labels.dtype == np.int32
        np.testing.assert_array_equal(split.images, pixels.permute(0, 2, 3, 1).numpy())
        np.testing.assert_array_equal(split.labels, labels.numpy())
    path.write_bytes(saved({"trainset": content["trainset"]}))
    assert read_image_set(path).seed is None


@pytest.mark.parametrize(
    "tensors, reason",
    [
        ((torch.zeros(3, 1, 2, 2),), "train: not images and labels"),
        ((torch.zeros(3, 2), torch.zeros(3).long()), "not [n, channels, height, width] with [n]"),
        ((torch.zeros(3, 1, 2, 2), torch.zeros(3, 1).long()), "with labels (3, 1)"),
        ((torch.zeros(3, 1, 2, 2).byte(), torch.zeros(3).long()), "is uint8, not"),
        ((torch.zeros(3, 1, 2, 2), torch.zeros(3)), "is float32, not int64"),
        ((torch.zeros(2, 1, 2, 2), torch.tensor([0, -1])), "labels from -1 to 0"),
        ((torch.zeros(2, 1, 2, 2), torch.tensor([0, 2**31])), "labels from 0 to 2147483648"),
    ],
)
def test_other_tensors_than_images_are_rejected(tmp_path, tensors, reason):
    content = saved({"trainset": TensorDataset(*tensors)})
    assert reason in rejection(tmp_path / "dataset.pt", content, read_image_set)


def foreign_dataset(**state):
    """An instance of a class that `__main__` of a training script defines."""
    with foreign_class("__main__.CachedDataset") as cls:
        dataset = cls()
        dataset.__dict__.update(state)
        return saved({"trainset": dataset})


def test_images_of_foreign_classes(tmp_path):
    images, labels = torch.rand(3, 1, 2, 2), torch.tensor([2, 0, 1])
    path = tmp_path / "dataset.pt"
    path.write_bytes(foreign_dataset(data=images, targets=labels, transform=None))
    train = read_image_set(path).splits["train"]
    np.testing.assert_array_equal(train.images, images.permute(0, 2, 3, 1).numpy())
    assert train.labels.tolist() == [2, 0, 1]
    moved = foreign_dataset(data=images, targets=labels, transform="flip")
    assert "transformed when they are used" in rejection(path, moved, read_image_set)
    unsafe = foreign_dataset(data=images, targets=labels, transform=torch.nn.ReLU())
    assert "torch.nn.modules.activation.ReLU" in rejection(path, unsafe, read_image_set)


def test_subsets(tmp_path):
    path, images = tmp_path / "dataset.pt", torch.rand(4, 1, 2, 2)
    whole = TensorDataset(images, torch.arange(4))
    path.write_bytes(saved({"trainset": Subset(Subset(whole, [3, 1, 0]), [2, 0])}))
    train = read_image_set(path).splits["train"]
    assert train.labels.tolist() == [0, 3]
    np.testing.assert_array_equal(train.images, images[[0, 3]].permute(0, 2, 3, 1).numpy())
    for indices, reason in {
        (4,): "outside its images",
        (-1,): "not whole numbers",
        (0.5,): "not whole numbers",
        (0,) * 9: "outside its images",
    }.items():
        content = saved({"trainset": Subset(whole, list(indices))})
        assert reason in rejection(path, content, read_image_set)
    deep = whole
    for _ in range(20):
        deep = Subset(deep, [0])
    assert "nested too deeply" in rejection(path, saved({"trainset": deep}), read_image_set)


def test_reference_images_match_torch(reference):
    path = reference / "tune_zoo_usps_uniform" / "dataset.pt"
    splits, seed = read_image_set(path)
    assert seed == 42
    with torch.serialization.safe_globals([TensorDataset]):
        expected = torch.load(path, weights_only=True)
    assert [len(split.labels) for split in splits.values()] == [300, 60, 60]
    for name, split in splits.items():
        pixels, labels = expected[f"{name}set"].tensors
        np.testing.assert_array_equal(split.images, pixels.permute(0, 2, 3, 1).numpy())
        np.testing.assert_array_equal(split.labels, labels.numpy())
