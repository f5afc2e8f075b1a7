"""Small random image sets in the formats of the official ones."""

import dataclasses
import importlib.util

import numpy as np

from zoojax.datasets import registry

RNG_SEED = 0


def shrink(monkeypatch, name, sizes, train, val, **changes):
    """Reduces the official sizes of a known set, so that a test can generate its files."""
    known = dataclasses.replace(
        registry.KNOWN[name], sizes=sizes, default_train=train, default_val=val, **changes
    )
    monkeypatch.setitem(registry.KNOWN, name, known)


def set_url(monkeypatch, name, url):
    """Replaces the download URL of a known set."""
    monkeypatch.setitem(registry.KNOWN, name, dataclasses.replace(registry.KNOWN[name], url=url))


def hide_tensorflow(monkeypatch, spec=None):
    """Makes TensorFlow appear to be missing, or installed if a spec is given."""
    original = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: spec if name == "tensorflow" else original(name, *rest),
    )


def random_images(count, side, channels=1):
    """Random uint8 images [count, side, side, channels] and labels [count]."""
    rng = np.random.default_rng(RNG_SEED)
    images = rng.integers(0, 256, (count, side, side, channels), dtype=np.uint8)
    return images, rng.integers(0, 10, count)


def assert_valid(image_set, sizes, side=28, channels=1):
    """Checks shapes, types, labels and the length of the hash."""
    parts = (image_set.train, image_set.val, image_set.test)
    for part, size in zip(parts, sizes, strict=True):
        assert part.images.shape == (size, side, side, channels)
        assert part.images.dtype == np.float32
        assert part.labels.shape == (size,)
        assert part.labels.dtype == np.int32
        assert part.labels.max() < image_set.num_classes
    assert len(image_set.hash) == 64


def one_line(caught):
    """The message of a caught exception, which must be one line."""
    message = str(caught.value)
    assert "\n" not in message
    return message
