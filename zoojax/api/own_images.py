"""Zoos whose members learn one image each: the image of each member, and the options."""

from typing import Any

import numpy as np
import polars as pl

from zoojax.architectures.base import Architecture
from zoojax.datasets.specs import ImageSet
from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.declaration import check_name, check_whole
from zoojax.hyperparameters.grid import Grid

# The parts of an image set, in the order in which members take their images.
PARTS = ("train", "val", "test")
ALL = "all"
DEFAULT_STEPS = 100
# Hyperparameters that SIRENs are trained with if none are given.
DEFAULT_GRID = Grid(activations=("sine",), inits=("siren",), learning_rates=(1e-3,))


def with_images(table: pl.DataFrame, images: ImageSet, split: str) -> pl.DataFrame:
    """Assigns an image to each member of a members table.

    Seeds 1, 2, ... get the images in order: those of one part, or for "all" the training, then the
    validation, then the test images. Seeds larger than the number of images start again with the
    first image.

    Args:
        table: One row per member.
        images: The image set.
        split: "train", "val", "test" or "all".

    Returns:
        The table with the columns `split`, `image` (position in this part) and `label`.

    Raises:
        ZoojaxError: If there is no such part, or the table has the column `train_fraction`.

    Example:
        >>> from zoojax.datasets import loading
        >>> digits = loading.load(zoojax.DataSpec("digits", size=8))
        >>> with_images(pl.DataFrame({"seed": [1, 2]}), digits, "test").rows()
        [(1, 'test', 0, 7), (2, 'test', 1, 0)]
    """
    check_name("split", split, (*PARTS, ALL))
    if "train_fraction" in table.columns:
        raise ZoojaxError("train_fraction has no effect here: members learn all pixels of an image")
    parts = PARTS if split == ALL else (split,)
    labels = [getattr(images, part).labels for part in parts]
    names = np.repeat(parts, [len(each) for each in labels])
    positions = np.concatenate([np.arange(len(each)) for each in labels])
    chosen = (table["seed"].to_numpy() - 1) % len(positions)
    return table.with_columns(
        pl.Series("split", names[chosen].tolist(), pl.String),
        pl.Series("image", positions[chosen], pl.Int64),
        pl.Series("label", np.concatenate(labels)[chosen], pl.Int64),
    )


def check_options(
    shape: Architecture, batch_size: Any, steps_per_epoch: Any, split: str | None
) -> None:
    """Checks that options suit the task of an architecture.

    Args:
        shape: The architecture.
        batch_size: Requested batch size; None if not given.
        steps_per_epoch: Requested steps per epoch; None if not given.
        split: Requested part of the image set; None if not given.

    Raises:
        ZoojaxError: If an option has no effect, or is out of range.
    """
    if not shape.task.has_own_images:
        for name, value in (("steps_per_epoch", steps_per_epoch), ("split", split)):
            if value is not None:
                raise ZoojaxError(
                    f"{name} has no effect here: all members of the {shape.label} classify the "
                    "same images"
                )
        return
    if batch_size is not None:
        raise ZoojaxError(
            f"batch_size has no effect here: each step of the {shape.label} uses all pixels of the "
            "member's image; give steps_per_epoch"
        )
    if steps_per_epoch is not None and check_whole("steps_per_epoch", steps_per_epoch) < 1:
        raise ZoojaxError(f"steps_per_epoch is {steps_per_epoch}; give at least 1")
