"""Image sets of tensorflow-datasets: prepared, damaged, and not prepared."""

import io
import time
import types
from pathlib import Path

import numpy as np
import pytest

from tests.support.image_sets import (
    assert_valid,
    hide_tensorflow,
    one_line,
    random_images,
    set_url,
    shrink,
)
from zoojax.datasets import loading
from zoojax.datasets.specs import DataSpec
from zoojax.errors import ZoojaxError


def prepare_tfds(directory, name, images, labels):
    """Writes the files of download_and_prepare, which would need TensorFlow."""
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
    assert_valid(cifar, (30, 10, 40), side=32, channels=3)
    np.testing.assert_array_equal(cifar.test.images, images / np.float32(255))
    np.testing.assert_array_equal(cifar.test.labels, labels)
    assert capfd.readouterr() == ("", "")


def test_damaged_tfds_folder_is_named(monkeypatch, tmp_path):
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


def test_unprepared_tfds_set_without_network(monkeypatch, tmp_path):
    hide_tensorflow(monkeypatch, spec=object())
    set_url(monkeypatch, "stl10", "http://127.0.0.1:9/")
    start = time.monotonic()
    with pytest.raises(ZoojaxError) as caught:
        loading.load(DataSpec("stl10"), tmp_path)
    assert time.monotonic() - start < 5
    assert "no answer from http://127.0.0.1:9/" in one_line(caught)
    assert "tfds build stl10" in str(caught.value)


def test_tfds_set_is_prepared_with_tensorflow_and_network(monkeypatch, tmp_path):
    import tensorflow_datasets as tfds

    shrink(monkeypatch, "mnist", (40, 40), 30, 10)
    hide_tensorflow(monkeypatch, spec=object())
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: io.BytesIO())
    images, labels = random_images(40, 28)
    original = tfds.builder

    def download_and_prepare():
        monkeypatch.setattr(tfds, "builder", original)
        prepare_tfds(tmp_path, "mnist", images[..., 0], labels)

    fake = types.SimpleNamespace(download_and_prepare=download_and_prepare)
    monkeypatch.setattr(tfds, "builder", lambda *_, **__: fake)
    assert_valid(loading.load(DataSpec("mnist"), tmp_path), (30, 10, 40))


def test_failed_preparation_is_a_one_line_error(monkeypatch, tmp_path):
    import tensorflow_datasets as tfds

    def download_and_prepare():
        raise RuntimeError("disk full\nand more")

    hide_tensorflow(monkeypatch, spec=object())
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: io.BytesIO())
    fake = types.SimpleNamespace(download_and_prepare=download_and_prepare)
    monkeypatch.setattr(tfds, "builder", lambda *_, **__: fake)
    with pytest.raises(ZoojaxError) as caught:
        loading.load(DataSpec("svhn_cropped"), tmp_path)
    assert "(disk full)" in one_line(caught)
