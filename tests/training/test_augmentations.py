"""Augmentation of training images: what it draws, for whom, and when."""

import jax
import numpy as np
import pytest

from tests.support.zoo_fixtures import assert_same_zoo, same_bits, spec
from zoojax import Grid, MagnitudePruning, functional, sparsify, train_zoo
from zoojax.augmentations import AUGMENTATIONS, augment
from zoojax.datasets import loading
from zoojax.errors import ZoojaxError
from zoojax.runtime import population
from zoojax.training.trainer import Progress

SIDE, COUNT = 9, 2000
# Every pixel of an image has a value of its own.
IMAGE = np.arange(1, SIDE * SIDE * 2 + 1, dtype=np.float32).reshape(SIDE, SIDE, 2)
BORDER = np.array([-1, -2], np.float32)


def windows(name: str) -> list[np.ndarray]:
    """All results of an augmentation of IMAGE, by NumPy."""
    padding, flips = AUGMENTATIONS[name]
    padded = np.broadcast_to(BORDER, (SIDE + 2 * padding, SIDE + 2 * padding, 2)).copy()
    padded[padding : padding + SIDE, padding : padding + SIDE] = IMAGE
    shifts = range(2 * padding + 1)
    crops = [padded[i : i + SIDE, j : j + SIDE] for i in shifts for j in shifts]
    return crops + [crop[:, ::-1] for crop in crops if flips]


@pytest.mark.parametrize("name", ["crop", "flip", "crop_flip"])
def test_each_window_is_equally_likely(name):
    batch = np.broadcast_to(IMAGE, (COUNT, *IMAGE.shape))
    draw = jax.jit(augment, static_argnums=0)
    augmented = np.asarray(draw(name, jax.random.key(0), batch, BORDER))
    expected = windows(name)
    counts = [(augmented == window).all((1, 2, 3)).sum() for window in expected]
    assert sum(counts) == COUNT
    mean = COUNT / len(expected)
    assert np.abs(np.array(counts) - mean).max() < 5 * np.sqrt(mean)


def train(factory, out=None, **changes):
    options = {
        "data": spec(factory),
        "grid": Grid(learning_rates=(1e-2,), augmentations=("crop_flip",), seeds=3),
        "epochs": 2,
        "chunk": 3,
        "quiet": True,
    }
    return train_zoo(None, out, **{**options, **changes})


class Interruption(Exception):
    """Raised by a progress callback."""


def test_training_resumes_and_twins_inherit_the_augmentation(tmp_path_factory, tmp_path):
    zoo = train(tmp_path_factory, tmp_path / "zoo")
    assert zoo.members_table["augmentation"].to_list() == ["crop_flip"] * 3

    def interrupt(progress: Progress) -> None:
        if progress.epoch == 2:
            raise Interruption

    with pytest.raises(Interruption):
        train(tmp_path_factory, tmp_path / "resumed", report=interrupt)
    assert_same_zoo(train(tmp_path_factory, tmp_path / "resumed"), zoo)

    twin = sparsify(zoo, MagnitudePruning(ratios=(0.5,)), epochs=1, quiet=True)
    assert twin.members_table["augmentation"].to_list() == ["crop_flip"] * 3
    plain = sparsify(
        train(tmp_path_factory, augmentation="none", epochs=2),
        MagnitudePruning(ratios=(0.5,)),
        epochs=1,
        quiet=True,
    )
    assert "augmentation" not in plain.members_table.columns


def test_members_with_and_without_augmentation_train_in_one_zoo(tmp_path_factory):
    both = train(tmp_path_factory, augmentation=("none", "flip"))
    plain = train(tmp_path_factory, augmentation="none")
    alone = train(tmp_path_factory, augmentation="flip")
    state = both.state(2)["params"]
    assert same_bits(population.take(state, slice(0, 3)), plain.state(2)["params"])
    assert same_bits(population.take(state, slice(3, 6)), alone.state(2)["params"])
    assert "augmentation" not in plain.members_table.columns
    assert not same_bits(plain.state(1)["params"], alone.state(1)["params"])


def test_one_member_is_the_member_of_the_zoo(tmp_path_factory):
    zoo = train(tmp_path_factory, augmentation="crop", epochs=1)
    images = loading.load(spec(tmp_path_factory)).train
    member = functional.init("small", seed=2)
    epoch = jax.jit(lambda m, x, y: functional.train_epoch(m, x, y, 1e-2, augmentation="crop"))
    trained, _ = epoch(member, images.images, images.labels)
    for actual, expected in zip(
        jax.tree.leaves(trained.params), jax.tree.leaves(zoo.member(1)), strict=True
    ):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
    with pytest.raises(ZoojaxError, match="no augmentation named 'crops'; there are: none, crop"):
        functional.train_epoch(member, images.images, images.labels, 1e-2, augmentation="crops")
