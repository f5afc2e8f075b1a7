"""What a sparsifier adds to training."""

from collections.abc import Callable
from typing import NamedTuple

from jax import Array

from zoojax.ops import Noise


class Batch(NamedTuple):
    """What a step is trained on.

    Attributes:
        images: [B, H, W, C]; or of the whole set, [n, H, W, C], if there are indices.
        labels: [B] int32; or [n].
        weights: [B]: 0 for padding, else 1.
        indices: [B] int32: which of the set, or None for all of it in its order.
    """

    images: Array
    labels: Array
    weights: Array
    indices: Array | None = None

    def gather(self) -> "Batch":
        """The batch by itself."""
        if self.indices is None:
            return self
        return Batch(self.images[self.indices], self.labels[self.indices], self.weights)


# (params, variances or None, batch, noise or None, dropout rate or None)
# -> (mean cross entropy, weighted number of right answers).
Loss = Callable[
    [dict, dict | None, Batch, Noise | None, Array | None],
    tuple[Array, Array],
]


class Method(NamedTuple):
    """What a kind of zoo adds to training; pure functions of one member.

    Attributes:
        objective: (trainable, batch, dropout rate or None, noise, epoch)
            -> (loss, weighted number of right answers).
        project: (trainable, fixed) -> trainable, applied after every step.
        effective: (trainable, fixed) -> the parameters that the member is evaluated with.
    """

    objective: Callable[..., tuple[Array, Array]]
    project: Callable[[dict, dict], dict]
    effective: Callable[[dict, dict], dict]


def dense(loss: Loss) -> Method:
    """Plain training: cross entropy, nothing projected, evaluated as it is."""

    def objective(trainable, batch, dropout_rate, noise, epoch):
        return loss(trainable["params"], None, batch, noise, dropout_rate)

    return Method(
        objective, lambda trainable, _: trainable, lambda trainable, _: trainable["params"]
    )
