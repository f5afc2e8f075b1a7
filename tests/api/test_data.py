"""Images given in Python: arrays, image sets, datasets of other libraries."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import zoojax
from tests.support import zoo_fixtures
from zoojax import DataSpec, Grid, ZoojaxError
from zoojax.api.data import load_data
from zoojax.datasets import loading

PIXELS, LABELS = map(np.asarray, load_digits(return_X_y=True))
IMAGES = (PIXELS[:40] / 16 * 255).astype(np.uint8).reshape(-1, 8, 8)
LABELS = LABELS[:40]
OPTIONS: dict[str, Any] = {"epochs": 0, "quiet": True, "chunk": 1}


class Torchvision:
    """A dataset like torchvision's: channels first, floats in [0, 1]."""

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        return IMAGES[index][None].astype(np.float32) / 255, int(LABELS[index])


class HuggingFace:
    """A dataset like those of Hugging Face."""

    def __init__(self, rows: slice = slice(None)):
        self.images, self.labels = IMAGES[rows], LABELS[rows]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {"image": self.images[index], "label": int(self.labels[index]), "id": index}


def load(data, template=None):
    return load_data(data, template, 28, None)


def test_all_forms_of_the_same_images_are_equal(tmp_path):
    np.savez(tmp_path / "images.npz", images=IMAGES, labels=LABELS)
    from_file = load(tmp_path / "images.npz")
    for data in (
        (IMAGES, LABELS),
        (IMAGES[..., None], LABELS.astype(np.uint8)),
        {"images": IMAGES, "labels": LABELS},
        HuggingFace(),
    ):
        assert load(data).images.hash == from_file.images.hash
    # Resized without rounding, since they are floats.
    floats = load(Torchvision()).images
    np.testing.assert_allclose(floats.test.images, from_file.images.test.images, atol=0.02)
    assert np.array_equal(floats.test.labels, from_file.images.test.labels)


def test_parts_of_a_dataset_are_kept():
    parts = {"train": HuggingFace(slice(30)), "test": HuggingFace(slice(30, 40))}
    images = load(parts).images
    assert np.array_equal(images.test.labels, LABELS[30:])


def test_template_applies_except_its_split():
    template = DataSpec("mnist", 32, 3, 0.1, 0.2, train=50_000)
    loaded = load((IMAGES, LABELS), template)
    assert loaded.images.train.images.shape == (28, 32, 32, 3)
    assert loaded.spec is not None and (loaded.spec.mean, loaded.spec.train) == (0.1, None)


def test_zoo_of_arrays_stores_them_and_its_twin_uses_them(tmp_path):
    zoo = zoojax.train_zoo(None, tmp_path / "zoo", data=(IMAGES, LABELS), members=2, **OPTIONS)
    assert (tmp_path / "zoo" / "images.npz").is_file()
    assert zoo.config.name == "arrays-small"
    twin = zoojax.sparsify(zoo, "magnitude-pruning", tmp_path / "mp", **OPTIONS)
    assert twin.config.data_hash == zoo.config.data_hash
    with pytest.raises(ZoojaxError, match="zoo was created with other images; give"):
        zoojax.train_zoo(None, zoo.path, data=(255 - IMAGES, LABELS), members=2, **OPTIONS)
    (tmp_path / "zoo" / "images.npz").unlink()
    with pytest.raises(ZoojaxError, match=r"trained on arrays, and its images\.npz is missing"):
        zoojax.evaluate(zoo.path)


def test_image_set_with_and_without_a_preset(tmp_path_factory):
    spec = zoo_fixtures.spec(tmp_path_factory)
    images = loading.load(spec)
    zoo = zoojax.train_zoo(data=images, grid=Grid(seeds=2), **OPTIONS)
    assert zoo.config.data is None and zoo.config.data_hash == images.hash
    zoo = zoojax.train_zoo("digits-s-seed", data=images, members=1, **OPTIONS)
    assert (zoo.config.name, zoo.config.preset) == ("digits-s-seed-custom", None)
    assert zoojax.evaluate(zoo, images)["test_acc"].is_not_null().all()


def test_preset_with_arrays_keeps_its_settings():
    zoo = zoojax.train_zoo("digits-s-seed", data=(IMAGES, LABELS), members=1, **OPTIONS)
    assert zoo.members["init"].to_list() == ["kaiming_uniform"]
    assert zoo.config.preset is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((IMAGES, LABELS[:-1]), "data: 40 images and 39 labels"),
        ((IMAGES[0], LABELS), r"data: images has shape \(8, 8\)"),
        ((IMAGES.astype(int), LABELS), "data: images has type int64; give uint8"),
        ((IMAGES / 255 - 0.5, LABELS), r"data: images runs from -0\.5 .*must lie in \[0, 1\]"),
        ((IMAGES, LABELS - 3), "data: labels runs from -3 .*number the classes from 0"),
        ((IMAGES, LABELS * 0.5), "data: labels has shape .* type float64"),
        ((IMAGES, ["a"] * 40), "data: labels has shape"),
        ((IMAGES, LABELS + 1), r"^data: the labels start at 1, so .* from 0, .*labels - 1$"),
        (IMAGES, r"^data is an array without labels; give both: data=\(images, labels\)$"),
        ((IMAGES,), "data is an array without labels"),
        ([*IMAGES], r"data: item 0 is an image without a label; give pairs \(image, label\)"),
        ({"images": IMAGES}, r"data: lacks labels \(it has images\); give images and labels"),
        ({"pictures": IMAGES}, "data: lacks"),
        ([{"image": IMAGES[0], "y": 3}], "item 0 has the keys image, y; give 'image' and 'label'"),
        ([(IMAGES[0], 1), (IMAGES[0][1:], 2), (IMAGES[0], 1)], "image 1 has shape"),
        ([3, 4, 5], "item 0 is int; give the name of an image set"),
        (object(), "data is object; give the name of an image set"),
        ("mnits", "did you mean 'mnist'"),
    ],
)
def test_invalid_data_is_named(data, message):
    with pytest.raises(ZoojaxError, match=message) as error:
        zoojax.train_zoo(data=data, **OPTIONS)
    assert "\n" not in str(error.value)


def test_datasets_of_torchvision_layout_in_torch_tensors():
    torch = pytest.importorskip("torch")
    pairs = zip(IMAGES, LABELS, strict=True)
    tensors = [(torch.from_numpy(image[None].copy()), label) for image, label in pairs]
    assert load(tensors).images.hash == load((IMAGES, LABELS)).images.hash


class Unreadable(HuggingFace):
    """A dataset whose second item cannot be read."""

    def __getitem__(self, index):
        if index == 1:
            raise OSError("truncated\nfile")
        return super().__getitem__(index)


def test_dataset_that_raises():
    with pytest.raises(ZoojaxError, match=r"^data: item 1 cannot be read \(OSError: truncated\)$"):
        load(Unreadable())


def test_file_of_a_spec_is_found_from_any_folder(tmp_path, monkeypatch):
    np.savez(tmp_path / "images.npz", images=IMAGES, labels=LABELS)
    monkeypatch.chdir(tmp_path)
    spec = load(DataSpec("images.npz")).spec
    assert spec is not None and spec.name == str(tmp_path / "images.npz")
