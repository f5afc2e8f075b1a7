"""Resizing, grayscale conversion, cropping and normalization of images."""

import numpy as np

from zoojax.datasets.readers import RawPart
from zoojax.datasets.specs import DataSpec, Images
from zoojax.errors import ZoojaxError

# Pillow's fixed-point scale for 8-bit images: 32 bits minus 8 for the pixel and 2 spare bits.
_FIXED_POINT = 2.0**22

_CHUNK = 256


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Resizes images bilinearly with antialiasing.

    The algorithm is Pillow's, and the result is bit-identical for square uint8 images: pixel
    centers are at half-integers, the triangle filter is widened when shrinking, columns are
    processed before rows, and uint8 images are rounded after each. (For some tall images, Pillow
    processes rows first, which can change the result by one level.) Float images are not
    rounded.

    Args:
        images: uint8 or float32 ``[n, h, w, c]``.
        size: Side of the result, in pixels.

    Returns:
        ``[n, size, size, c]`` of the same type.
    """
    count, height, width, channels = images.shape
    if height == width == size:
        return images
    # Small chunks, as sums are computed in float64 (in which fixed-point sums are exact).
    resized = np.empty((count, size, size, channels), images.dtype)
    columns, rows = _interpolation(width, size), _interpolation(height, size)
    for start in range(0, count, _CHUNK):
        chunk = _resize_axis(images[start : start + _CHUNK], columns, axis=2)
        resized[start : start + _CHUNK] = _resize_axis(chunk, rows, axis=1)
    return resized


def _interpolation(source: int, target: int) -> np.ndarray:
    """Computes interpolation weights, ``[target, source]``; each row sums to 1."""
    scale = source / target
    centers = (np.arange(target) + 0.5) * scale
    distance = np.abs(np.arange(source) + 0.5 - centers[:, None])
    weights = np.maximum(0.0, 1.0 - distance / max(scale, 1.0))
    return weights / weights.sum(axis=1, keepdims=True)


def _resize_axis(images: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    """Applies interpolation weights along one axis; fixed-point arithmetic for uint8 images."""
    moved = np.moveaxis(images, axis, -1).astype(np.float64)
    if images.dtype == np.uint8:
        weights = np.floor(weights * _FIXED_POINT + 0.5)
        resized = np.floor(moved @ weights.T / _FIXED_POINT + 0.5).clip(0, 255)
    else:
        resized = moved @ weights.T
    return np.moveaxis(resized, -1, axis).astype(images.dtype)


def transform(part: RawPart, spec: DataSpec) -> Images:
    """Transforms one part: grayscale, crop or resize, normalization.

    The order is that of the published zoos.

    Args:
        part: The part.
        spec: The image set's size, channels and normalization.

    Raises:
        ZoojaxError: If the images are too small to be cropped.
    """
    images = part.images
    if spec.channels == 1 and images.shape[-1] == 3:
        images = _luma(images)
    images = _center_crop(images, spec) if spec.crop else resize(images, spec.size)
    if spec.channels == 3 and images.shape[-1] == 1:
        images = np.repeat(images, 3, axis=-1)
    # In place from here on: CIFAR-10 takes 700 MB as float32.
    pixels = images.astype(np.float32, order="C")
    if images.dtype == np.uint8:
        pixels /= np.float32(255)
    pixels -= np.asarray(spec.mean, np.float32)
    pixels /= np.asarray(spec.std, np.float32)
    return Images(pixels, part.labels)


def _luma(images: np.ndarray) -> np.ndarray:
    """Computes ITU-R 601 luma, ``[n, h, w, 1]``; in Pillow's 16-bit fixed point for uint8."""
    if images.dtype != np.uint8:
        return images @ np.array([[0.299], [0.587], [0.114]], np.float32)
    luma = np.full(images.shape[:-1], 1 << 15, np.uint32)
    for channel, weight in enumerate((19595, 38470, 7471)):
        luma += images[..., channel] * np.uint32(weight)
    return (luma >> 16).astype(np.uint8)[..., None]


def _center_crop(images: np.ndarray, spec: DataSpec) -> np.ndarray:
    _, height, width, _ = images.shape
    if min(height, width) < spec.size:
        raise ZoojaxError(
            f"{spec.name}: images of {height}x{width} cannot be cropped to {spec.size}; "
            "set a smaller size, or crop to false"
        )
    # round() as in torchvision, which matters for odd margins.
    top, left = round((height - spec.size) / 2), round((width - spec.size) / 2)
    return images[:, top : top + spec.size, left : left + spec.size]
