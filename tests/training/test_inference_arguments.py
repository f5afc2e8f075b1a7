"""Inference on images and parameters of a wrong shape or type."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import zoo_fixtures
from zoojax import ZoojaxError
from zoojax.datasets.specs import Images
from zoojax.storage import zoo_images
from zoojax.training import inference


def images(count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 28, 28, 1)).astype(np.float32)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (np.zeros((3, 28, 28, 1), np.uint8), "images are uint8; give them normalized"),
        (np.zeros((3, 28, 28, 1), np.int64), "images are int64"),
        (np.zeros((3, 28, 28, 1), bool), "images are bool"),
        (np.zeros((3, 28, 28, 1), np.complex64), "images are complex64"),
        (np.zeros((2000, 1, 1, 1), np.float32), "(2000, 1, 1, 1)"),
        (np.zeros((3, 28, 28, 3), np.float32), "(3, 28, 28, 3)"),
        (np.zeros((3, 1, 28, 28), np.float32), "(3, 1, 28, 28)"),
        (np.zeros((3, 32, 32, 1), np.float32), "(3, 32, 32, 1)"),
        (np.zeros((28, 28, 1), np.float32), "(28, 28, 1)"),
        (np.zeros((0, 28, 28, 1), np.float32), "there are no images"),
        (np.float32(0), "shape ()"),
        ("images", "float32 [n, 28, 28, 1]"),
        (None, "float32 [n, 28, 28, 1]"),
        ([[1.0], [2.0, 3.0]], "images cannot be converted to an array"),
    ],
)
def test_images_of_a_wrong_shape_or_type(tmp_path_factory, wrong, reason):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    for predict in (
        lambda: inference.predict(zoo, wrong),
        lambda: inference.predict_params(zoo.config, zoo.members_table, zoo.params(), wrong),
    ):
        with pytest.raises(ZoojaxError) as caught:
            predict()
        assert reason in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, jnp.bfloat16])
def test_images_of_another_floating_type_are_converted(tmp_path_factory, dtype):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    # Values that every type represents exactly.
    exact = np.round(images() * 4) / 4
    np.testing.assert_array_equal(
        inference.predict(zoo, exact.astype(dtype)), inference.predict(zoo, exact)
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float16, jnp.bfloat16])
def test_parameters_of_another_floating_type_are_converted(tmp_path_factory, dtype):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    exact = jax.tree.map(lambda x: x.astype(np.float16).astype(jnp.bfloat16), zoo.params())

    def predictions(kind):
        params = jax.tree.map(lambda x: x.astype(kind), exact)
        return inference.predict_params(zoo.config, zoo.members_table, params, images())

    np.testing.assert_array_equal(predictions(dtype), predictions(np.float32))


def without(params: dict, layer: str, name: str | None = None) -> dict:
    if name is None:
        return {k: v for k, v in params.items() if k != layer}
    return params | {layer: {k: v for k, v in params[layer].items() if k != name}}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: without(p, "fc1"), "'fc1' is missing"),
        (lambda p: without(p, "conv2", "bias"), "conv2: 'bias' is missing"),
        (lambda p: p | {"fc9": p["fc2"]}, "'fc9'"),
        (lambda p: p | {"fc1": None}, "fc1"),
        (lambda p: jax.tree.map(lambda x: x[:2], p), "conv1/kernel"),
        (lambda p: jax.tree.map(lambda x: x.astype(np.int32), p), "int32"),
        (lambda p: p | {"fc2": jax.tree.map(lambda x: x[..., :9], p["fc2"])}, "fc2/kernel"),
        (lambda p: [], "params"),
    ],
)
def test_parameters_of_a_wrong_shape_or_type(tmp_path_factory, change, reason):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    with pytest.raises(ZoojaxError) as caught:
        inference.predict_params(zoo.config, zoo.members_table, change(zoo.params()), images())
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"images": np.zeros((20, 32, 32, 1), np.float32)}, "(20, 32, 32, 1)"),
        ({"images": np.zeros((20, 28, 28, 1))}, "float64"),
        ({"labels": np.full(20, 10, np.int32)}, "labels from 10 to 10"),
        ({"labels": np.full(20, -1, np.int32)}, "labels from -1"),
        ({"labels": np.zeros(19, np.int32)}, "(19,)"),
        ({"labels": np.zeros(20, np.float32)}, "float32"),
    ],
)
def test_image_sets_of_a_wrong_shape_or_type(tmp_path_factory, change, reason):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    image_set = zoo_images.load_images(zoo, None)
    test = Images(**{"images": image_set.test.images, "labels": image_set.test.labels, **change})
    with pytest.raises(ZoojaxError, match="the test images of") as caught:
        inference.evaluate(zoo, dataclasses.replace(image_set, test=test))
    assert reason in str(caught.value)
