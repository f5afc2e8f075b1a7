"""Image sets: sources, splits, transforms, and what a user reads when one fails."""

import bz2
import dataclasses
import gzip
import importlib.util
import io
import json
import os
import struct
import time
import types
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoojax.datasets import loading, registry, transforms
from zoojax.datasets.specs import DataSpec
from zoojax.errors import ZoojaxError

RNG_SEED = 0


def shrink(monkeypatch, name, sizes, train, val, **changes):
    """Lets a known set have fewer images, so that a test can make it up."""
    known = dataclasses.replace(
        registry.KNOWN[name], sizes=sizes, default_train=train, default_val=val, **changes
    )
    monkeypatch.setitem(registry.KNOWN, name, known)


def random_images(count, side, channels=1):
    rng = np.random.default_rng(RNG_SEED)
    images = rng.integers(0, 256, (count, side, side, channels), dtype=np.uint8)
    return images, rng.integers(0, 10, count)


def assert_sound(image_set, sizes, side=28, channels=1):
    """Shapes and types as promised, and one line of hash."""
    parts = (image_set.train, image_set.val, image_set.test)
    for part, size in zip(parts, sizes, strict=True):
        assert part.images.shape == (size, side, side, channels)
        assert part.images.dtype == np.float32
        assert part.labels.shape == (size,)
        assert part.labels.dtype == np.int32
        assert part.labels.max() < image_set.num_classes
    assert len(image_set.hash) == 64


def one_line(caught):
    message = str(caught.value)
    assert "\n" not in message
    return message


# Specs and names


def test_names_are_the_documented_ones():
    expected = ["digits", "usps", "mnist", "fashion_mnist", "svhn_cropped", "cifar10", "stl10"]
    assert loading.names() == expected


def test_unknown_name_suggests_the_nearest_and_lists_all():
    with pytest.raises(ZoojaxError) as caught:
        loading.load(DataSpec("cifar_10"))
    message = one_line(caught)
    assert "did you mean 'cifar10'?" in message
    assert all(name in message for name in [*loading.names(), ".npz"])


@pytest.mark.parametrize(
    "wrong",
    [{"size": 0}, {"channels": 2}, {"std": 0.0}, {"train": 0}, {"val": -1}, {"seed": -1}],
)
def test_spec_refuses_what_no_set_can_have(wrong):
    with pytest.raises(ZoojaxError):
        DataSpec("digits", **wrong)


def test_spec_goes_through_json():
    spec = DataSpec("usps", train=6000, val=1291, mean=0.1307, std=0.3081)
    assert DataSpec(**json.loads(json.dumps(dataclasses.asdict(spec)))) == spec


def test_data_directory_is_argument_then_environment_then_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ZOOJAX_DATA", str(tmp_path / "environment"))
    assert loading.data_directory(tmp_path) == tmp_path
    assert loading.data_directory() == tmp_path / "environment"
    monkeypatch.delenv("ZOOJAX_DATA")
    assert "zoojax" in str(loading.data_directory())


# Splits and hashes, on the bundled digits


def test_digits():
    digits = loading.load(DataSpec("digits"))
    assert_sound(digits, (1200, 200, 397))
    assert digits.num_classes == 10
    pixels = np.concatenate([part.images for part in (digits.train, digits.val, digits.test)])
    assert pixels.min() == -1
    assert pixels.max() == 1


def test_hash_is_stable_and_follows_the_split_and_the_transform():
    def hashed(**changes):
        return loading.load(DataSpec("digits", size=8, **changes)).hash

    assert hashed() == hashed()
    assert len({hashed(), hashed(seed=1), hashed(train=1190), hashed(mean=0.4)}) == 4


def test_split_is_the_same_on_every_machine():
    # Written down once: a change here means that no recorded zoo fits its data any more.
    digits = loading.load(DataSpec("digits", size=8))
    assert digits.hash == "fcfa391cbf725a672ff1b1510feba219e3a2ce8f4ddc7398d11fdd4068731e10"


@given(count=st.integers(1, 3000), seed=st.integers(0, 2**32 - 1))
def test_split_is_that_of_torch(count, seed):
    theirs = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    np.testing.assert_array_equal(loading._permutation(count, seed), theirs.numpy())


def test_split_parts_are_disjoint_and_validation_does_not_follow_train():
    images = np.arange(100, dtype=np.uint8).reshape(-1, 1, 1, 1)
    part = registry.RawPart(images, np.zeros(100, np.int32))
    raw = registry.RawSet(part, None, None, 1, 70, 15, 15)
    few = loading._split(raw, DataSpec("made-up", train=10))
    all_ = loading._split(raw, DataSpec("made-up"))
    drawn = np.concatenate([part.images.ravel() for part in all_])
    assert sorted(drawn) == list(range(100))
    for index in (1, 2):
        np.testing.assert_array_equal(few[index].images, all_[index].images)
    np.testing.assert_array_equal(few[0].images, all_[0].images[:10])


def test_larger_train_takes_from_the_held_out_test_part():
    digits = loading.load(DataSpec("digits", size=8, train=1500, val=200))
    assert_sound(digits, (1500, 200, 97), side=8)


@pytest.mark.parametrize("sizes", [{"train": 1797}, {"val": 5000}, {"train": 1700, "val": 97}])
def test_split_larger_than_the_set(sizes):
    with pytest.raises(ZoojaxError) as caught:
        loading.load(DataSpec("digits", **sizes))
    assert "digits" in one_line(caught)


# Transforms


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([np.uint8, np.float32]),
    st.integers(0, 2**32 - 1),
)
def test_resize_keeps_size_constants_and_range(height, width, size, dtype, seed):
    images = np.random.default_rng(seed).integers(0, 256, (2, height, width, 3)).astype(dtype)
    resized = transforms.resize(images, size)
    assert resized.shape == (2, size, size, 3)
    assert resized.dtype == dtype
    slack = 0 if dtype == np.uint8 else 1e-4
    assert images.min() - slack <= resized.min() <= resized.max() <= images.max() + slack
    np.testing.assert_array_equal(transforms.resize(resized, size), resized)
    constant = np.full((1, height, width, 1), images.flat[0])
    np.testing.assert_allclose(transforms.resize(constant, size), images.flat[0], atol=slack)


@given(st.integers(1, 100), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_resize_of_square_bytes_is_pillows(side, size, seed):
    from PIL import Image

    image = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    expected = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(transforms.resize(image[None], size)[0], np.asarray(expected))


@pytest.mark.parametrize("side, size", [(16, 28), (96, 28), (96, 32), (32, 28), (28, 28)])
def test_resize_of_floats_is_torchs(side, size):
    images = random_images(3, side)[0].astype(np.float32) / 255
    expected = torch.nn.functional.interpolate(
        torch.tensor(images).permute(0, 3, 1, 2), (size, size), mode="bilinear", antialias=True
    ).permute(0, 2, 3, 1)
    # torch has its weights in float32.
    np.testing.assert_allclose(transforms.resize(images, size), expected.numpy(), atol=3e-6)


def test_luma_is_pillows():
    from PIL import Image

    image = random_images(1, 64, 3)[0]
    expected = np.asarray(Image.fromarray(image[0]).convert("L"))
    np.testing.assert_array_equal(transforms._luma(image)[0, ..., 0], expected)
    in_floats = transforms._luma(image.astype(np.float32) / 255)[0, ..., 0]
    np.testing.assert_allclose(in_floats, expected / 255, atol=0.51 / 255)


def test_grey_becomes_three_equal_channels_and_normalisation_comes_last():
    images, labels = random_images(4, 28)
    part = registry.RawPart(images, labels)
    grey = transforms.transform(part, DataSpec("made-up", mean=0.1307, std=0.3081)).images
    expected = (torch.tensor(images).float() / 255 - 0.1307) / 0.3081
    np.testing.assert_allclose(grey, expected.numpy(), atol=1e-6)
    colour = transforms.transform(part, DataSpec("made-up", channels=3, mean=0.1307, std=0.3081))
    np.testing.assert_array_equal(colour.images, np.repeat(grey, 3, axis=-1))


def test_crop_takes_the_centre():
    images, labels = random_images(4, 32)
    part = registry.RawPart(images, labels)
    cropped = transforms.transform(part, DataSpec("made-up", crop=True, mean=0, std=1)).images
    np.testing.assert_allclose(cropped, images[:, 2:30, 2:30] / 255, atol=1e-7)
    with pytest.raises(ZoojaxError, match="32x32 cannot be cropped to 33"):
        transforms.transform(part, DataSpec("made-up", size=33, crop=True))


# USPS


@pytest.fixture
def usps_directory():
    directory = os.environ.get("ZOOJAX_DATA")
    if directory is None or not Path(directory, "usps.h5").is_file():
        pytest.skip("no usps.h5: set ZOOJAX_DATA to the directory that has it")
    return Path(directory)


def test_usps_from_the_real_file(usps_directory):
    usps = loading.load(DataSpec("usps"), usps_directory)
    assert_sound(usps, (6000, 1291, 2007))
    assert usps.num_classes == 10
    with h5py.File(usps_directory / "usps.h5") as file:
        official = np.asarray(file["test/target"])
    np.testing.assert_array_equal(usps.test.labels, official)


def test_usps_has_the_pixels_of_the_original_pipeline(usps_directory):
    folder = os.environ.get("ZOOJAX_REFERENCE")
    if folder is None:
        pytest.skip("no reference images: set ZOOJAX_REFERENCE to their directory")
    with np.load(Path(folder, "logits_first64_test.npz")) as reference:
        images, labels = reference["images"], reference["labels"]
    spec = DataSpec("usps", 28, 1, 0.1307, 0.3081, train=6000, val=1291)
    test = loading.load(spec, usps_directory).test
    np.testing.assert_allclose(test.images[:64], images.transpose(0, 2, 3, 1), atol=1e-6)
    np.testing.assert_array_equal(test.labels[:64], labels)


def made_up_usps(count):
    """Pixels in thousandths from -1 to 1, as USPS has them, and digits."""
    rng = np.random.default_rng(RNG_SEED + count)
    return rng.integers(-1000, 1001, (count, 256)) / 1000, rng.integers(0, 10, count)


def write_usps_h5(path):
    with h5py.File(path, "w") as file:
        for part, count in (("train", 40), ("test", 10)):
            pixels, labels = made_up_usps(count)
            file[f"{part}/data"] = (pixels.astype(np.float32) + 1) / 2
            file[f"{part}/target"] = labels


def write_usps_libsvm(directory):
    for name, count in (("usps.bz2", 40), ("usps.t.bz2", 10)):
        rows = [
            f"{label + 1} " + " ".join(f"{i}:{pixel:g}" for i, pixel in enumerate(row, 1))
            for row, label in zip(*made_up_usps(count), strict=True)
        ]
        (directory / name).write_bytes(bz2.compress("\n".join(rows).encode()))


def test_usps_is_the_same_from_either_file(monkeypatch, tmp_path):
    shrink(monkeypatch, "usps", (40, 10), 30, 10)
    (tmp_path / "h5").mkdir()
    write_usps_h5(tmp_path / "h5" / "usps.h5")
    write_usps_libsvm(tmp_path)
    from_libsvm = loading.load(DataSpec("usps"), tmp_path)
    assert_sound(from_libsvm, (30, 10, 10))
    assert from_libsvm.hash == loading.load(DataSpec("usps"), tmp_path / "h5").hash


def test_usps_of_another_size_is_refused(tmp_path):
    write_usps_h5(tmp_path / "usps.h5")
    with pytest.raises(ZoojaxError, match=r"usps\.h5: 40 training and 10 test images where"):
        loading.load(DataSpec("usps"), tmp_path)


@pytest.mark.parametrize("name", ["usps.h5", "usps.bz2", "usps.t.bz2"])
@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda _: b"x"])
def test_damaged_usps_names_the_file(tmp_path, name, damage):
    if name == "usps.h5":
        write_usps_h5(tmp_path / name)
    else:
        write_usps_libsvm(tmp_path)
    (tmp_path / name).write_bytes(damage((tmp_path / name).read_bytes()))
    with pytest.raises(ZoojaxError) as caught:
        loading.load(DataSpec("usps"), tmp_path)
    assert str(tmp_path / name) in one_line(caught)


def test_usps_h5_without_its_groups(tmp_path):
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
    parts = [made_up_usps(40), made_up_usps(10)]
    pixels, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    table = (pixels, (labels + 1).astype(str).astype(object))
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda *_, **__: table)
    with pytest.raises(ZoojaxError, match="not the official training set"):
        loading.load(DataSpec("usps"), tmp_path / "cached")
    counts = np.bincount(parts[0][1], minlength=10).tolist()
    monkeypatch.setattr(registry, "_USPS_TRAIN_COUNTS", counts)
    from_openml = loading.load(DataSpec("usps"), tmp_path / "cached")
    assert from_openml.hash == loading.load(DataSpec("usps"), tmp_path).hash


def test_missing_usps_says_where_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(
        registry.KNOWN,
        "usps",
        dataclasses.replace(registry.KNOWN["usps"], url="http://127.0.0.1:9/"),
    )
    with pytest.raises(ZoojaxError) as caught:
        loading.load(DataSpec("usps"), tmp_path)
    message = one_line(caught)
    assert all(part in message for part in (str(tmp_path), "usps.h5", "usps.t.bz2", "https://"))


# MNIST and Fashion-MNIST in their original files


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
    assert_sound(mnist, (30, 10, 10))
    images, labels = random_images(10, 28)
    np.testing.assert_array_equal(mnist.test.images, images / np.float32(255))
    np.testing.assert_array_equal(mnist.test.labels, labels)


def test_bare_idx_files_are_not_taken_for_fashion_mnist(monkeypatch, tmp_path):
    hide_tensorflow(monkeypatch)
    write_idx(tmp_path)
    with pytest.raises(ZoojaxError, match="fashion_mnist is not prepared"):
        loading.load(DataSpec("fashion_mnist"), tmp_path)


def test_missing_idx_files_are_named(tmp_path):
    write_idx(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ZoojaxError, match=r"lacks train-labels-idx1-ubyte\.gz beside"):
        loading.load(DataSpec("mnist"), tmp_path)


@pytest.mark.parametrize(
    "damaged",
    [
        lambda content: content[: len(content) // 2],
        lambda _: gzip.compress(b"\0\0\x08"),
        lambda content: gzip.compress(gzip.decompress(content)[:-1]),
        lambda _: b"no gzip at all",
    ],
)
def test_damaged_idx_file_is_named(tmp_path, damaged):
    write_idx(tmp_path)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(damaged(path.read_bytes()))
    with pytest.raises(ZoojaxError) as caught:
        loading.load(DataSpec("mnist"), tmp_path)
    assert f"{path}: damaged" in one_line(caught)


def test_idx_images_and_labels_must_go_together(tmp_path):
    write_idx(tmp_path)
    images, labels = (tmp_path / f"t10k-{k}-ubyte.gz" for k in ("images-idx3", "labels-idx1"))
    labels.write_bytes(images.read_bytes())
    with pytest.raises(ZoojaxError, match="do not go with the labels"):
        loading.load(DataSpec("mnist"), tmp_path)


# tensorflow-datasets


def hide_tensorflow(monkeypatch, found=None):
    """Makes TensorFlow look absent, or with `found` present."""
    original = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: found if name == "tensorflow" else original(name, *rest),
    )


def prepare_tfds(directory, name, images, labels):
    """Writes what download_and_prepare writes, which would need TensorFlow."""
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter
    from PIL import Image
    from tensorflow_datasets.core.naming import ShardedFileTemplate
    from tensorflow_datasets.core.splits import SplitDict

    builder = tfds.builder(name, data_dir=str(directory), file_format="array_record")
    features = builder.info.features
    assert isinstance(features, tfds.features.FeaturesDict)
    Path(builder.data_dir).mkdir(parents=True)
    splits = []
    for split in ("train", "test"):
        template = ShardedFileTemplate(
            data_dir=builder.data_path,
            dataset_name=name,
            split=split,
            filetype_suffix="array_record",
        )
        writer = ArrayRecordWriter(
            str(template.sharded_filepath(shard_index=0, num_shards=1)), "group_size:1"
        )
        size = 0
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            png = io.BytesIO()
            Image.fromarray(image).save(png, "PNG")
            png.seek(0)
            example = {"image": png, "label": int(label)}
            if "id" in features:
                example["id"] = f"{split}_{index}"
            record = features.serialize_example(features.encode_example(example))
            writer.write(record)
            size += len(record)
        writer.close()
        splits.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[len(labels)],
                num_bytes=size,
                filename_template=template,
            )
        )
    builder.info.set_splits(SplitDict(splits))
    builder.info.write_to_directory(builder.data_path)
    return Path(builder.data_dir)


def test_prepared_tfds_set_is_read_without_tensorflow(monkeypatch, tmp_path, capfd):
    shrink(monkeypatch, "cifar10", (40, 40), 30, 10)
    images, labels = random_images(40, 32, 3)
    prepare_tfds(tmp_path, "cifar10", images, labels)
    capfd.readouterr()
    cifar = loading.load(DataSpec("cifar10", size=32, channels=3, mean=0, std=1), tmp_path)
    assert_sound(cifar, (30, 10, 40), side=32, channels=3)
    np.testing.assert_array_equal(cifar.test.images, images / np.float32(255))
    np.testing.assert_array_equal(cifar.test.labels, labels)
    assert capfd.readouterr() == ("", "")


def test_damaged_tfds_set_names_its_folder(monkeypatch, tmp_path):
    shrink(monkeypatch, "cifar10", (40, 40), 30, 10)
    folder = prepare_tfds(tmp_path, "cifar10", *random_images(40, 32, 3))
    record = next(folder.glob("*train.array_record*"))
    record.write_bytes(record.read_bytes()[:1000])
    with pytest.raises(ZoojaxError) as caught:
        loading.load(DataSpec("cifar10"), tmp_path)
    assert str(folder) in one_line(caught)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "svhn_cropped", "cifar10", "stl10"])
def test_unprepared_tfds_set_without_tensorflow(monkeypatch, tmp_path, name):
    hide_tensorflow(monkeypatch)
    start = time.monotonic()
    with pytest.raises(ZoojaxError) as caught:
        loading.load(DataSpec(name), tmp_path)
    assert time.monotonic() - start < 5
    message = one_line(caught)
    assert f"{name} is not prepared in {tmp_path}" in message
    assert "pip install 'zoojax[tfds]'" in message
    assert f"tfds build {name} --file_format=array_record --data_dir={tmp_path}" in message


def test_unprepared_tfds_set_with_tensorflow_but_no_network(monkeypatch, tmp_path):
    hide_tensorflow(monkeypatch, found=object())
    known = dataclasses.replace(registry.KNOWN["stl10"], url="http://127.0.0.1:9/")
    monkeypatch.setitem(registry.KNOWN, "stl10", known)
    start = time.monotonic()
    with pytest.raises(ZoojaxError) as caught:
        loading.load(DataSpec("stl10"), tmp_path)
    assert time.monotonic() - start < 5
    assert "no answer from http://127.0.0.1:9/" in one_line(caught)
    assert "tfds build stl10" in str(caught.value)


def test_tfds_set_is_prepared_where_that_is_possible(monkeypatch, tmp_path):
    import tensorflow_datasets as tfds

    shrink(monkeypatch, "mnist", (40, 40), 30, 10)
    hide_tensorflow(monkeypatch, found=object())
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: io.BytesIO())
    images, labels = random_images(40, 28)
    original = tfds.builder

    def download_and_prepare():
        monkeypatch.setattr(tfds, "builder", original)
        prepare_tfds(tmp_path, "mnist", images[..., 0], labels)

    fake = types.SimpleNamespace(download_and_prepare=download_and_prepare)
    monkeypatch.setattr(tfds, "builder", lambda *_, **__: fake)
    assert_sound(loading.load(DataSpec("mnist"), tmp_path), (30, 10, 40))


def test_failed_preparation_is_told_in_one_line(monkeypatch, tmp_path):
    import tensorflow_datasets as tfds

    def download_and_prepare():
        raise RuntimeError("disk full\nand more")

    hide_tensorflow(monkeypatch, found=object())
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: io.BytesIO())
    fake = types.SimpleNamespace(download_and_prepare=download_and_prepare)
    monkeypatch.setattr(tfds, "builder", lambda *_, **__: fake)
    with pytest.raises(ZoojaxError) as caught:
        loading.load(DataSpec("svhn_cropped"), tmp_path)
    assert "(disk full)" in one_line(caught)


# A user's own .npz


@pytest.fixture
def npz(tmp_path):
    """Writes arrays and gives the path as a spec's name."""

    def write(**arrays):
        np.savez(tmp_path / "own.npz", **arrays)
        return str(tmp_path / "own.npz")

    return write


def test_npz_of_one_part(npz):
    images, labels = random_images(100, 28)
    name = npz(images=images[..., 0], labels=labels % 4)
    own = loading.load(DataSpec(name))
    assert_sound(own, (70, 15, 15))
    assert own.name == name
    assert own.num_classes == 4
    assert_sound(loading.load(DataSpec(name, train=80, val=10)), (80, 10, 10))


def test_npz_of_floats_is_that_of_bytes(npz):
    images, labels = random_images(20, 28, 3)
    spec = DataSpec(npz(images=images, labels=labels), channels=3)
    from_bytes = loading.load(spec).train.images
    npz(images=images / 255, labels=labels)
    np.testing.assert_allclose(loading.load(spec).train.images, from_bytes, atol=1e-6)


def test_npz_of_given_parts(npz):
    images, labels = random_images(40, 14)
    parts = {"train_images": images, "train_labels": labels}
    parts |= {"test_images": images[:7], "test_labels": labels[:7]}
    own = loading.load(DataSpec(npz(**parts), size=14, mean=0, std=1))
    assert_sound(own, (34, 6, 7), side=14)
    np.testing.assert_array_equal(own.test.images, images[:7] / np.float32(255))
    own = loading.load(
        DataSpec(npz(**parts, val_images=images[:5], val_labels=labels[:5]), size=14)
    )
    assert_sound(own, (40, 5, 7), side=14)
    np.testing.assert_array_equal(np.sort(own.val.labels), np.sort(labels[:5]))


IMAGES = np.zeros((4, 8, 8), np.uint8)
LABELS = np.arange(4)


@pytest.mark.parametrize(
    "arrays, told",
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
        ({"images": IMAGES[:1], "labels": LABELS[:1]}, "train="),
    ],
)
def test_npz_errors(npz, arrays, told):
    name = npz(**arrays)
    with pytest.raises(ZoojaxError) as caught:
        loading.load(DataSpec(name))
    message = one_line(caught)
    assert name in message
    assert told in message


def test_npz_parts_of_different_shapes(npz):
    parts = {"train_images": IMAGES, "train_labels": LABELS}
    parts |= {"test_images": IMAGES[:, :7], "test_labels": LABELS}
    with pytest.raises(ZoojaxError, match="different shapes"):
        loading.load(DataSpec(npz(**parts)))


def test_npz_split_larger_than_the_set(npz):
    with pytest.raises(ZoojaxError, match="train=4 and val=1 leave only"):
        loading.load(DataSpec(npz(images=IMAGES, labels=LABELS), train=4, val=1))


def npy_file():
    content = io.BytesIO()
    np.save(content, IMAGES)
    return content.getvalue()


@pytest.mark.parametrize("content", [b"", b"text", npy_file()], ids=["empty", "text", "npy"])
def test_npz_that_is_none(tmp_path, content):
    path = tmp_path / "own.npz"
    path.write_bytes(content)
    with pytest.raises(ZoojaxError) as caught:
        loading.load(DataSpec(str(path)))
    assert f"{path}: not a readable .npz" in one_line(caught)


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.99])
def test_truncated_npz(tmp_path, npz, kept):
    path = Path(npz(images=random_images(4, 28)[0], labels=LABELS))
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(ZoojaxError, match=r"own\.npz: not a readable"):
        loading.load(DataSpec(str(path)))


def test_missing_npz(tmp_path):
    with pytest.raises(ZoojaxError, match=r"nowhere\.npz is missing"):
        loading.load(DataSpec(str(tmp_path / "nowhere.npz")))
