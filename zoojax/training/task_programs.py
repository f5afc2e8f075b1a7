"""Training and evaluation of members by task, and the programs of a block of members.

The returned functions are not jitted: `zoojax.training.trainer` and
`zoojax.training.inference` compile them and call them block by block.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import polars as pl
from jax import Array
from jax.sharding import Mesh

from zoojax import keys
from zoojax.datasets.specs import ImageSet
from zoojax.runtime.population import vmap_members
from zoojax.storage.zoo_config import ZooConfig
from zoojax.tasks import CLASSIFICATION, OWN_IMAGE, Task
from zoojax.training import loop, programs
from zoojax.training.own_images import OwnImages
from zoojax.training.programs import ProgramSpec, Splits


class TaskPrograms(Protocol):
    """The programs of a task, and the data that they need."""

    def shared(self, config: ZooConfig, images: ImageSet) -> Any:
        """Returns the arrays that all members share, on the host."""
        ...

    def own(self, images: ImageSet, members: pl.DataFrame) -> np.ndarray | None:
        """Returns the data that differ between members, stacked; see `Hyperparams.own`.

        Raises:
            ZoojaxError: If the image set lacks the image of a member.
        """
        ...

    def count(self, shared: Any) -> int:
        """Returns the number of samples in the shared arrays that are shuffled."""
        ...

    def samples(self, config: ZooConfig, images: ImageSet) -> int:
        """Returns the number of samples that a member processes in an epoch."""
        ...

    def train(
        self,
        spec: ProgramSpec,
        state: loop.TrainState,
        hyperparams: loop.Hyperparams,
        shared: Any,
        shared_order: Array,
        epoch: Array,
    ) -> tuple[loop.TrainState, dict[str, Array]]:
        """Trains one member for one epoch and evaluates it; returns its state and metrics."""
        ...

    def evaluate(
        self, spec: ProgramSpec, state: loop.TrainState, hyperparams: loop.Hyperparams, shared: Any
    ) -> dict[str, Array]:
        """Computes the metrics of one member."""
        ...

    def completed(self, measured: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Adds the metrics of a population that follow from other ones."""
        ...


class Classification:
    """Programs of members that classify the same images; see `TaskPrograms`."""

    def shared(self, config: ZooConfig, images: ImageSet) -> Splits:
        """Returns the images with their labels."""
        return programs.splits(images)

    def own(self, images: ImageSet, members: pl.DataFrame) -> None:
        """Returns None: members share the images."""

    def count(self, shared: Splits) -> int:
        """Returns the number of training images."""
        return shared.train[1].shape[0]

    def samples(self, config: ZooConfig, images: ImageSet) -> int:
        """Returns the number of training images."""
        return len(images.train.labels)

    def train(
        self,
        spec: ProgramSpec,
        state: loop.TrainState,
        hyperparams: loop.Hyperparams,
        shared: Any,
        shared_order: Array,
        epoch: Array,
    ) -> tuple[loop.TrainState, dict[str, Array]]:
        """Trains on the training images, and evaluates on the others."""
        order = shared_order if spec.data_order == "shared" else None
        state, running = programs.train_member(spec, state, hyperparams, shared.train, epoch, order)
        splits = {"val": shared.val, "test": shared.test}
        return state, running | programs.evaluate_member(spec, state, splits)

    def evaluate(
        self,
        spec: ProgramSpec,
        state: loop.TrainState,
        hyperparams: loop.Hyperparams,
        shared: Splits,
    ) -> dict[str, Array]:
        """Evaluates on all images."""
        return programs.evaluate_member(spec, state, shared._asdict())

    def completed(self, measured: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Adds the generalization gap."""
        return measured | {"ggap": measured["train_acc"] - measured["test_acc"]}


_PROGRAMS: dict[str, TaskPrograms] = {
    CLASSIFICATION.name: Classification(),
    OWN_IMAGE.name: OwnImages(),
}


def task_programs(task: Task) -> TaskPrograms:
    """Returns the programs of a task."""
    return _PROGRAMS[task.name]


def evaluation(
    spec: ProgramSpec, mesh: Mesh
) -> Callable[[loop.TrainState, loop.Hyperparams, Any], dict[str, Array]]:
    """Creates the program that evaluates a block of members.

    Args:
        spec: The program.
        mesh: The devices.

    Returns:
        Function (states, hyperparameters, shared arrays) -> metrics [members].
    """
    task = task_programs(spec.architecture.task)
    return vmap_members(lambda s, h, d: task.evaluate(spec, s, h, d), mesh, (0, 0, None))


def epoch(
    spec: ProgramSpec, mesh: Mesh
) -> Callable[
    [loop.TrainState, loop.Hyperparams, Any, Array], tuple[loop.TrainState, dict[str, Array]]
]:
    """Creates the program that trains a block of members for one epoch and evaluates them.

    Args:
        spec: The program.
        mesh: The devices.

    Returns:
        Function (states, hyperparameters, shared arrays, epoch) -> (states, metrics [members]).
    """
    task = task_programs(spec.architecture.task)

    def train_and_evaluate(state, hyperparams, shared, shared_order, epoch):
        return task.train(spec, state, hyperparams, shared, shared_order, epoch)

    def train_block(state, hyperparams, shared, epoch):
        # With one order for all members, XLA gathers each batch (and the patches of the first
        # convolution) once.
        shared_order = keys.training_order(0, epoch, task.count(shared), spec.train_fraction)
        train_members = vmap_members(train_and_evaluate, mesh, (0, 0, None, None, None))
        return train_members(state, hyperparams, shared, shared_order, epoch)

    return train_block
