"""Resizing, grayscale conversion, cropping and normalization of images."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.image_sets import random_images
from zoojax.datasets import readers, transforms
from zoojax.datasets.specs import DataSpec
from zoojax.errors import ZoojaxError


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([np.uint8, np.float32]),
    st.integers(0, 2**32 - 1),
)
def test_resize_preserves_type_constants_and_range(height, width, size, dtype, seed):
    images = np.random.default_rng(seed).integers(0, 256, (2, height, width, 3)).astype(dtype)
    resized = transforms.resize(images, size)
    assert resized.shape == (2, size, size, 3)
    assert resized.dtype == dtype
    tolerance = 0 if dtype == np.uint8 else 1e-4
    assert images.min() - tolerance <= resized.min() <= resized.max() <= images.max() + tolerance
    np.testing.assert_array_equal(transforms.resize(resized, size), resized)
    constant = np.full((1, height, width, 1), images.flat[0])
    np.testing.assert_allclose(transforms.resize(constant, size), images.flat[0], atol=tolerance)


@given(st.integers(1, 100), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_resize_of_square_uint8_images_is_identical_to_pillow(side, size, seed):
    from PIL import Image

    image = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    expected = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(transforms.resize(image[None], size)[0], np.asarray(expected))


@pytest.mark.parametrize("side, size", [(16, 28), (96, 28), (96, 32), (32, 28), (28, 28)])
def test_resize_of_float_images_matches_torch(side, size):
    images = random_images(3, side)[0].astype(np.float32) / 255
    expected = torch.nn.functional.interpolate(
        torch.tensor(images).permute(0, 3, 1, 2), (size, size), mode="bilinear", antialias=True
    ).permute(0, 2, 3, 1)
    # The tolerance allows for torch's float32 weights.
    np.testing.assert_allclose(transforms.resize(images, size), expected.numpy(), atol=3e-6)


def test_luma_matches_pillow():
    from PIL import Image

    image = random_images(1, 64, 3)[0]
    expected = np.asarray(Image.fromarray(image[0]).convert("L"))
    np.testing.assert_array_equal(transforms._luma(image)[0, ..., 0], expected)
    float_luma = transforms._luma(image.astype(np.float32) / 255)[0, ..., 0]
    np.testing.assert_allclose(float_luma, expected / 255, atol=0.51 / 255)


def test_grayscale_to_three_channels_and_normalization():
    images, labels = random_images(4, 28)
    part = readers.RawPart(images, labels)
    gray = transforms.transform(part, DataSpec("made-up", mean=0.1307, std=0.3081)).images
    expected = (torch.tensor(images).float() / 255 - 0.1307) / 0.3081
    np.testing.assert_allclose(gray, expected.numpy(), atol=1e-6)
    color = transforms.transform(part, DataSpec("made-up", channels=3, mean=0.1307, std=0.3081))
    np.testing.assert_array_equal(color.images, np.repeat(gray, 3, axis=-1))


def test_center_crop():
    images, labels = random_images(4, 32)
    part = readers.RawPart(images, labels)
    cropped = transforms.transform(part, DataSpec("made-up", crop=True, mean=0, std=1)).images
    np.testing.assert_allclose(cropped, images[:, 2:30, 2:30] / 255, atol=1e-7)
    with pytest.raises(ZoojaxError, match="32x32 cannot be cropped to 33"):
        transforms.transform(part, DataSpec("made-up", size=33, crop=True))
