"""The kernel's operations as functions of ONE member, with vmap and grad rules."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax.errors import ZoojaxError
from zoojax.ops.kernel import batching
from zoojax.ops.kernel.lowering import ACTIVATIONS, LOSSES
from zoojax.ops.kernel.operands import (
    Leaves,
    batch_operands,
    batch_shape,
    float_array,
    image_array,
    int_array,
    member_leaves,
    noise_operands,
    parameter_leaves,
)
from zoojax.ops.kernel.spec import Conv, KernelSpec
from zoojax.ops.noise import Noise
from zoojax.text import printable


class Penalty(NamedTuple):
    """The penalty of variational dropout; see `zoojax.sparsifiers.variational_dropout`.

    Attributes:
        log_sigma2: log sigma squared of all kernels, and of the biases of all convolutions or of
            none, by layer and name.
        weight: Weight of the KL divergence, scalar float32.
    """

    log_sigma2: dict[str, Any]
    weight: Array


def loss(
    spec: KernelSpec,
    activation: str,
    params: dict,
    variances: dict | None,
    images: Array,
    targets: Array,
    index: Array,
    weights: Array,
    noise: Noise | None,
    dropout_rate: Array | None,
    kind: str = "cross_entropy",
    penalty: Penalty | None = None,
) -> tuple[Array, Array]:
    """Computes the mean loss and the correct predictions of a member on a batch.

    The function is differentiable once with respect to params and variances; the gradients are
    computed together with the loss. If an element of `index` or a label is out of range, XLA
    raises an error when the program runs.

    Args:
        spec: The chain of operations.
        activation: The member's own activation, a name of ACTIVATIONS.
        params: Parameters of the member.
        variances: Variances of all kernels (and of the convolutions' biases, if they are
            variational) with variational dropout; None without.
        images: All images of the set, [n, H, W, C] float32.
        targets: Their labels, [n] int32, or with "squared_error" the member's own targets,
            [n, outputs] float32.
        index: Positions of the batch in the set, [B] int32.
        weights: Weight of each sample, [B] float32; 0 for padding, otherwise 1.
        noise: Noise source of this step; required with variances or a dropout rate.
        dropout_rate: Scalar float32; None without dropout.
        kind: "cross_entropy", or "squared_error" for the mean over outputs of the squared
            difference to the targets.
        penalty: Computes the variances from log sigma squared, and adds the KL divergence to the
            loss; without `variances`. The function is differentiable with respect to params and
            log sigma squared.

    Returns:
        (loss, weighted number of correct predictions), scalars. The number is zero with
        "squared_error".

    Raises:
        ZoojaxError: If an argument is missing, or has the wrong shape or type.
    """
    batch = batch_operands(spec, images, targets, index, weights, noise, dropout_rate, kind)
    # The kernel takes log sigma squared in place of the variances.
    spread = variances if penalty is None else penalty.log_sigma2
    operation = _loss(
        spec,
        LOSSES.index(kind),
        activation_id(activation),
        dropout_rate is not None,
        spread is not None,
        penalty_id(spec, penalty),
    )
    return operation(
        member_leaves(spec, params, spread),
        *batch,
        *([] if penalty is None else [float_array("weight of the KL", penalty.weight, ())]),
    )


def outputs(
    spec: KernelSpec,
    activation: str,
    params: dict,
    variances: dict | None,
    images: Array,
    index: Array,
    noise: Noise | None = None,
    dropout_rate: Array | None = None,
) -> Array:
    """Computes the outputs (logits) of a member on a batch, for a loss outside the kernel.

    The function is differentiable once with respect to params and variances. The gradient
    computes the forward pass again.

    Args:
        spec: The chain of operations.
        activation: The member's own activation, a name of ACTIVATIONS.
        params: Parameters of the member.
        variances: As for `loss`; None in evaluation.
        images: All images of the set, [n, H, W, C] float32.
        index: Positions of the batch in the set, [B] int32.
        noise: As for `loss`.
        dropout_rate: Scalar float32; None without dropout.

    Returns:
        The outputs, [B, outputs].

    Raises:
        ZoojaxError: If an argument is missing, or has the wrong shape or type.
    """
    operation = _outputs(
        spec, activation_id(activation), dropout_rate is not None, variances is not None
    )
    images = image_array(spec, images)
    return operation(
        member_leaves(spec, params, variances),
        images,
        int_array("index", index, batch_shape(images, index)),
        *noise_operands(noise, dropout_rate),
    )


def evaluate(
    spec: KernelSpec, activation: str, params: dict, images: Array, labels: Array
) -> tuple[Array, Array, Array]:
    """Evaluates a member on a set of images.

    If a label is out of range, XLA raises an error when the program runs.

    Args:
        spec: The chain of operations.
        activation: The member's own activation, a name of ACTIVATIONS.
        params: Parameters of the member.
        images: [n, H, W, C] float32.
        labels: [n] int32.

    Returns:
        (summed cross entropy, number of correct predictions, predictions [n] int32).

    Raises:
        ZoojaxError: If an argument is missing, or has the wrong shape or type.
    """
    images = image_array(spec, images)
    return _evaluate(spec, activation_id(activation))(
        parameter_leaves(spec, params),
        images,
        int_array("labels", labels, images.shape[:1]),
    )


def activation_id(activation: str) -> int:
    if activation not in ACTIVATIONS:
        listed = ", ".join(ACTIVATIONS)
        raise ZoojaxError(f"no activation named '{printable(activation)}'; there are: {listed}")
    return ACTIVATIONS.index(activation)


def penalty_id(spec: KernelSpec, penalty: Penalty | None) -> int:
    """The number of a penalty in training.h."""
    if penalty is None:
        return 0
    convs = [op.layer for op in spec.weighted if isinstance(op, Conv)]
    biases = [layer for layer in convs if "bias" in penalty.log_sigma2.get(layer, ())]
    if 0 < len(biases) < len(convs):
        raise ZoojaxError(
            f"log sigma squared has the bias of {biases[0]}, but not of all convolutions"
        )
    return 2 if biases else 1


@functools.cache
def _loss(
    spec: KernelSpec, kind: int, activation: int, dropout: bool, variational: bool, penalty: int
) -> Callable:
    batched = _training(spec, kind, activation, dropout, variational, penalty)

    @jax.custom_vjp
    def function(*arguments):
        return batched(*arguments)[:2]

    def forward(*arguments):
        value, correct, gradients = batched(*arguments)
        return (value, correct), gradients

    def backward(gradients: Leaves, cotangents: tuple[Array, Array]):
        others = 7 if penalty == 0 else 8
        return (tuple(cotangents[0] * g for g in gradients), *(None,) * others)

    function.defvjp(forward, backward)
    return function


@functools.cache
def _outputs(spec: KernelSpec, activation: int, dropout: bool, variational: bool) -> Callable:
    def call(leaves: Leaves, images, index, key, counter, rate):
        result = jax.ShapeDtypeStruct((*index.shape, spec.outputs), jnp.float32)
        ffi = batching.ffi_call(spec, "outputs", result)
        return ffi(
            *(images, index, key, counter, rate, *leaves),
            activation=np.int32(activation),
            dropout=dropout,
            variational=variational,
            threads=batching.threads(),
        )

    batched = batching.batch_over_members(call, shared=(1,))
    training = _training(spec, LOSSES.index("cotangent"), activation, dropout, variational)

    @jax.custom_vjp
    def function(*arguments):
        return batched(*arguments)

    def forward(*arguments):
        return batched(*arguments), arguments

    def backward(arguments: tuple, cotangent: Array):
        leaves, images, index, *noise = arguments
        weights = jnp.ones(index.shape, jnp.float32)
        gradients = training(leaves, images, cotangent, index, weights, *noise)[2]
        return (gradients, *(None,) * 5)

    function.defvjp(forward, backward)
    return function


def _training(
    spec: KernelSpec,
    kind: int,
    activation: int,
    dropout: bool,
    variational: bool,
    penalty: int = 0,
) -> Callable:
    """Creates the function of one member that returns (loss, correct predictions, gradients)."""

    def call(leaves: Leaves, images, targets, index, weights, key, counter, rate, *share):
        scalars = [jax.ShapeDtypeStruct(index.shape[:1], jnp.float32)] * 2
        results = [*scalars, *(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves)]
        value, correct, *gradients = batching.ffi_call(spec, "train", results)(
            *(images, targets, index, weights, key, counter, rate, *share, *leaves),
            loss=np.int32(kind),
            activation=np.int32(activation),
            dropout=dropout,
            variational=variational,
            penalty=np.int32(penalty),
            threads=batching.threads(),
        )
        return value, correct, tuple(gradients)

    # Other targets may differ between members.
    shared = (1, 2) if LOSSES[kind] == "cross_entropy" else (1,)
    return batching.batch_over_members(call, shared)


@functools.cache
def _evaluate(spec: KernelSpec, activation: int) -> Callable:
    def call(leaves: Leaves, images, labels):
        members, count = leaves[0].shape[0], images.shape[0]
        results = [
            *[jax.ShapeDtypeStruct((members,), jnp.float32)] * 2,
            jax.ShapeDtypeStruct((members, count), jnp.int32),
        ]
        ffi = batching.ffi_call(spec, "evaluate", results)
        return tuple(
            ffi(
                images, labels, *leaves, activation=np.int32(activation), threads=batching.threads()
            )
        )

    return batching.batch_over_members(call, shared=(1, 2))
