"""Resizing, grayscale conversion, cropping and normalization of images."""

import numpy as np

from zoojax.datasets.readers import RawPart
from zoojax.datasets.specs import DataSpec, Images
from zoojax.errors import ZoojaxError

# Pillow's fixed point for eight-bit images: 32 bits, less 8 for the pixel and 2 to spare.
_FIXED_POINT = 2.0**22

_CHUNK = 256


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Resizes bilinearly, averaging over the source pixels that a target pixel covers.

    This is Pillow's resize, to the bit for square uint8 images: pixel centres at
    half-integers, the triangle filter widened when shrinking, columns before rows,
    and eight-bit images rounded after each. (Pillow takes some tall images by rows
    first, which can differ by one level.) Float images are not rounded.

    Args:
        images: uint8 or float32 ``[n, h, w, c]``.
        size: Side of the result.

    Returns:
        ``[n, size, size, c]`` of the same type.
    """
    count, height, width, channels = images.shape
    if height == width == size:
        return images
    # Small chunks, as the sums are taken in float64 (exact there for fixed point).
    resized = np.empty((count, size, size, channels), images.dtype)
    columns, rows = _interpolation(width, size), _interpolation(height, size)
    for start in range(0, count, _CHUNK):
        chunk = _resize_axis(images[start : start + _CHUNK], columns, axis=2)
        resized[start : start + _CHUNK] = _resize_axis(chunk, rows, axis=1)
    return resized


def _interpolation(source: int, target: int) -> np.ndarray:
    """Weights ``[target, source]`` of source pixels in target pixels; rows add up to 1."""
    scale = source / target
    centres = (np.arange(target) + 0.5) * scale
    distance = np.abs(np.arange(source) + 0.5 - centres[:, None])
    weights = np.maximum(0.0, 1.0 - distance / max(scale, 1.0))
    return weights / weights.sum(axis=1, keepdims=True)


def _resize_axis(images: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    """Applies interpolation weights along one axis, in the arithmetic of the images' type."""
    moved = np.moveaxis(images, axis, -1).astype(np.float64)
    if images.dtype == np.uint8:
        weights = np.floor(weights * _FIXED_POINT + 0.5)
        resized = np.floor(moved @ weights.T / _FIXED_POINT + 0.5).clip(0, 255)
    else:
        resized = moved @ weights.T
    return np.moveaxis(resized, -1, axis).astype(images.dtype)


def transform(part: RawPart, spec: DataSpec) -> Images:
    """Grey, then crop or resize, then normalise: the order of the published zoos."""
    images = part.images
    if spec.channels == 1 and images.shape[-1] == 3:
        images = _luma(images)
    images = _centre_crop(images, spec) if spec.crop else resize(images, spec.size)
    # In place from here on: CIFAR-10 is 700 MB as float32.
    pixels = images.astype(np.float32, order="C")
    if images.dtype == np.uint8:
        pixels /= np.float32(255)
    pixels -= np.float32(spec.mean)
    pixels /= np.float32(spec.std)
    if spec.channels == 3 and pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
    return Images(pixels, part.labels)


def _luma(images: np.ndarray) -> np.ndarray:
    """ITU-R 601 luma ``[n, h, w, 1]``, for uint8 in Pillow's 16-bit fixed point."""
    if images.dtype != np.uint8:
        return images @ np.array([[0.299], [0.587], [0.114]], np.float32)
    luma = np.full(images.shape[:-1], 1 << 15, np.uint32)
    for channel, weight in enumerate((19595, 38470, 7471)):
        luma += images[..., channel] * np.uint32(weight)
    return (luma >> 16).astype(np.uint8)[..., None]


def _centre_crop(images: np.ndarray, spec: DataSpec) -> np.ndarray:
    _, height, width, _ = images.shape
    if min(height, width) < spec.size:
        raise ZoojaxError(
            f"{spec.name}: images of {height}x{width} cannot be cropped to {spec.size}; "
            "set a smaller size, or crop to false"
        )
    # round() as torchvision does, which matters where the margin is odd.
    top, left = round((height - spec.size) / 2), round((width - spec.size) / 2)
    return images[:, top : top + spec.size, left : left + spec.size]
