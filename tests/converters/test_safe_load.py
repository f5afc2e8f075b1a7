"""Reading state dicts: valid ones bit for bit, damaged and other files with a reason."""

import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.torch_files import (
    assert_equal,
    legacy_file,
    pickled_dict,
    rejection,
    saved,
    state_dict,
    storage,
    tensor,
    zip_file,
)
from zoojax.converters.checkpoint_files import read_state
from zoojax.converters.safe_load import UnreadableFileError


def test_hand_made_pickles_match_torch(tmp_path):
    path = tmp_path / "state"
    expected = {"w": torch.arange(4.0)}
    for content in (
        zip_file(pickled_dict(tensor(storage(4)))),
        legacy_file(pickled_dict(tensor(storage(4, True)))),
    ):
        path.write_bytes(content)
        assert_equal(read_state(path), expected)
        assert torch.equal(torch.load(path, weights_only=True)["w"], expected["w"])
    transposed = zip_file(pickled_dict(tensor(storage(4), (2, 2), (1, 2))))
    path.write_bytes(transposed)
    assert_equal(read_state(path), {"w": torch.arange(4.0).reshape(2, 2).T.contiguous()})


@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts_are_bit_identical(tmp_path, zipped):
    shared = torch.randn(5, 4)
    expected = state_dict() | {
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "scalar": torch.tensor(-0.0),
        "none": torch.zeros(0, 3),
        "odd": torch.tensor([float("nan"), float("inf"), 1e-45]),
        "view": shared[1:3],
        "tied": shared,
    }
    path = tmp_path / "state"
    path.write_bytes(saved(expected, zipped))
    actual = read_state(path)
    assert_equal(actual, expected)
    actual["tied"][:] = 0
    assert_equal({"view": actual["view"]}, {"view": shared[1:3]})


def test_reference_checkpoints_are_bit_identical(reference):
    paths = sorted(reference.glob("*/*/*/checkpoints"))
    assert len(paths) == 4 * 51 + 4 * 26 + 4 * 5 * 2
    for path in paths:
        assert_equal(read_state(path), torch.load(path, weights_only=True))


def test_link_is_followed(tmp_path):
    (tmp_path / "state").write_bytes(saved(state_dict()))
    (tmp_path / "link").symlink_to("state")
    assert_equal(read_state(tmp_path / "link"), state_dict())


def test_missing_special_empty_and_large_files_are_rejected(tmp_path):
    assert "No such file" in rejection(tmp_path / "none")
    assert rejection(tmp_path) == "a folder"
    os.mkfifo(tmp_path / "pipe")
    assert rejection(tmp_path / "pipe") == "not a regular file"
    assert rejection(tmp_path / "file", b"") == "empty"
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 2**28 + 1)
    assert "more than the 268435456 allowed" in rejection(path)
    path.write_bytes(saved(state_dict()))
    assert "more than the 1000 allowed" in rejection(path, read=lambda p: read_state(p, limit=1000))


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_file_without_permission_is_rejected(tmp_path):
    path = tmp_path / "state"
    path.touch(mode=0)
    assert "Permission denied" in rejection(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "value, reason",
    [
        ([torch.zeros(3)], "a list, not a state dict"),
        (torch.zeros(3), "a Tensor, not a state dict"),
        ({1: torch.zeros(3)}, "a key is a int, not a string"),
        ({(1, 2): torch.zeros(3)}, "a key is neither a string nor a number"),
        ({"a": 3}, "'a' is a int, not a tensor"),
        ({"a": {"b": 3}}, "'a' is a dict, not a tensor"),
        ({"a": {"b": torch.zeros(3)}, "c": {"d": torch.zeros(3)}}, "a and c; choose with"),
        ({"a": torch.full((3,), 1 / 3, dtype=torch.float64)}, "'a' is float64, and 3 of its"),
        ({"a": torch.full((3,), 1e300, dtype=torch.float64)}, "'a' is float64, and 3 of its"),
        ({"a": torch.zeros(3, dtype=torch.complex64)}, "'a' is complex64, which a zoo cannot"),
        (
            {"a": torch.zeros(1).expand(1000)},
            "absurd tensor size: 1000 values at offset 0 of a storage of 1",
        ),
        ({"a": np.zeros(3)}, "is a NumPy array, not a tensor"),
        ({"a": torch.zeros(3).to_sparse()}, "torch._utils._rebuild_sparse_tensor"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
    ],
)
def test_other_objects_than_state_dicts_are_rejected(tmp_path, value, reason, zipped):
    assert reason in rejection(tmp_path / "state", saved(value, zipped))


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_and_random_files_are_rejected(tmp_path, zipped):
    content = saved(state_dict(), zipped)
    for cut in np.linspace(1, len(content) - 1, 30).astype(int):
        rejection(tmp_path / "state", content[:cut])
    generator = np.random.default_rng(0)
    for size in (1, 10, 1000, 100_000):
        rejection(tmp_path / "state", generator.bytes(size))
        rejection(tmp_path / "state", content[:4] + generator.bytes(size))


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("zipped", [True, False])
@settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(edits=EDITS, in_pickle=st.booleans())
@example(edits=[("flip", 0.5, b"\0")], in_pickle=False)
def test_randomly_edited_files_are_rejected_or_read(tmp_path_factory, zipped, edits, in_pickle):
    """The checksums of the zip format detect changed values; the legacy format has none."""
    expected = state_dict()
    content = bytearray(saved(expected, zipped))
    for kind, where, data in edits:
        # The pickle is at the start of both formats, and where most can go wrong.
        place = int(where * (min(1500, len(content)) if in_pickle else len(content)))
        if kind == "flip" and place < len(content):
            content[place] ^= data[0]
        elif kind == "cut":
            del content[place : place + len(data)]
        else:
            content[place:place] = data
    path = tmp_path_factory.getbasetemp() / "edited-state"
    path.write_bytes(content)
    try:
        actual = read_state(path)
    except UnreadableFileError as error:
        assert error.reason
        return
    assert all(array.dtype == np.float32 for array in actual.values())
    if zipped:
        assert_equal(actual, expected)
