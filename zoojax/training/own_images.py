"""Programs of members that learn one image each, as a function of coordinates.

All members share the coordinates; the pixels of a member's image are in `Hyperparams.own`. A step
uses all pixels, and an epoch has `ZooConfig.steps_per_epoch` steps.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import polars as pl
from jax import Array

from zoojax.datasets.specs import ImageSet
from zoojax.errors import ZoojaxError
from zoojax.storage.zoo_config import ZooConfig
from zoojax.training import engine, loop, metrics, programs
from zoojax.training.programs import ProgramSpec


class Grid(NamedTuple):
    """What members that learn images share.

    Attributes:
        coordinates: (x, y) of each pixel, [pixels, 1, 1, 2] float32.
        scale: Standard deviation by which pixels in [0, 1] were divided, scalar float32.
    """

    coordinates: Array | np.ndarray
    scale: Array | np.ndarray | np.generic


def coordinates(size: int) -> np.ndarray:
    """Returns the coordinates of the pixels of a square image, row by row.

    They are evenly spaced from -1 to 1, and the first is the horizontal one, as in the zoos of
    DWSNets, NFN and Implicit-Zoo.

    Args:
        size: Side of the image, in pixels.

    Returns:
        [size * size, 1, 1, 2] float32.

    Example:
        >>> coordinates(2).reshape(4, 2).tolist()
        [[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]
    """
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return np.stack([x, y], axis=-1).reshape(-1, 1, 1, 2)


def psnr(loss: Array, scale: Array) -> Array:
    """Computes the peak signal-to-noise ratio (PSNR) of an image, for a peak of 1.

    Args:
        loss: Mean squared error of normalized pixels, scalar.
        scale: Standard deviation by which pixels in [0, 1] were divided.

    Returns:
        PSNR in dB, scalar.
    """
    return -10 * jnp.log10(loss * jnp.square(scale))


class OwnImages:
    """See `zoojax.training.task_programs.TaskPrograms`."""

    def shared(self, config: ZooConfig, images: ImageSet) -> Grid:
        """Returns the coordinates of the pixels, and the scale of their values.

        Raises:
            ZoojaxError: If the images have a std per channel.
        """
        scale = 1.0 if config.data is None else config.data.std
        if isinstance(scale, tuple):
            raise ZoojaxError(
                f"the images of {config.name} have a std per channel, but PSNR needs a single one; "
                "set std to a number"
            )
        return Grid(coordinates(images.train.images.shape[1]), np.asarray(scale, np.float32))

    def own(self, images: ImageSet, members: pl.DataFrame) -> np.ndarray:
        """Returns the pixels of each member's image, [members, pixels, channels]."""
        rows = []
        for row in members.select("id", "split", "image").iter_rows():
            member, split, image = row
            pixels = getattr(images, split).images
            if not image < len(pixels):
                raise ZoojaxError(
                    f"member {member} learns image {image} of the {split} images, but there are "
                    f"{len(pixels)}"
                )
            rows.append(pixels[image].reshape(-1, pixels.shape[-1]))
        return np.stack(rows).astype(np.float32, copy=False)

    def evaluate(
        self, spec: ProgramSpec, state: loop.TrainState, hyperparams: loop.Hyperparams, shared: Any
    ) -> dict[str, Array]:
        """Measures the error on the member's image, and the sparsities."""
        variables = programs.evaluated_variables(spec, state)
        outputs = engine.outputs(
            *(spec.architecture, spec.activation, spec.engine, variables, shared.coordinates)
        )
        loss = jnp.mean(jnp.square(outputs - hyperparams.own))
        measured = {"loss": loss, "psnr": psnr(loss, shared.scale)}
        finite = metrics.is_finite(state.trainable)
        return measured | metrics.sparsity(variables["params"]) | {"finite": finite}

    def train(
        self,
        spec: ProgramSpec,
        state: loop.TrainState,
        hyperparams: loop.Hyperparams,
        shared: Any,
        shared_order: Array,
        epoch: Array,
    ) -> tuple[loop.TrainState, dict[str, Array]]:
        """Trains for the steps of an epoch, with all pixels in each step, and evaluates."""
        assert spec.steps is not None
        pixels = shared.coordinates.shape[0]
        order = jnp.tile(jnp.arange(pixels, dtype=jnp.int32), spec.steps)
        state, _ = loop.train_epoch(
            *(spec.sparsifier, spec.loss, spec.optimizer, pixels, spec.dropout, state),
            *(hyperparams, shared.coordinates, hyperparams.own, order, epoch),
            *(spec.architecture.noise_slots, spec.schedule, spec.epochs),
        )
        return state, self.evaluate(spec, state, hyperparams, shared)

    def count(self, shared: Any) -> int:
        """Returns 1: the order of the pixels does not matter."""
        return 1

    def samples(self, config: ZooConfig, images: ImageSet) -> int:
        """Returns the number of pixels in all steps of an epoch."""
        assert config.steps_per_epoch is not None
        return config.steps_per_epoch * images.train.images[0, ..., 0].size

    def completed(self, measured: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the metrics as they are."""
        return measured
