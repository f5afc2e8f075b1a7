"""`apply`, `predict` and `evaluate`, and the one-line errors of invalid arguments."""

import re
from typing import Any

import numpy as np
import pytest

import zoojax
from tests.support import zoo_fixtures
from zoojax import DataSpec, ZoojaxError
from zoojax.storage.zoo_images import load_images

# For arguments of invalid types.
api: Any = zoojax
ZEROS = np.zeros((4, 28, 28, 1), np.float32)


@pytest.fixture
def dense(tmp_path_factory):
    return zoo_fixtures.dense(tmp_path_factory)


@pytest.mark.parametrize("kind", list(zoo_fixtures.KINDS))
def test_logits_predictions_and_accuracy_agree(tmp_path_factory, kind):
    zoo = zoo_fixtures.KINDS[kind](tmp_path_factory)
    test = load_images(zoo, None).test
    logits = zoojax.apply(zoo, test.images, epoch=1)
    assert logits.shape == (len(zoo), len(test.labels), 10) and logits.dtype == np.float32
    classes = zoojax.predict(zoo, test.images, epoch=1)
    assert np.array_equal(logits.argmax(-1), classes)
    measured = zoo.metrics.filter(epoch=1)["test_acc"].to_numpy()
    np.testing.assert_allclose((classes == test.labels).mean(1), measured, atol=1e-6)
    evaluated = zoojax.evaluate(zoo, epoch=1)["test_acc"].to_numpy()
    np.testing.assert_allclose(evaluated, measured, atol=1e-6)


def test_members_in_any_order(dense):
    images = load_images(dense, None).test.images
    for function in (zoojax.apply, zoojax.predict):
        whole = function(dense, images)
        assert np.array_equal(function(dense.path, images, members=[2, 0]), whole[[2, 0]])
        assert np.array_equal(
            function(dense, images, 0, members=[1])[0], function(dense, images, 0)[1]
        )


def test_evaluate_on_other_images(dense, tmp_path_factory):
    other = zoo_fixtures.other_images(tmp_path_factory)
    by_path = zoojax.evaluate(dense, other)
    by_name = dense.evaluate(str(other))
    arrays = dict(np.load(other))
    assert by_path.equals(by_name) and by_path.equals(zoojax.evaluate(dense, arrays))
    assert not by_path.equals(zoojax.evaluate(dense))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (ZEROS[..., 0], "images have shape (4, 28, 28); give float32 [n, 28, 28, 1]"),
        (ZEROS[:, :27], "images have shape (4, 27, 28, 1)"),
        (ZEROS.astype(np.uint8), "images are uint8; give them normalized"),
        (ZEROS[:0], "there are no images"),
        (np.linspace(0, 255, ZEROS.size, dtype=np.float32).reshape(ZEROS.shape), "0 to 255"),
        (
            np.linspace(0, 1, ZEROS.size, dtype=np.float32).reshape(ZEROS.shape),
            "images run from 0 to 1, like pixels that are not normalized; "
            "give (pixels in [0, 1] - 0.5) / 0.5, from -1 to 1",
        ),
        ("digits", "images"),
    ],
)
def test_images_that_do_not_suit_the_zoo(dense, images, message):
    for function in (zoojax.apply, zoojax.predict):
        with pytest.raises(ZoojaxError, match=re.escape(message)) as error:
            function(dense, images)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda zoo: api.train_zoo("usps-seed", quiet=True), "did you mean 'usps-s-seed'"),
        (lambda zoo: api.train_zoo(3, quiet=True), "preset is 3; give the name of a preset"),
        (lambda zoo: api.train_zoo(quiet=True), "give a preset or data"),
        (
            lambda zoo: api.train_zoo(data="digits", architecture=28),
            "architecture is 28; give the name",
        ),
        (lambda zoo: api.train_zoo("digits-s-seed", members=0), "0 members requested"),
        (lambda zoo: api.train_zoo("digits-s-seed", learning_rate=-1.0), "learning rate -1"),
        (lambda zoo: api.train_zoo("digits-s-seed", data_order="random"), "data order"),
        (lambda zoo: api.train_zoo("digits-s-seed", epochs=-1), "-1 epochs requested"),
        (lambda zoo: api.sparsify(zoo, "magnitude"), "did you mean 'magnitude_pruning'"),
        (lambda zoo: api.sparsify(zoo, "dense"), "no sparsifier named 'dense'"),
        (lambda zoo: api.sparsify(zoo, 0.5), "0.5 is not a sparsifier"),
        (
            lambda zoo: api.sparsify(zoo, "variational_dropout", members=[0, 9]),
            "no member 9; it has 3 members",
        ),
        (lambda zoo: zoo.params(7), "has no epoch 7; it has epochs 0 to 2"),
        (lambda zoo: zoo.params(1, members=[3]), "no member 3"),
        (lambda zoo: zoo.module(5), "no member 5"),
        (lambda zoo: api.apply(zoo, ZEROS, members=[]), "members is empty"),
        (lambda zoo: api.open_zoo(3), "path is 3; give the path of a file or folder"),
        (lambda zoo: api.predict(3, ZEROS), "zoo is 3; give a zoo or the folder of one"),
        (lambda zoo: api.evaluate(zoo, "digit"), "'digit'"),
    ],
)
def test_invalid_arguments_are_named(dense, call, message):
    with pytest.raises(ZoojaxError, match=re.escape(message)) as error:
        call(dense)
    assert "\n" not in str(error.value)


def test_images_of_another_shape_than_the_spec(dense):
    with pytest.raises(ZoojaxError, match="the members take"):
        zoojax.evaluate(dense, DataSpec("digits", size=8))
