"""Random augmentations of training images by name, as in torchvision.transforms.

    none        the images as they are
    crop        RandomCrop with a padding of four pixels
    flip        RandomHorizontalFlip
    crop_flip   both, as for the published ResNet-18 zoos

>>> from zoojax import augmentations
>>> sorted(augmentations.AUGMENTATIONS)
['crop', 'crop_flip', 'flip', 'none']
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, random


class Augmentation(NamedTuple):
    """An augmentation.

    Attributes:
        padding: Largest shift of an image in each direction, in pixels.
        flips: Whether each image is mirrored, left to right, with a probability of one half.
    """

    padding: int = 0
    flips: bool = False


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": Augmentation(),
    "crop": Augmentation(padding=4),
    "flip": Augmentation(flips=True),
    "crop_flip": Augmentation(padding=4, flips=True),
}


def augment(name: str, key: Array, images_BHWC: Array, border_C: Array) -> Array:
    """Augments a batch of images, with independent draws for each image.

    Args:
        name: A name of AUGMENTATIONS.
        key: Random key of the batch.
        images_BHWC: Images, [batch, height, width, channels].
        border_C: Value of the pixels outside of the images, [channels].

    Returns:
        Images of the same shape.

    Example:
        >>> from zoojax.augmentations import augment
        >>> batch = jnp.asarray(images[:4])
        >>> augment("crop_flip", jax.random.key(0), batch, batch.min((0, 1, 2))).shape
        (4, 28, 28, 1)
    """
    augmentation, count = AUGMENTATIONS[name], images_BHWC.shape[0]
    shifts, mirrored = random.split(key)
    if augmentation.padding:
        choices = 2 * augmentation.padding + 1
        offsets = random.randint(shifts, (2, count), 0, choices, jnp.int32)
        for axis, offset_B in zip((1, 2), offsets - augmentation.padding, strict=True):
            images_BHWC = _shifted(images_BHWC, offset_B, axis, border_C)
    if augmentation.flips:
        flips_B = random.bits(mirrored, (count,), jnp.uint32) >> 31 == 1
        flips_B111 = flips_B[:, None, None, None]
        images_BHWC = jnp.where(flips_B111, images_BHWC[:, :, ::-1], images_BHWC)
    return images_BHWC


def _shifted(images_BHWC: Array, offset_B: Array, axis: int, border_C: Array) -> Array:
    """Shifts each image along an axis; pixels from outside of it have the value of the border."""
    size = images_BHWC.shape[axis]
    at = offset_B[:, None] + jnp.arange(size)[None]
    at = jnp.expand_dims(at, [each for each in (1, 2, 3) if each != axis])
    moved = jnp.take_along_axis(images_BHWC, at.clip(0, size - 1), axis)
    return jnp.where((at >= 0) & (at < size), moved, border_C[None, None, None])
