"""A training step of one member, including the step of Adam, as one call of the kernel."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.errors import ZoojaxError
from zoojax.ops.kernel import batching
from zoojax.ops.kernel.calls import Penalty, activation_id, penalty_id
from zoojax.ops.kernel.lowering import LOSSES, step_gap
from zoojax.ops.kernel.operands import Leaves, batch_operands, float_array, member_leaves
from zoojax.ops.kernel.spec import Conv, KernelSpec
from zoojax.ops.noise import Noise


class AdamConstants(NamedTuple):
    """Constants of Adam.

    Attributes:
        b1: Decay of the mean of gradients.
        b2: Decay of the mean of squared gradients.
        eps: Added to the square root of that mean.
    """

    b1: float
    b2: float
    eps: float


class AdamNumbers(NamedTuple):
    """Numbers of one step of a member, scalars.

    Attributes:
        learning_rate: Learning rate.
        decay: Weight decay that is added to the gradient.
        keep: Factor of the parameters, 1 without decoupled weight decay.
        mean_scale: Correction of the bias of the mean of gradients.
        square_scale: Correction of the bias of the mean of squared gradients.
    """

    learning_rate: Any
    decay: Any
    keep: Any
    mean_scale: Any
    square_scale: Any


class Values(NamedTuple):
    """The trained values of a member, or a moment of them.

    Attributes:
        params: Parameters by layer and name.
        log_sigma2: log sigma squared by layer and name with variational dropout; None without.
    """

    params: dict[str, Any]
    log_sigma2: dict[str, Any] | None = None


def adam_step(
    spec: KernelSpec,
    activation: str,
    values: Values,
    moments: tuple[Values, Values],
    constants: AdamConstants,
    numbers: AdamNumbers,
    images: Array,
    targets: Array,
    index: Array,
    weights: Array,
    noise: Noise | None,
    dropout_rate: Array | None,
    kind: str = "cross_entropy",
    kl_weight: Array | None = None,
) -> tuple[Array, Array, Values, tuple[Values, Values]]:
    """Computes the loss of a member on a batch, and takes a step of Adam.

    Equals `zoojax.ops.kernel.loss` and `zoojax.optimizers.step` up to rounding.

    Args:
        spec: The chain of operations, of which `step_gap` is None.
        activation: The member's own activation, a name of ACTIVATIONS.
        values: Trained values of the member.
        moments: Means of the gradients and of the squared gradients.
        constants: Constants of Adam.
        numbers: Numbers of this step.
        images: As for `loss`, like all following arguments.
        targets: Labels, or the member's own targets.
        index: Positions of the batch in the set.
        weights: Weight of each sample.
        noise: Noise source of this step.
        dropout_rate: Scalar float32; None without dropout.
        kind: "cross_entropy" or "squared_error".
        kl_weight: Weight of the KL divergence, scalar float32; None without log sigma squared.

    Returns:
        (loss, weighted number of correct predictions, values, moments) after the step.

    Raises:
        ZoojaxError: If the kernel takes no steps of the chain, or an argument is missing, or has
            the wrong shape or type.
    """
    gap = step_gap(spec)
    if gap is not None:
        raise ZoojaxError(f"the kernel of this chain takes no steps of Adam: {gap}")
    batch = batch_operands(spec, images, targets, index, weights, noise, dropout_rate, kind)
    penalty, share = None, ()
    if values.log_sigma2 is not None:
        share = (float_array("weight of the KL", kl_weight, ()),)
        penalty = Penalty(values.log_sigma2, share[0])
    function = _adam(
        spec,
        LOSSES.index(kind),
        activation_id(activation),
        dropout_rate is not None,
        penalty_id(spec, penalty),
        constants,
    )
    mu, nu = (member_leaves(spec, *moment) for moment in moments)
    leaves = member_leaves(spec, *values)
    packed = jnp.stack([jnp.asarray(number, jnp.float32) for number in numbers])
    loss, correct, *after = function((*leaves, *mu, *nu), *batch, *share, packed)
    values, *stepped = (_values(spec, values, part) for part in after)
    return loss, correct, values, (stepped[0], stepped[1])


@functools.cache
def _adam(
    spec: KernelSpec,
    kind: int,
    activation: int,
    dropout: bool,
    penalty: int,
    constants: AdamConstants,
) -> Callable:
    """Creates the function of one member; the leaves are values, then both moments."""

    def call(leaves: Leaves, images, targets, index, weights, key, counter, rate, *rest):
        *share, numbers = rest
        operands = (images, targets, index, weights, key, counter, rate, *share)
        scalars = [jax.ShapeDtypeStruct(index.shape[:1], jnp.float32)] * 2
        results = [*scalars, *(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves)]
        in_place = {len(operands) + i: 2 + i for i in range(len(leaves))}
        loss, correct, *after = batching.ffi_call(spec, "adam", results, in_place)(
            *operands,
            *leaves,
            numbers,
            loss=np.int32(kind),
            activation=np.int32(activation),
            dropout=dropout,
            variational=penalty != 0,
            penalty=np.int32(penalty),
            **{name: np.float64(value) for name, value in constants._asdict().items()},
            threads=batching.threads(),
        )
        count = len(leaves) // 3
        return loss, correct, *(tuple(after[i * count : (i + 1) * count]) for i in range(3))

    # Other targets may differ between members.
    shared = (1, 2) if LOSSES[kind] == "cross_entropy" else (1,)
    return batching.batch_over_members(call, shared)


def _values(spec: KernelSpec, like: Values, leaves: Leaves) -> Values:
    """The inverse of `member_leaves`."""
    remaining = iter(leaves)
    params = {
        layer: {name: next(remaining) for name in ("kernel", "bias")} for layer in spec.layers
    }
    if like.log_sigma2 is None:
        return Values(params)
    log_sigma2 = {layer: {"kernel": next(remaining)} for layer in spec.layers}
    for operation, bias in zip(
        (op for op in spec.weighted if isinstance(op, Conv)), remaining, strict=True
    ):
        if "bias" in like.log_sigma2[operation.layer]:
            log_sigma2[operation.layer]["bias"] = bias
    return Values(params, log_sigma2)
