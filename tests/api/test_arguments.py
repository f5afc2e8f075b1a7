"""Arguments of the wrong type are named in one line, before anything is trained or written."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import zoojax
from tests.support import zoo_fixtures
from zoojax import DataSpec, Grid, MagnitudePruning, ZoojaxError
from zoojax.architectures.chain import Chain
from zoojax.architectures.chain_layers import Activation, Dense, Flatten
from zoojax.datasets import loading
from zoojax.presets import Preset

IMAGES, LABELS = np.zeros((40, 8, 8), np.uint8), np.arange(40) % 10
# Too many layers for a name that describes them.
UNREGISTERED = Chain(
    "unregistered", 8, 1, 10, (Flatten(), *[Activation("leaky_relu")] * 30, Dense(10))
)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": 5}, "out is 5; give the path"),
        ({"out": b"zoo"}, "out is b'zoo'; give the path"),
        ({"out": "a\0b"}, r"a\\x00b is not a path"),
        ({"grid": {"seeds": 2}}, "grid is .*; give a zoojax.Grid"),
        ({"members": "3"}, "members is '3'; give a whole number"),
        ({"members": 2.5}, "members is 2.5; give a whole number"),
        ({"members": 10**9}, "1000000000 members requested; give at most 1000000"),
        ({"epochs": "1"}, "epochs is '1'; give a whole number"),
        ({"epochs": True}, "epochs is True; give a whole number"),
        ({"batch_size": 1.5}, "batch_size is 1.5; give a whole number"),
        ({"batch_size": "10"}, "batch_size is '10'; give a whole number"),
        ({"first_seed": 1.5}, "first_seed is 1.5; give a whole number"),
        ({"first_seed": None}, "first_seed is None; give a whole number"),
        ({"chunk": "2"}, "chunk is '2'; give a whole number"),
        ({"preset": Preset("small", 5, Grid())}, "data of the preset is 5; give a DataSpec"),  # pyright: ignore
        ({"report": 5}, "report is 5; give a function"),
        ({"architecture": UNREGISTERED}, "'unregistered' is not registered; register it with"),
        ({"data": "digits", "data_dir": 5}, "data_dir is 5; give the path"),
        ({"data": "a\0b.npz"}, r"a\\x00b.npz is not a path"),
    ],
)
def test_train_zoo(options, message):
    with pytest.raises(ZoojaxError, match=message) as error:
        zoojax.train_zoo(**{"data": (IMAGES, LABELS), "quiet": True, "epochs": 0, **options})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rates": 0.1}, "learning_rates is 0.1; give a tuple of values"),
        ({"activations": "tanh"}, "activations is tanh; give a tuple of values"),
        ({"seeds": "x"}, "members is 'x'; give a whole number"),
    ],
)
def test_grid(options: dict[str, Any], message):
    with pytest.raises(ZoojaxError, match=message):
        Grid(**options)


def test_numbers_of_numpy_are_numbers():
    grid = Grid(learning_rates=np.array([0.1, 0.2]), seeds=np.int64(2))  # pyright: ignore
    assert grid == Grid(learning_rates=(0.1, 0.2), seeds=2)
    whole = {"epochs": np.int64(0), "batch_size": np.int64(4), "chunk": np.int64(1)}
    zoo = zoojax.train_zoo(data=(IMAGES, LABELS), members=np.int64(1), quiet=True, **whole)  # pyright: ignore
    assert (zoo.config.epochs, zoo.config.batch_size, zoo.config.chunk) == (0, 4, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": 5}, "name of images is 5; give a string"),
        ({"size": "8"}, "size of images is '8'; give a whole number"),
        ({"train": 1.5}, "train of images is 1.5; give a whole number"),
        ({"seed": None}, "seed of images is None; give a whole number"),
        ({"mean": "dark"}, "mean of images is dark; give a number"),
        ({"std": float("nan")}, "std of images is nan; give a number"),
    ],
)
def test_data_spec(options, message):
    with pytest.raises(ZoojaxError, match=message):
        DataSpec(**{"name": "digits", **options})


def test_image_set_with_changed_arrays():
    """Labels and hash are those that a stored zoo needs."""
    images = loading.load(DataSpec("digits", size=28, train=10, val=5))
    labels = images.train.labels.astype(np.int64)
    options: dict[str, Any] = {"architecture": "mlp-2", "epochs": 0, "quiet": True}
    zoo = zoojax.train_zoo(
        data=replace(images, train=replace(images.train, labels=labels), hash=""), **options
    )
    assert zoo.config.data_hash == images.hash
    for part, message in (
        (None, "data: train of the ImageSet is not Images of NumPy arrays"),
        (replace(images.train, images=images.train.images * np.nan), "data: the train images"),
    ):
        with pytest.raises(ZoojaxError, match=message):
            zoojax.train_zoo(data=replace(images, train=part), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": 5}, "out is 5; give the path"),
        ({"epochs": "2"}, "epochs is '2'; give a whole number"),
        ({"epoch": 1.0}, "epoch is 1.0; give a whole number"),
        ({"members": 1.5}, "members is 1.5; give a whole number"),
        ({"members": "ab"}, "members is ab; give a list of ids"),
        ({"scores": 5}, "scores is 5; give a function"),
        ({"sparsifier": MagnitudePruning(0.5)}, "ratios is 0.5; give a tuple"),  # pyright: ignore
        ({"sparsifier": MagnitudePruning(("x",))}, "ratio is x; give a number"),  # pyright: ignore
    ],
)
def test_sparsify(dense, options, message):
    with pytest.raises(ZoojaxError, match=message):
        zoojax.sparsify(dense, **{"sparsifier": MagnitudePruning((0.5,)), "quiet": True, **options})


@pytest.mark.parametrize("members", [0, "0", [[0]], [None], [0.0], slice(2)])
def test_ids_of_members(dense, members):
    for method in (dense.params, dense.sparse_params):
        with pytest.raises(ZoojaxError, match=r"members is .*|the id of a member is .*"):
            method(members=members)


def test_methods_of_a_zoo(dense):
    with pytest.raises(ZoojaxError, match=r"epoch is 1\.0; give a whole number"):
        dense.evaluate(epoch=1.0)
    with pytest.raises(ZoojaxError, match=r"the id of a member is \[0\]; give a whole number"):
        dense.member([0])
    with pytest.raises(ZoojaxError, match="out is None; give the path"):
        dense.save(None)
    with pytest.raises(ZoojaxError, match="members is 0; give a list of ids"):
        dense.predict(np.full((2, 28, 28, 1), -0.5, np.float32), members=0)


def test_images_that_are_not_numbers_have_no_prediction(dense):
    images = np.full((2, 28, 28, 1), -0.5, np.float32)
    images[1, 3, 3] = np.nan
    for method in (dense.apply, dense.predict):
        with pytest.raises(ZoojaxError, match="images contain NaN"):
            method(images)


@pytest.mark.parametrize(
    ("count", "label", "message"),
    [(2, 1, "data: 2 images are too few.*give at least 3"), (40, 70000, "classes from 0, up to")],
)
def test_too_few_images_and_too_many_classes(count, label, message):
    with pytest.raises(ZoojaxError, match=message):
        zoojax.train_zoo(data=(IMAGES[:count], np.full(count, label)), quiet=True)


def test_notebook_shows_the_sparsifier(tmp_path_factory):
    for zoo, shown in (
        (zoo_fixtures.dense(tmp_path_factory), ">dense<"),
        (zoo_fixtures.pruned(tmp_path_factory), ">magnitude pruning, global pruning<"),
    ):
        assert shown in zoo._repr_html_()
