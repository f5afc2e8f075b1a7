"""The XLA programs of a zoo: evaluation, predictions, one epoch with its evaluation.

Everything here is a function of one block of members; `zoojax.run` calls it block by
block, `jax.jit` around it, the state donated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jax import Array
from jax.sharding import Mesh

from zoojax import evaluate, keys, magnitude_pruning, network, train, variational_dropout
from zoojax.architectures import Architecture
from zoojax.data import Images, ImageSet
from zoojax.population import over_members

_METHODS = {
    "dense": train.dense,
    "mp": magnitude_pruning.method,
    "vd": variational_dropout.method,
}
KINDS = tuple(_METHODS)
ORDERS = ("member", "shared")


Pair = tuple[Array | np.ndarray, Array | np.ndarray]


class Sets(NamedTuple):
    """The images of a zoo, as (images [n, H, W, C], labels [n]) pairs."""

    train: Pair
    val: Pair
    test: Pair


@dataclass(frozen=True)
class Recipe:
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
    def method(self) -> train.Method:
        """What the kind adds to training."""
        return _METHODS[self.kind](network.loss(self.architecture, self.activation, self.engine))


def sets(image_set: ImageSet) -> Sets:
    """The arrays of an image set, on the host."""

    def pair(images: Images) -> Pair:
        return images.images, images.labels

    return Sets(pair(image_set.train), pair(image_set.val), pair(image_set.test))


def _measure(recipe: Recipe, state: train.State, splits: dict[str, tuple]) -> dict[str, Array]:
    params = recipe.method.effective(state.trainable, state.fixed)
    metrics = evaluate.sparsity(params)
    for name, (images, labels) in splits.items():
        result = network.accuracy(
            recipe.architecture, recipe.activation, recipe.engine, params, images, labels
        )
        metrics |= {f"{name}_{key}": value for key, value in result.items()}
    return metrics | {"finite": evaluate.is_finite(state.trainable)}


def evaluation(recipe: Recipe, mesh: Mesh) -> Callable[[train.State, Sets], dict[str, Array]]:
    """(states, sets) -> metrics [members] on all three sets: what epoch 0 is measured with."""
    return over_members(lambda s, d: _measure(recipe, s, d._asdict()), mesh, (0, None))


def predictions(recipe: Recipe, mesh: Mesh) -> Callable[[train.State, Array], Array]:
    """(states, images [n, H, W, C]) -> predicted classes [members, n]."""

    def one(state, images):
        params = recipe.method.effective(state.trainable, state.fixed)
        shape, activation = recipe.architecture, recipe.activation
        return network.predictions(shape, activation, recipe.engine, params, images)

    return over_members(one, mesh, (0, None))


def epoch(
    recipe: Recipe, mesh: Mesh
) -> Callable[[train.State, train.Hyper, Sets, Array], tuple[train.State, dict[str, Array]]]:
    """(states, hypers, sets, number) -> (states, metrics [members]): one epoch, then evaluation."""

    def one(state, hyper, data, shared_order, number):
        images, labels = data.train
        order = shared_order
        if recipe.data_order == "member":
            order = keys.shuffle(keys.stream(hyper.seed, "order", number), labels.shape[0])
        state, running = train.epoch(
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
        measured = _measure(recipe, state, {"val": data.val, "test": data.test})
        return state, running | measured

    def block(state, hyper, data, number):
        # One order for all: gathered once, and the first convolution's patches with it.
        shared = keys.shuffle(keys.stream(0, "order", number), data.train[1].shape[0])
        return over_members(one, mesh, (0, 0, None, None, None))(state, hyper, data, shared, number)

    return block
