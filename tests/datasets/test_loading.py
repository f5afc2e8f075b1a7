"""Names and specs of image sets, splits and hashes."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.image_sets import assert_valid, one_line
from zoojax.datasets import loading, readers
from zoojax.datasets.specs import DataSpec
from zoojax.errors import ZoojaxError


def test_names():
    expected = ["digits", "usps", "mnist", "fashion_mnist", "svhn_cropped"]
    expected += ["cifar10", "cifar100", "stl10"]
    assert loading.names() == expected


def test_unknown_name_lists_known_names_and_suggests_the_closest():
    with pytest.raises(ZoojaxError) as caught:
        loading.load(DataSpec("cifar_10"))
    message = one_line(caught)
    assert "did you mean 'cifar10'?" in message
    assert all(name in message for name in [*loading.names(), ".npz"])


@pytest.mark.parametrize(
    "wrong",
    [{"size": 0}, {"channels": 2}, {"std": 0.0}, {"train": 0}, {"val": -1}, {"seed": -1}],
)
def test_spec_with_a_field_out_of_range(wrong):
    with pytest.raises(ZoojaxError):
        DataSpec("digits", **wrong)


def test_spec_round_trips_through_json():
    spec = DataSpec("usps", train=6000, val=1291, mean=0.1307, std=0.3081)
    assert DataSpec(**json.loads(json.dumps(dataclasses.asdict(spec)))) == spec


def test_data_directory_precedence(monkeypatch, tmp_path):
    monkeypatch.setenv("ZOOJAX_DATA", str(tmp_path / "environment"))
    assert loading.data_directory(tmp_path) == tmp_path
    assert loading.data_directory() == tmp_path / "environment"
    monkeypatch.delenv("ZOOJAX_DATA")
    assert "zoojax" in str(loading.data_directory())


def test_bundled_digits():
    digits = loading.load(DataSpec("digits"))
    assert_valid(digits, (1200, 200, 397))
    assert digits.num_classes == 10
    pixels = np.concatenate([part.images for part in (digits.train, digits.val, digits.test)])
    assert pixels.min() == -1
    assert pixels.max() == 1


def test_hash_depends_on_split_and_transform():
    def hash_of(**changes):
        return loading.load(DataSpec("digits", size=8, **changes)).hash

    assert hash_of() == hash_of()
    assert len({hash_of(), hash_of(seed=1), hash_of(train=1190), hash_of(mean=0.4)}) == 4


def test_hash_of_the_default_split_is_fixed():
    # If this value changes, existing zoos no longer match their image sets.
    digits = loading.load(DataSpec("digits", size=8))
    assert digits.hash == "fcfa391cbf725a672ff1b1510feba219e3a2ce8f4ddc7398d11fdd4068731e10"


@given(count=st.integers(1, 3000), seed=st.integers(0, 2**32 - 1))
def test_permutation_is_identical_to_torch_randperm(count, seed):
    expected = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    np.testing.assert_array_equal(loading._permutation(count, seed), expected.numpy())


def test_split_parts_are_disjoint_and_validation_is_independent_of_train_size():
    images = np.arange(100, dtype=np.uint8).reshape(-1, 1, 1, 1)
    part = readers.RawPart(images, np.zeros(100, np.int32))
    raw = readers.RawSet(part, None, None, 1, 70, 15, 15)
    small = loading._split(raw, DataSpec("made-up", train=10))
    full = loading._split(raw, DataSpec("made-up"))
    drawn = np.concatenate([part.images.ravel() for part in full])
    assert sorted(drawn) == list(range(100))
    for index in (1, 2):
        np.testing.assert_array_equal(small[index].images, full[index].images)
    np.testing.assert_array_equal(small[0].images, full[0].images[:10])


def test_large_train_size_reduces_the_held_out_test_part():
    digits = loading.load(DataSpec("digits", size=8, train=1500, val=200))
    assert_valid(digits, (1500, 200, 97), side=8)


@pytest.mark.parametrize("sizes", [{"train": 1797}, {"val": 5000}, {"train": 1700, "val": 97}])
def test_split_larger_than_the_set(sizes):
    with pytest.raises(ZoojaxError) as caught:
        loading.load(DataSpec("digits", **sizes))
    assert "digits" in one_line(caught)
