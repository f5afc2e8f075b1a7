"""What sparsifiers get from training (batches, losses, the time of a step), and what they need."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array


class Batch(NamedTuple):
    """Data of one training step.

    Attributes:
        images: Images of the batch, [B, H, W, C]; with `indices` those of the whole set,
            [n, H, W, C].
        labels: Class labels, [B] int32; of members that learn an image, the values of its pixels,
            [B, channels] float32. With `indices` those of the whole set, [n, ...].
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


class Posterior(NamedTuple):
    """Normal distributions of weights in variational dropout, and the weight of their KL term.

    Attributes:
        log_sigma2: log sigma squared of the variational parameters, {layer: {name: array}}; see
            `zoojax.sparsifiers.variational_dropout.variances`.
        kl_weight: Weight of `zoojax.sparsifiers.variational_dropout.kl` in the objective, scalar.
    """

    log_sigma2: dict[str, Any]
    kl_weight: Array


# (params, variances=None) -> (mean loss of the task over the batch, auxiliary result). With
# variances of the weights, pre-activations are sampled. A Posterior instead of variances defines
# them, and adds its weighted KL divergence.
Loss = Callable[..., tuple[Array, Any]]


class Update(NamedTuple):
    """The time of a call of `Sparsifier.update`, and its data.

    Attributes:
        epoch: Epoch being trained, counted from 1, scalar int32.
        step: Step within the epoch that has just ended, counted from 0; None at the start of an
            epoch.
        gradients: Gradients of that step in the structure of the trainable part; None at the
            start of an epoch.
        key: Random key of the member for this call. It depends only on the member's seed, the
            epoch and the step.
        steps: Steps of one epoch.
        epochs: Epochs of the whole training; None without `Sparsifier.needs_epochs`.
        previous: Trainable part before the step that has just ended; None at the start of an
            epoch.
    """

    epoch: Array
    step: Array | None
    gradients: dict[str, Any] | None
    key: Array
    steps: int = 0
    epochs: int | None = None
    previous: dict[str, Any] | None = None

    @property
    def done(self) -> Array:
        """Steps of the whole training that have ended, scalar int32.

        Example:
            >>> from zoojax.sparsifiers.steps import Update
            >>> Update(epoch=3, step=4, gradients=None, key=None, steps=10).done
            25
        """
        ended = 0 if self.step is None else self.step + 1
        return (self.epoch - 1) * self.steps + ended


class Needs(NamedTuple):
    """What `Sparsifier.init` needs besides the weights of the parent; see `Sparsifier.needs`.

    Attributes:
        images: Number of training images that are drawn for each member; 0 for none.
        rewind_epoch: Saved epoch of the parent whose parameters are needed; None for none.

    Example:
        >>> zoojax.Needs(images=128)
        Needs(images=128, rewind_epoch=None)
    """

    images: int = 0
    rewind_epoch: int | None = None
