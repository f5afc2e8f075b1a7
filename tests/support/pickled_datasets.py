"""Pickled datasets of models and images, as the zoos' code saves them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from types import ModuleType
from unittest import mock

import torch
from torch.utils.data import TensorDataset

from tests.support.torch_files import saved, state_dict

BASE = "checkpoints_to_datasets.dataset_base.ModelDatasetBase"
LAYERS = [(0, "conv2d"), (3, "conv2d"), (6, "conv2d"), (9, "fc"), (11, "fc")]
PATHS = [PurePosixPath("/zoos/usps/a"), PurePosixPath("/zoos/usps/b")]


@contextmanager
def foreign_class(named: str) -> Iterator[type]:
    """A class in a module that exists only while its instances are pickled."""
    module, _, name = named.rpartition(".")
    packages = module.split(".")
    added = {".".join(packages[: i + 1]): ModuleType(package) for i, package in enumerate(packages)}
    cls = type(name, (), {"__module__": module})
    setattr(added[module], name, cls)
    with mock.patch.dict(sys.modules, added):
        yield cls


def states() -> list[dict[str, torch.Tensor]]:
    """Two different state dicts."""
    return [state_dict(), {name: -tensor for name, tensor in state_dict().items()}]


def attributes(**changes: object) -> dict[str, object]:
    """The attributes of a dataset of two checkpoints."""
    return {
        "layer_lst": LAYERS,
        "mode": "checkpoint",
        "use_bias": True,
        "train_val_test": "train",
        "data_in": states(),
        "data_out": states(),
        "labels_in": ["a#_#epoch_5", "b#_#epoch_5"],
        "paths": PATHS,
        "epochs": [5, 5],
        "properties": {"test_acc": [0.5, None], "optim": ["adam", "sgd"]},
        **changes,
    }


def saved_dataset(
    named: str = BASE, single: bool = False, zipped: bool = True, **changes: object
) -> bytes:
    """A file with a dataset of two checkpoints, as a split or as a single object."""
    with foreign_class(named) as cls:
        dataset = cls()
        dataset.__dict__.update(attributes(**changes))
        return saved(dataset if single else {"trainset": dataset, "about": "a test"}, zipped)


def image_file(n: int = 6) -> dict[str, TensorDataset | int]:
    """The content of a zoo's dataset.pt with n images per split."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(3, n, 3, 4, 5, generator=generator)
    labels = torch.arange(3 * n).reshape(3, n)
    names = ["trainset", "valset", "testset"]
    sets = zip(names, pixels, labels, strict=True)
    return {"dataset_seed": 42} | {name: TensorDataset(*tensors) for name, *tensors in sets}
