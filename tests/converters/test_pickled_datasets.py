"""Reading pickled datasets of models: without importing classes, and only harmless ones."""

import os
import pickle
import sys
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
import torch

from tests.support.pickled_datasets import (
    BASE,
    LAYERS,
    PATHS,
    image_file,
    saved_dataset,
    states,
)
from tests.support.torch_files import (
    BIG,
    PAYLOADS,
    Evil,
    assert_equal,
    payload_objects,
    pickled,
    rejection,
    saved,
    state_dict,
    storage,
    tensor,
    text,
    zip_file,
)
from zoojax.converters.checkpoint_files import read_state
from zoojax.converters.pickled_datasets import read_model_dataset
from zoojax.converters.pickled_images import read_image_set
from zoojax.converters.sources import from_dataset
from zoojax.text import is_printable


def vectors() -> list[torch.Tensor]:
    return [torch.cat([tensor.flatten() for tensor in state.values()]) for state in states()]


@pytest.mark.parametrize(
    "named",
    [
        BASE,
        "checkpoints_to_datasets.dataset_simclr.SimCLRDataset",
        "ghrp.checkpoints_to_datasets.dataset_simclr.SimCLRDataset",
        "checkpoints_to_datasets.random_erasing.Anything",
        "my_zoo.MyDataset",
    ],
)
def test_state_dicts_are_bit_identical(tmp_path, named):
    path = tmp_path / "dataset.pt"
    path.write_bytes(saved_dataset(named))
    (split,) = read_model_dataset(path)
    assert named.partition(".")[0] not in sys.modules
    assert split.name == "train"
    assert split.vectors is None and split.states is not None
    for actual, expected in zip(split.states, states(), strict=True):
        assert_equal(actual, expected)
    assert split.layers == LAYERS
    assert split.use_bias
    assert split.paths == ["/zoos/usps/a", "/zoos/usps/b"]
    assert split.epochs == [5, 5]
    assert split.properties == {"test_acc": [0.5, None], "optim": ["adam", "sgd"]}
    assert split.skipped_properties == []


@pytest.mark.parametrize("stacked", [False, True])
def test_vectors_are_bit_identical(tmp_path, stacked):
    data = torch.stack(vectors()) if stacked else vectors()
    path = tmp_path / "dataset.pt"
    path.write_bytes(saved_dataset(data_in=data, mode="vector", use_bias=False))
    (split,) = read_model_dataset(path)
    assert split.states is None and split.vectors is not None
    assert split.vectors.dtype == np.float32
    np.testing.assert_array_equal(split.vectors, np.stack([v.numpy() for v in vectors()]))
    assert not split.use_bias


def test_single_object_and_missing_attributes(tmp_path):
    path = tmp_path / "dataset.pt"
    content = saved_dataset(single=True, train_val_test="val", properties=None, layer_lst=None)
    path.write_bytes(content)
    (split,) = read_model_dataset(path)
    assert (split.name, split.properties, split.layers) == ("val", {}, [])
    path.write_bytes(saved_dataset(data_in=[], paths=[], epochs=[], properties={}))
    (split,) = read_model_dataset(path)
    assert split.states == []


def test_paths_of_all_systems(tmp_path):
    path = tmp_path / "dataset.pt"
    path.write_bytes(saved_dataset(paths=[PureWindowsPath("C:\\zoos\\a"), "zoos/b"]))
    assert read_model_dataset(path)[0].paths == ["C:/zoos/a", "zoos/b"]


def test_properties_other_than_scalars_are_skipped(tmp_path):
    path = tmp_path / "dataset.pt"
    path.write_bytes(
        saved_dataset(properties={"a": [1, 2], "b": [[1], [2]], "c": [1], "d": {"x": 1}})
    )
    (split,) = read_model_dataset(path)
    assert split.properties == {"a": [1, 2]}
    assert split.skipped_properties == ["b", "c", "d"]


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"data_in": None}, "no data_in"),
        ({"data_in": torch.zeros(3)}, "vectors of shape (3,)"),
        ({"data_in": torch.zeros(3, 4)}, "3 checkpoints, 2 paths, 2 epochs"),
        ({"data_in": [torch.zeros(3), torch.zeros(4)]}, "differ in length"),
        ({"data_in": [torch.zeros(3), state_dict()]}, "differ in length"),
        ({"data_in": [state_dict(), torch.zeros(3)]}, "a Tensor, not a state dict"),
        ({"data_in": [torch.zeros(3).double()] * 2}, "float64, not float32"),
        ({"data_in": [{"a": torch.zeros(3).int()}] * 2}, "'a' is int32, not float32"),
        ({"paths": PATHS[:1]}, "2 checkpoints, 1 paths, 2 epochs"),
        ({"paths": None}, "paths are not a list"),
        ({"paths": [1, 2]}, "a path is a int"),
        ({"paths": [PurePosixPath("a" * 40_000)] * 2}, "absurdly long"),
        ({"epochs": [5, "6"]}, "epochs are not a list of integers"),
        ({"epochs": None}, "epochs are not a list of integers"),
        ({"layer_lst": [(0, 1)]}, "layer_lst"),
        ({"data_in": np.zeros(3)}, "no data_in, state dicts or vectors"),
    ],
)
def test_invalid_attributes_are_rejected(tmp_path, changes, reason):
    path = tmp_path / "dataset.pt"
    assert reason in rejection(path, saved_dataset(**changes), read_model_dataset)


@pytest.mark.parametrize(
    "value, reason",
    [
        ([1], "a list, not a pickled dataset"),
        (state_dict(), "without trainset, valset or testset"),
        ({"trainset": 3}, "without trainset, valset or testset"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
    ],
)
@pytest.mark.parametrize("read", [read_model_dataset, read_image_set])
def test_other_files_are_rejected(tmp_path, read, value, reason):
    assert reason in rejection(tmp_path / "dataset.pt", saved(value), read)


def test_memory_of_shared_tensors_is_bounded(tmp_path):
    many = [torch.zeros(10_000)] * 1000
    for data in (many, [{"w": shared} for shared in many]):
        content = saved_dataset(data_in=data, paths=["a"] * 1000, epochs=[1] * 1000)
        reason = rejection(
            tmp_path / "dataset.pt", content, lambda path: read_model_dataset(path, limit=10**7)
        )
        assert "take more memory than is allowed" in reason


GLOBALS = [
    b"posix\nsystem",
    b"subprocess\nPopen",
    b"os\nEvilDataset",
    b"torch.utils.data.dataset\nConcatDataset",
    b"torch.nn.parameter\nParameter",
    b"collections\nCounter",
    b"__builtin__\neval",
    b"pathlib\nPath",
    b"my_zoo\nhelper",
    b"checkpoints_to_datasets.dataset_auxiliaries\nvectorize_checkpoint",
    b"checkpoints_to_datasets.dataset_base\nModelDatasetBase.mro",
]


@pytest.mark.parametrize("named", GLOBALS)
@pytest.mark.parametrize("read", [read_model_dataset, read_image_set])
def test_foreign_globals_are_rejected_by_name(tmp_path, read, named):
    body = b"}" + text("trainset") + b"c" + named + b"\n)Rs"
    reason = rejection(tmp_path / "dataset.pt", zip_file(pickled(body)), read)
    assert named.decode().replace("\n", ".") in reason


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("place", ["alone", "value", "nested", "optimizer"])
@pytest.mark.parametrize("read", [read_model_dataset, read_image_set])
def test_payloads_are_rejected_by_name_and_do_not_run(tmp_path, read, payload, place):
    marker = tmp_path / "marker"
    value = payload_objects(Evil(marker, payload))[place]
    files = [saved(value), saved(value, zipped=False), pickle.dumps(Evil(marker, payload))]
    if read is read_model_dataset:
        files += [saved_dataset(anything=value), saved_dataset(data_in=[value])]
    else:
        files += [saved(image_file() | {"dataset_seed": value})]
    for content in files:
        reason = rejection(tmp_path / "dataset.pt", content, read)
        assert f".{payload}" in reason
        assert not marker.exists()


def test_state_of_a_stub_must_be_a_dict(tmp_path):
    """A state does not override the methods of a stub."""
    path = tmp_path / "dataset.pt"
    stub = b"c" + BASE.replace(".Model", "\nModel").encode() + b"\n)\x81"
    states = {
        "not a pickled dataset": b"}" + text("__class__") + text("x") + b"s",
        "of an object is a tuple": b"N}\x86",
        "its pickle calls": b"}" + text("__setstate__") + stub + b")R" + b"s",
    }
    for reason, value in states.items():
        body = b"}" + text("other") + stub + value + b"b" + value + b"bs"
        assert reason in rejection(path, zip_file(pickled(body)), read_model_dataset)


def test_absurd_sizes_are_rejected(tmp_path):
    path = tmp_path / "dataset.pt"
    for content in (tensor(storage(BIG)), tensor(storage(4), (10**6, 10**6), (0, 0))):
        for read in (read_model_dataset, read_image_set):
            file = zip_file(pickled(b"}" + text("trainset") + content + b"s"))
            assert "absurd tensor size" in rejection(path, file, read)


@pytest.mark.parametrize("read", [read_model_dataset, read_image_set])
def test_missing_empty_truncated_and_large_files_are_rejected(tmp_path, read):
    path = tmp_path / "dataset.pt"
    assert "No such file" in rejection(path, read=read)
    assert rejection(tmp_path, read=read) == "a folder"
    assert rejection(path, b"", read) == "empty"
    content = saved_dataset() if read is read_model_dataset else saved(image_file())
    for cut in np.linspace(1, len(content) - 1, 30).astype(int):
        rejection(path, content[:cut], read)
    path.touch()
    os.truncate(path, 2**33 + 1)
    assert "more than the 8589934592 allowed" in rejection(path, read=read)


def test_reference_dataset_matches_its_trial_folders(reference):
    splits = read_model_dataset(reference / "dataset_usps_seed.pt")
    assert [split.name for split in splits] == ["train", "val", "test"]
    assert [len(split.paths) for split in splits] == [6, 3, 3]
    zoo = reference / "tune_zoo_usps_uniform"
    for split in splits:
        assert split.states is not None
        assert split.layers == LAYERS
        assert split.skipped_properties == []
        assert split.properties["training_iteration"] == split.epochs
        for state, path, epoch in zip(split.states, split.paths, split.epochs, strict=True):
            file = zoo / Path(path).name / f"checkpoint_{epoch:06d}" / "checkpoints"
            expected = read_state(file)
            assert_equal(state, {name: torch.tensor(array) for name, array in expected.items()})


def test_hostile_names_epochs_and_properties(tmp_path):
    """Each name becomes one member; epochs and properties of any size are read or skipped."""
    names = ["", "/", "..", "a\0", "b\n\x1b[31m", "c" * 10_000, "c" * 10_000 + "d", "good"]
    epochs = [0, 1, -1, 10**8, 10**8 + 1, 2**70, 5, 5]
    path = tmp_path / "dataset.pt"
    path.write_bytes(
        saved_dataset(
            data_in=[state_dict() for _ in names],
            paths=[f"/zoos/{name}" for name in names],
            epochs=epochs,
            properties={"test_acc": [10**300] * 8, "train_loss": [2**2000] * 8, "ggap": ["x"] * 8},
            train_val_test="\x1b[31m" * 1000,
        )
    )
    sources = from_dataset(path)
    assert all(is_printable(s.name) and 0 < len(s.name) <= 210 for s in sources)
    skipped = [reason for s in sources for reason in s.skipped.values()]
    assert skipped == ["its epoch is not from 0 to 100000000"] * 3
    assert sorted(e for s in sources for e in s.states) == [0, 1, 5, 5, 10**8]
    assert all(is_printable(p) for s in sources for p in (*s.places.values(), *s.skipped))
    rows = [row for s in sources for row in s.rows.values()]
    assert rows == [{"train_loss": float("inf"), "test_acc": 1e300}] * 5


def test_hostile_name_of_a_single_object(tmp_path):
    path = tmp_path / "dataset.pt"
    path.write_bytes(saved_dataset(single=True, train_val_test="\x1b[31m\n" * 1000))
    (split,) = read_model_dataset(path)
    assert is_printable(split.name) and len(split.name) <= 40
