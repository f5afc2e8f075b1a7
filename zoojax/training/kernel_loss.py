"""Loss of a member on the C++ kernel, and complete training steps on the kernel."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array

from zoojax.ops import Noise, kernel
from zoojax.ops.kernel.spec import KernelSpec
from zoojax.optimizers import OPTIMIZERS, Scalar
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.steps import Batch, Posterior


class Stepped(NamedTuple):
    """The result of a training step.

    Attributes:
        trainable: Trainable part of the state after the step.
        moments: Moments of the optimizer after the step.
        loss: Loss before the step, scalar.
        num_correct: Weighted number of correct predictions before the step, scalar.
    """

    trainable: dict[str, Any]
    moments: Any
    loss: Array
    num_correct: Array


@dataclass(frozen=True)
class KernelLoss:
    """Loss of a member on the kernel; a `zoojax.training.engine.MemberLoss`.

    Attributes:
        spec: The network.
        activation: A name of `zoojax.architectures.layers.ACTIVATIONS`.
        kind: Loss of the task, "cross_entropy" or "squared_error".
    """

    spec: KernelSpec
    activation: str
    kind: str

    def __call__(
        self,
        params: dict,
        variances: dict | Posterior | None,
        collections: dict[str, Any],
        batch: Batch,
        noise: Noise | None,
        dropout_rate: Any,
    ) -> tuple[Array, tuple[Array, dict[str, Any]]]:
        """Computes the mean loss over a batch."""
        penalty = None
        if isinstance(variances, Posterior):
            variances, penalty = None, kernel.Penalty(variances.log_sigma2, variances.kl_weight)
        loss, num_correct = kernel.loss(
            *(self.spec, self.activation, params, variances, *_samples(batch)),
            *(noise, dropout_rate),
            kind=self.kind,
            penalty=penalty,
        )
        return loss, (num_correct, collections)

    def takes_step(
        self, sparsifier: Sparsifier, optimizer: str, trainable: dict, fixed: dict, epoch: Array
    ) -> bool:
        """Returns whether the kernel can take a whole training step.

        It can with Adam, if `kernel.step_gap` is None for the network and the sparsifier trains
        the parameters (and log sigma squared) that the loss depends on, without changing its
        objective and without needing gradients.

        Args:
            sparsifier: The sparsifier.
            optimizer: A name of `zoojax.optimizers.OPTIMIZERS`.
            trainable: Trainable part of the state.
            fixed: Fixed part of the state.
            epoch: Epoch being trained.
        """
        if (
            OPTIMIZERS[optimizer].adam is None
            or type(sparsifier).objective is not Sparsifier.objective
            or sparsifier.update_every == "step"
            or kernel.step_gap(self.spec) is not None
        ):
            return False
        params, variances = sparsifier.loss_inputs(trainable, fixed, epoch)
        used = {"params": params}
        if isinstance(variances, Posterior):
            used["log_sigma2"] = variances.log_sigma2
        elif variances is not None:
            return False
        return used.keys() == trainable.keys() and all(
            value is trainable[name] for name, value in used.items()
        )

    def step(
        self,
        sparsifier: Sparsifier,
        optimizer: str,
        trainable: dict[str, Any],
        fixed: dict[str, Any],
        moments: Any,
        learning_rate: Scalar,
        weight_decay: Scalar,
        epoch: Array,
        batch: Batch,
        noise: Noise | None,
        dropout_rate: Any,
    ) -> Stepped:
        """Takes a training step that `takes_step` allows.

        Args:
            sparsifier: The sparsifier.
            optimizer: A name of `zoojax.optimizers.OPTIMIZERS`.
            trainable: Trainable part of the state.
            fixed: Fixed part of the state.
            moments: Moments of the optimizer.
            learning_rate: Learning rate of this step.
            weight_decay: Weight decay.
            epoch: Epoch being trained.
            batch: The batch.
            noise: Noise source of this step; None without noise.
            dropout_rate: The rate; None without dropout.

        Returns:
            The result of the step, before `Sparsifier.project`.
        """
        _, variances = sparsifier.loss_inputs(trainable, fixed, epoch)
        constants = OPTIMIZERS[optimizer].adam
        assert constants is not None
        count = optax.safe_increment(moments.count)
        shrink = learning_rate * weight_decay
        decoupled = OPTIMIZERS[optimizer].decoupled_decay
        numbers = kernel.AdamNumbers(
            learning_rate,
            *((0.0, 1 - shrink) if decoupled else (weight_decay, 1.0)),
            *constants.corrections(count),
        )
        loss, num_correct, values, (mu, nu) = kernel.adam_step(
            *(self.spec, self.activation, kernel.Values(**trainable)),
            (kernel.Values(**moments.mu), kernel.Values(**moments.nu)),
            *(kernel.AdamConstants(*constants), numbers, *_samples(batch), noise, dropout_rate),
            kind=self.kind,
            kl_weight=None if variances is None else variances.kl_weight,
        )
        names = trainable.keys()
        mu, nu, trainable = ({n: getattr(x, n) for n in names} for x in (mu, nu, values))
        return Stepped(trainable, moments._replace(count=count, mu=mu, nu=nu), loss, num_correct)


def _samples(batch: Batch) -> tuple[Array, Array, Array, Array]:
    """Returns images, targets, index and weights of a batch."""
    images, labels, weights, indices = batch
    indices = jnp.arange(len(labels), dtype=jnp.int32) if indices is None else indices
    return images, labels, indices, weights.astype(jnp.float32)
