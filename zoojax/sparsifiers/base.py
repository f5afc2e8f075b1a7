"""Interface between sparsifiers and the training loop."""

from collections.abc import Callable
from typing import NamedTuple

from jax import Array

from zoojax.ops import Noise


class Batch(NamedTuple):
    """Data of one training step.

    Attributes:
        images: Images of the batch, [B, H, W, C]; with `indices` those of the whole set,
            [n, H, W, C].
        labels: Class labels, [B] int32; with `indices` those of the whole set, [n].
        weights: Sample weights, [B]: 0 for padding, otherwise 1.
        indices: Positions of the batch in the set, [B] int32; None if `images` is the batch.
    """

    images: Array
    labels: Array
    weights: Array
    indices: Array | None = None

    def gather(self) -> "Batch":
        """Returns the batch with its images gathered from the set, without indices."""
        if self.indices is None:
            return self
        return Batch(self.images[self.indices], self.labels[self.indices], self.weights)


# (params, variances or None, batch, noise or None, dropout rate or None)
# -> (mean cross entropy, weighted number of correct predictions).
Loss = Callable[
    [dict, dict | None, Batch, Noise | None, Array | None],
    tuple[Array, Array],
]


class Sparsifier(NamedTuple):
    """Training of one kind of zoo, as pure functions of one member.

    Attributes:
        objective: (trainable, batch, dropout rate or None, noise, epoch)
            -> (loss, weighted number of correct predictions).
        project: (trainable, fixed) -> trainable; applied after every step.
        effective: (trainable, fixed) -> parameters that the member is evaluated with.
    """

    objective: Callable[..., tuple[Array, Array]]
    project: Callable[[dict, dict], dict]
    effective: Callable[[dict, dict], dict]


def dense(loss: Loss) -> Sparsifier:
    """Creates the sparsifier of dense zoos: cross entropy without any sparsification.

    Args:
        loss: Training loss of a member.

    Returns:
        The sparsifier.
    """

    def objective(trainable, batch, dropout_rate, noise, epoch):
        return loss(trainable["params"], None, batch, noise, dropout_rate)

    return Sparsifier(
        objective, lambda trainable, _: trainable, lambda trainable, _: trainable["params"]
    )
