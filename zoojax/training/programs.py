"""The XLA programs of a zoo: evaluation, predictions, one epoch with its evaluation.

Everything here is a function of one block of members; `zoojax.training.trainer` calls it block by
block, `jax.jit` around it, the state donated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jax import Array
from jax.sharding import Mesh

from zoojax import keys
from zoojax.architectures.base import Architecture
from zoojax.datasets.specs import Images, ImageSet
from zoojax.runtime.population import vmap_members
from zoojax.sparsifiers import base, magnitude, variational_dropout
from zoojax.training import engine, loop, metrics

_METHODS = {
    "dense": base.dense,
    "mp": magnitude.method,
    "vd": variational_dropout.method,
}
KINDS = tuple(_METHODS)
ORDERS = ("member", "shared")


Split = tuple[Array | np.ndarray, Array | np.ndarray]


class Splits(NamedTuple):
    """The images of a zoo, as (images [n, H, W, C], labels [n]) pairs."""

    train: Split
    val: Split
    test: Split


@dataclass(frozen=True)
class ProgramSpec:
    """What shapes a program: members that share it run together.

    Attributes:
        kind: one of KINDS.
        architecture: the shape of the members.
        activation: a name of `models.ACTIVATIONS`.
        optimizer: a name of `train.OPTIMIZERS`.
        dropout: whether the members use dropout.
        batch_size: images a step.
        data_order: "member" (each shuffles by its own seed) or "shared".
        engine: what computes it, a name of `network.ENGINES`.
    """

    kind: str
    architecture: Architecture
    activation: str
    optimizer: str
    dropout: bool
    batch_size: int
    data_order: str = "member"
    engine: str = "xla"

    @property
    def method(self) -> base.Method:
        """What the kind adds to training."""
        return _METHODS[self.kind](engine.loss(self.architecture, self.activation, self.engine))


def splits(image_set: ImageSet) -> Splits:
    """The arrays of an image set, on the host."""

    def pair(images: Images) -> Split:
        return images.images, images.labels

    return Splits(pair(image_set.train), pair(image_set.val), pair(image_set.test))


def evaluate_member(
    recipe: ProgramSpec, state: loop.TrainState, splits: dict[str, tuple]
) -> dict[str, Array]:
    params = recipe.method.effective(state.trainable, state.fixed)
    measured = metrics.sparsity(params)
    for name, (images, labels) in splits.items():
        result = engine.evaluate(
            recipe.architecture, recipe.activation, recipe.engine, params, images, labels
        )
        measured |= {f"{name}_{key}": value for key, value in result.items()}
    return measured | {"finite": metrics.is_finite(state.trainable)}


def evaluation(
    recipe: ProgramSpec, mesh: Mesh
) -> Callable[[loop.TrainState, Splits], dict[str, Array]]:
    """(states, sets) -> metrics [members] on all three sets: what epoch 0 is measured with."""
    return vmap_members(lambda s, d: evaluate_member(recipe, s, d._asdict()), mesh, (0, None))


def predictions(recipe: ProgramSpec, mesh: Mesh) -> Callable[[loop.TrainState, Array], Array]:
    """(states, images [n, H, W, C]) -> predicted classes [members, n]."""

    def one(state, images):
        params = recipe.method.effective(state.trainable, state.fixed)
        shape, activation = recipe.architecture, recipe.activation
        return engine.predictions(shape, activation, recipe.engine, params, images)

    return vmap_members(one, mesh, (0, None))


def epoch(
    recipe: ProgramSpec, mesh: Mesh
) -> Callable[
    [loop.TrainState, loop.Hyperparams, Splits, Array], tuple[loop.TrainState, dict[str, Array]]
]:
    """(states, hypers, sets, number) -> (states, metrics [members]): one epoch, then evaluation."""

    def one(state, hyper, data, shared_order, number):
        images, labels = data.train
        order = shared_order
        if recipe.data_order == "member":
            order = keys.permutation(keys.stream_key(hyper.seed, "order", number), labels.shape[0])
        state, running = loop.train_epoch(
            recipe.method,
            recipe.optimizer,
            recipe.batch_size,
            recipe.dropout,
            state,
            hyper,
            images,
            labels,
            order,
            number,
        )
        measured = evaluate_member(recipe, state, {"val": data.val, "test": data.test})
        return state, running | measured

    def block(state, hyper, data, number):
        # One order for all: gathered once, and the first convolution's patches with it.
        shared = keys.permutation(keys.stream_key(0, "order", number), data.train[1].shape[0])
        return vmap_members(one, mesh, (0, 0, None, None, None))(state, hyper, data, shared, number)

    return block
